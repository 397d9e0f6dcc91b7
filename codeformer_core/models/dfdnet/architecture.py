"""DFDNet as an architecture."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ...faces.components import boxes_from_five
from ...faces.geometry import CROP_SIZE, TEMPLATE_XY
from ...networks.dfdnet import DFDNet, DFDNetConfig
from ...networks.operations import Device, DType, Operations
from ...weights.metadata import CheckpointMetadata
from ...weights.reading import WeightsError
from ..architecture import Architecture, Layout, RestoreRequest
from .weights import FIX, from_published, is_published, read_config

# Estimate for one face, in numbers per pixel and channel of VGG's first block.
_FLOATS = 16


class DFDNetArchitecture(Architecture):
    id = "dfdnet"
    title = "DFDNet"
    config_types = (DFDNetConfig,)
    needs_landmarks = True
    cure = FIX

    def detect(self, state: Mapping[str, object]) -> bool:
        return any(key.startswith(("MSDilate.", "dictionary.", "transfers.")) for key in state)

    def layout_of(self, state: Mapping[str, object]) -> Layout:
        return "published" if is_published(state) else "ours"

    def read_config(self, state: Mapping[str, Tensor], layout: Layout, metadata: CheckpointMetadata) -> DFDNetConfig:
        return read_config(state)

    def expected(self, config: DFDNetConfig, layout: Layout) -> dict[str, Tensor] | None:
        """Published dictionaries come in two shapes: `read_config` compares them."""
        return None if layout == "published" else super().expected(config, layout)

    def empty_network(
        self, config: DFDNetConfig, *, device: Device = None, dtype: DType = None, operations: Operations = nn
    ) -> DFDNet:
        return DFDNet(config, device=device, dtype=dtype, operations=operations)

    def from_published(self, state: Mapping[str, Tensor], config: DFDNetConfig) -> dict[str, Tensor]:
        return from_published(state, config)

    def to_published(self, state: Mapping[str, Tensor], config: DFDNetConfig) -> dict[str, Tensor]:
        raise WeightsError("a DFDNet in our names has no way back to the published ones: take the file it was made of")

    def floats_per_face(self, network: DFDNet) -> int:
        return network.config.image_size**2 * network.config.widths[0] * _FLOATS

    def restore(self, network: DFDNet, faces_B3SS: Tensor, request: RestoreRequest) -> Tensor:
        boxes_B44 = request.component_boxes_B44
        if boxes_B44 is None:
            side = faces_B3SS.shape[-1]
            boxes_44 = boxes_from_five(TEMPLATE_XY * (side / CROP_SIZE), side)
            boxes_B44 = torch.from_numpy(boxes_44).expand(len(faces_B3SS), -1, -1)
        return network.restore(faces_B3SS, boxes_B44)


DFDNET = DFDNetArchitecture()
