"""The painter as an architecture: the starters for colorization and inpainting, and one that restores."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor, nn

from ...networks.operations import Device, DType, Operations
from ...networks.painter import Painter, PainterConfig
from ...weights.metadata import CheckpointMetadata
from ..architecture import ASSUMED_IMAGE_SIZE, Architecture, Layout, RestoreRequest
from ..pixel_path import read_pixel_path

# Keys that only a painter has beside each other.
_KEYS = ("conv_in.weight", "shrink.0.conv.weight", "widen.0.weight", "narrow.0.weight", "grow.0.conv.weight")
# Estimates for one face, in numbers: per pixel of the face, and per place and channel of the finest level.
_FLOATS_PER_PIXEL = 16
_FLOATS_PER_PLACE = 12


class PainterArchitecture(Architecture):
    id = "painter"
    title = "face painter"
    tasks = ("colorization", "inpainting", "restoration")
    config_types = (PainterConfig,)

    def detect(self, state: Mapping[str, object]) -> bool:
        return all(key in state for key in _KEYS)

    def layout_of(self, state: Mapping[str, object]) -> Layout:
        return "ours"

    def read_config(self, state: Mapping[str, Tensor], layout: Layout, metadata: CheckpointMetadata) -> PainterConfig:
        first, seen = state["conv_in.weight"].shape[:2]
        widths = [first]
        while (further := state.get(f"widen.{len(widths) - 1}.weight")) is not None:
            widths.append(further.shape[0])
        patch = math.isqrt(max(0, seen - 2) // 4)
        path = read_pixel_path(state, metadata)
        return PainterConfig(patch, tuple(widths), metadata.image_size or ASSUMED_IMAGE_SIZE, path)

    def metadata_of(self, config: PainterConfig, task: str, also: tuple[str, ...] = ()) -> CheckpointMetadata:
        sigmas = None if config.pixel_path is None else config.pixel_path.sigmas
        return replace(super().metadata_of(config, task, also), pixel_path=sigmas)

    def empty_network(
        self, config: PainterConfig, *, device: Device = None, dtype: DType = None, operations: Operations = nn
    ) -> Painter:
        return Painter(config, device=device, dtype=dtype, operations=operations)

    def uses_fidelity(self, network: Painter) -> bool:
        return network.config.pixel_path is not None

    def floats_per_face(self, network: Painter) -> int:
        config = network.config
        places = (config.image_size // (2 * config.patch)) ** 2
        return config.image_size**2 * _FLOATS_PER_PIXEL + places * config.widths[0] * _FLOATS_PER_PLACE

    def restore(self, network: Painter, faces_B3SS: Tensor, request: RestoreRequest) -> Tensor:
        if request.task == "colorization":
            return network.colorize(faces_B3SS)
        return network.restore(faces_B3SS, request.fidelity)

    def inpaint(self, network: Painter, faces_B3SS: Tensor, mask_B1SS: Tensor) -> Tensor:
        return network.fill(faces_B3SS, mask_B1SS)


PAINTER = PainterArchitecture()
