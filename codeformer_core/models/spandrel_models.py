"""Architectures whose networks come with the package spandrel: GFPGAN (1.2 to 1.4) and RestoreFormer."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ..faces.geometry import CROP_SIZE
from ..networks.operations import Device, DType, Operations
from ..weights.metadata import CheckpointMetadata
from ..weights.reading import WeightsError
from ..weights.state_dict import difference
from .architecture import Architecture, Checkpoint, Layout, RestoreRequest

# Of RestoreFormer's training checkpoints, which hold losses beside the network.
_PREFIX = "vqvae."


class SpandrelArchitecture(Architecture):
    """Its modules have the published keys. spandrel reads the sizes, so there is no config."""

    module_layout = "published"
    takes_operations = False
    # Keys that no other architecture has together.
    signature: tuple[str, ...]

    def detect(self, state: Mapping[str, object]) -> bool:
        return self.has_signature(state)

    def has_signature(self, state: Mapping[str, object]) -> bool:
        return _bare(state).keys() >= set(self.signature)

    def read_config(self, state: Mapping[str, Tensor], layout: Layout, metadata: CheckpointMetadata) -> None:
        return None

    def expected(self, config: None, layout: Layout) -> None:
        return None

    def from_published(self, state: Mapping[str, Tensor], config: None) -> dict[str, Tensor]:
        raise WeightsError(f"a {self.id} is only known in its published layout; ask for that one")

    def build(
        self,
        state: Mapping[str, Tensor],
        checkpoint: Checkpoint,
        *,
        device: Device,
        dtype: DType,
        operations: Operations,
    ) -> nn.Module:
        source = checkpoint.source
        try:
            from spandrel import ModelLoader
        except ImportError as error:
            raise WeightsError(
                f"{source} is a {self.title}, whose network comes with the package spandrel, and that can't be "
                f"imported here ({error}). Run pip install spandrel (ComfyUI brings it), or choose another model"
            ) from error
        bare = _bare(state)
        try:
            found = ModelLoader("cpu").load_from_state_dict(dict(bare))
        except Exception as error:  # spandrel has no common error of its own
            # It lists every single key.
            reason = textwrap.shorten(str(error), 250, placeholder=" ...")
            raise self.broken(source, state, f"spandrel refuses it: {reason}") from error
        if found.architecture.id.lower() != self.id:
            raise WeightsError(
                f"{source}: looks like a {self.title}, and spandrel takes it for {found.architecture.id}"
            )
        # spandrel has compared the keys, and drops some; torch would load whole numbers without an error.
        built = found.model.state_dict()
        shared = built.keys() & bare.keys()
        if problem := difference({key: bare[key] for key in shared}, {key: built[key] for key in shared}):
            raise self.broken(source, state, problem)
        return found.model.to(device, dtype).eval().requires_grad_(False)

    def metadata_of(self, config: None, task: str, also: tuple[str, ...] = ()) -> CheckpointMetadata:
        return CheckpointMetadata(self.id, task, image_size=CROP_SIZE, also=also)

    def config_of(self, network: nn.Module) -> None:
        return None

    def describe(self, config: None) -> str:
        return f"{CROP_SIZE} pixels"

    def face_size(self, network: nn.Module) -> int:
        return CROP_SIZE

    def floats_per_face(self, network: nn.Module) -> int:
        return CROP_SIZE**2 * 1000


class GFPGANArchitecture(SpandrelArchitecture):
    id = "gfpgan"
    title = "GFPGAN"
    signature = ("toRGB.0.weight", "stylegan_decoder.style_mlp.1.weight")

    def detect(self, state: Mapping[str, object]) -> bool:
        return super().detect(state) and not is_gfpgan_v1(state)

    def restore(self, network: nn.Module, faces_B3SS: Tensor, request: RestoreRequest) -> Tensor:
        # The published program draws new noise at every run; with the noise in the file the same image gives the same
        # face.
        return network(faces_B3SS, return_rgb=False, randomize_noise=False)[0]


class RestoreFormerArchitecture(SpandrelArchitecture):
    id = "restoreformer"
    title = "RestoreFormer"
    signature = ("quantize.embedding.weight", "encoder.down.0.block.0.norm1.weight", "decoder.conv_out.weight")

    def detect(self, state: Mapping[str, object]) -> bool:
        return super().detect(state) and not is_restoreformer_plus_plus(state)

    def restore(self, network: nn.Module, faces_B3SS: Tensor, request: RestoreRequest) -> Tensor:
        return network(faces_B3SS)[0]


GFPGAN = GFPGANArchitecture()
RESTOREFORMER = RestoreFormerArchitecture()


def is_gfpgan_v1(state: Mapping[str, object]) -> bool:
    """Version 1, which works on layers of its own (TencentARC/GFPGAN, gfpganv1_arch.py): an activation follows each."""
    return "conv_body_first.0.weight" in state and any(key.startswith("stylegan_decoder.") for key in state)


def is_restoreformer_plus_plus(state: Mapping[str, object]) -> bool:
    """Its decoder attends at two sizes, RestoreFormer's at one (wzhouxiff/RestoreFormerPlusPlus, vqvae_arch.py)."""
    if not RESTOREFORMER.has_signature(state):
        return False
    return len({match[1] for key in _bare(state) if (match := re.match(r"decoder\.up\.(\d+)\.attn\.", key))}) > 1


def _bare(state: Mapping[str, Any]) -> Mapping[str, Any]:
    inner = {key.removeprefix(_PREFIX): value for key, value in state.items() if key.startswith(_PREFIX)}
    return inner or state
