"""VQFR as an architecture: both versions, told apart by their keys."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor, nn

from ...networks.operations import Device, DType, Operations
from ...networks.vqfr_v1 import PUBLISHED_VQFR_V1, VQFRv1, VQFRv1Config
from ...networks.vqfr_v2 import PUBLISHED_VQFR_V2, VQFRv2, VQFRv2Config
from ...weights.metadata import CheckpointMetadata
from ..architecture import Architecture, Layout, RestoreRequest
from .names import VQFRSizes, from_published, to_published
from .sizes import PUBLISHED_MAIN, read_ours, read_published, version_of

# What training keeps about the use of the codebook.
_COUNTERS = re.compile(r"quantizer\.(.*\.)?(usage$|reestimation_reservoir\.)")
# Estimate for one face, in numbers per pixel and base channel: its deformable convolution unfolds the features nine
# times. On a CPU 22 in version 1, 28 in version 2.
_FLOATS = 32


class VQFRArchitecture(Architecture):
    """No shape tells the size of its faces: its networks take images of other sizes too."""

    id = "vqfr"
    title = "VQFR"
    config_types = (VQFRv1Config, VQFRv2Config)

    def detect(self, state: Mapping[str, object]) -> bool:
        return version_of(state) is not None

    def title_of(self, state: Mapping[str, object]) -> str:
        return f"VQFR v{version_of(state)}"

    def layout_of(self, state: Mapping[str, object]) -> Layout:
        return "published" if any(key.startswith(tuple(PUBLISHED_MAIN.values())) for key in state) else "ours"

    def read_config(self, state: Mapping[str, Tensor], layout: Layout, metadata: CheckpointMetadata) -> VQFRSizes:
        version = version_of(state)
        assert version is not None  # it was detected
        return (read_published if layout == "published" else read_ours)(state, version)

    def without_unused(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        return {key: tensor for key, tensor in state.items() if not _COUNTERS.match(key)}

    def empty_network(
        self, config: VQFRSizes, *, device: Device = None, dtype: DType = None, operations: Operations = nn
    ) -> VQFRv1 | VQFRv2:
        if isinstance(config, VQFRv1Config):
            return VQFRv1(config, device=device, dtype=dtype, operations=operations)
        return VQFRv2(config, device=device, dtype=dtype, operations=operations)

    def published_config(self, state: Mapping[str, object]) -> VQFRSizes:
        return PUBLISHED_VQFR_V1 if version_of(state) == 1 else PUBLISHED_VQFR_V2

    def from_published(self, state: Mapping[str, Tensor], config: VQFRSizes) -> dict[str, Tensor]:
        return from_published(state, config)

    def to_published(self, state: Mapping[str, Tensor], config: VQFRSizes) -> dict[str, Tensor]:
        return to_published(state, config)

    def uses_fidelity(self, network: VQFRv1 | VQFRv2) -> bool:
        return network.uses_fidelity

    def floats_per_face(self, network: VQFRv1 | VQFRv2) -> int:
        return network.config.image_size**2 * network.config.base_channels * _FLOATS

    def restore(self, network: VQFRv1 | VQFRv2, faces_B3SS: Tensor, request: RestoreRequest) -> Tensor:
        return network.restore(faces_B3SS, request.fidelity)


VQFR = VQFRArchitecture()
