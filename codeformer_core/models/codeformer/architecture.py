"""CodeFormer, and the autoencoder of its stage I, as architectures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from ...networks.codeformer import (
    PUBLISHED_AUTOENCODER,
    PUBLISHED_CODEFORMER,
    CodeFormer,
    CodeFormerConfig,
    uses_adain,
)
from ...networks.operations import Device, DType, Operations
from ...networks.vqgan import AutoencoderConfig, VQAutoencoder
from ...weights.metadata import CheckpointMetadata
from ..architecture import Architecture, Layout, RestoreRequest
from .convert import from_published, to_published
from .sizes import ASSUMED_HEADS, read_autoencoder, read_codeformer

# Both have these, here and in no other architecture.
_PUBLISHED = ("encoder.blocks.0.weight", "quantize.embedding.weight")
_OURS = ("encoder.conv_in.weight", "codebook.weight")
# Beginnings of keys. VQFR's networks have an encoder and a codebook too, and version 2 a code_head, but none of these.
_OUR_GENERATOR = "generator."
_OUR_TRANSFORMER = ("position.", "token_in.", "layers.", "norm_out.", "fusions.", "pixel_path.")
_PUBLISHED_TRANSFORMER = ("position_emb", "feat_emb.", "ft_layers.", "idx_pred_layer.", "fuse_convs_dict.")

# Estimate for one face, in numbers per pixel and base channel. The published network takes 7 of them on a CPU (460 MiB
# in float32); the rest is room for a GPU's workspaces.
_FLOATS = 12


class _VQArchitecture(Architecture):
    """What the two have in common."""

    def layout_of(self, state: Mapping[str, object]) -> Layout:
        return "published" if _is_published(state) else "ours"

    def from_published(self, state: Mapping[str, Tensor], config: Any) -> dict[str, Tensor]:
        return from_published(state, config)

    def to_published(self, state: Mapping[str, Tensor], config: Any) -> dict[str, Tensor]:
        return to_published(state, config)


class CodeFormerArchitecture(_VQArchitecture):
    id = "codeformer"
    title = "CodeFormer"
    tasks = ("restoration", "colorization", "inpainting")
    config_types = (CodeFormerConfig,)

    def detect(self, state: Mapping[str, object]) -> bool:
        if _is_published(state):
            return any(key.startswith(_PUBLISHED_TRANSFORMER) for key in state)
        return _is_ours(state) and any(key.startswith(_OUR_TRANSFORMER) for key in state)

    def read_config(
        self, state: Mapping[str, Tensor], layout: Layout, metadata: CheckpointMetadata
    ) -> CodeFormerConfig:
        return read_codeformer(state, layout, metadata)

    def usual_task(self, config: CodeFormerConfig) -> str:
        """The published checkpoints differ in their sizes: see the table in the parity contract."""
        if config.fuse_sizes == (32, 64, 128):
            return "inpainting" if config.autoencoder.codebook_size == 512 else "colorization"
        return "restoration"

    def empty_network(
        self, config: CodeFormerConfig, *, device: Device = None, dtype: DType = None, operations: Operations = nn
    ) -> CodeFormer:
        return CodeFormer(config, device=device, dtype=dtype, operations=operations)

    def published_config(self, state: Mapping[str, object]) -> CodeFormerConfig:
        return PUBLISHED_CODEFORMER

    def metadata_of(self, config: CodeFormerConfig, task: str, also: tuple[str, ...] = ()) -> CheckpointMetadata:
        sigmas = None if config.pixel_path is None else config.pixel_path.sigmas
        return replace(super().metadata_of(config, task, also), heads=config.heads, pixel_path=sigmas)

    def same_sizes(self, one: CodeFormerConfig, other: CodeFormerConfig) -> bool:
        return _sorted(one) == _sorted(other)

    def layout_problem(self, config: CodeFormerConfig, layout: Layout) -> str:
        if layout == "ours" or config.pixel_path is None:
            return ""
        return (
            "the published layout has no place for this network's pixel path, and other programs would ignore it; save "
            "in our layout"
        )

    def warnings_for_others(self, config: CodeFormerConfig) -> list[str]:
        if config.heads == ASSUMED_HEADS:
            return []
        return [
            f"the network has {config.heads} attention heads; other programs assume {ASSUMED_HEADS} and would restore "
            "other faces. The official code reads the number from its options file (n_head)"
        ]

    def describe(self, config: CodeFormerConfig) -> str:
        return f"{super().describe(config)}, {config.heads} heads"

    def uses_fidelity(self, network: CodeFormer) -> bool:
        return True

    def floats_per_face(self, network: CodeFormer) -> int:
        return network.config.image_size**2 * network.config.autoencoder.base_channels * _FLOATS

    def restore(self, network: CodeFormer, faces_B3SS: Tensor, request: RestoreRequest) -> Tensor:
        return network.restore(faces_B3SS, request.fidelity, uses_adain(request.task))

    def inpaint(self, network: CodeFormer, faces_B3SS: Tensor, mask_B1SS: Tensor) -> Tensor:
        return network.inpaint(faces_B3SS, mask_B1SS)


class AutoencoderArchitecture(_VQArchitecture):
    """Stage I: what CodeFormer's training begins with."""

    id = "vqgan"
    title = "CodeFormer autoencoder (stage I)"
    tasks = ("autoencoder",)
    config_types = (AutoencoderConfig,)
    restores_faces = False

    def detect(self, state: Mapping[str, object]) -> bool:
        if CODEFORMER.detect(state):
            return False
        return _is_published(state) or (_is_ours(state) and any(key.startswith(_OUR_GENERATOR) for key in state))

    def read_config(
        self, state: Mapping[str, Tensor], layout: Layout, metadata: CheckpointMetadata
    ) -> AutoencoderConfig:
        return read_autoencoder(state, layout, metadata)

    def empty_network(
        self, config: AutoencoderConfig, *, device: Device = None, dtype: DType = None, operations: Operations = nn
    ) -> VQAutoencoder:
        return VQAutoencoder(config, device=device, dtype=dtype, operations=operations)

    def published_config(self, state: Mapping[str, object]) -> AutoencoderConfig:
        return PUBLISHED_AUTOENCODER

    def same_sizes(self, one: AutoencoderConfig, other: AutoencoderConfig) -> bool:
        return _sorted_autoencoder(one) == _sorted_autoencoder(other)

    def floats_per_face(self, network: VQAutoencoder) -> int:
        return network.config.image_size**2 * network.config.base_channels * _FLOATS


CODEFORMER = CodeFormerArchitecture()
AUTOENCODER = AutoencoderArchitecture()


def missing_for_codeformer(state: Mapping[str, object]) -> list[str]:
    """Which of the keys that a published CodeFormer is recognised by are not there."""
    return [key for key in _PUBLISHED if key not in state]


def _is_published(state: Mapping[str, object]) -> bool:
    return all(key in state for key in _PUBLISHED)


def _is_ours(state: Mapping[str, object]) -> bool:
    return all(key in state for key in _OURS)


def _sorted(config: CodeFormerConfig) -> CodeFormerConfig:
    """Sizes are sets: their order makes no difference to a network."""
    return replace(
        config,
        autoencoder=_sorted_autoencoder(config.autoencoder),
        fuse_sizes=tuple(sorted(set(config.fuse_sizes))),
    )


def _sorted_autoencoder(config: AutoencoderConfig) -> AutoencoderConfig:
    """Neither does attention at sizes that no level has."""
    return replace(config, attention_sizes=tuple(sorted(set(config.attention_sizes) & set(config.level_sizes))))
