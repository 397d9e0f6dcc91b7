"""Detector, parser and restorer whose modules live in the host's memory manager.

Each call first asks the host to load the module: between two calls another model may have taken its place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from . import host

if TYPE_CHECKING:
    from ..codeformer_core.faces.detection import FaceDetector
    from ..codeformer_core.faces.parsing import FaceParser
    from ..codeformer_core.faces.types import Face
    from ..codeformer_core.restorer import Restorer


@dataclass(frozen=True)
class ManagedRestorer:
    """A FaceRestorer built with the host's layers: its weights stream when memory is short."""

    restorer: Restorer
    patcher: host.Patcher

    @property
    def name(self) -> str:
        return self.restorer.name

    @property
    def task(self) -> str:
        return self.restorer.task

    @property
    def device(self) -> torch.device:
        return self.patcher.load_device

    @property
    def bytes_per_face(self) -> int:
        return self.restorer.bytes_per_face

    def restore(self, faces_B3HW: Tensor, fidelity: float = 0.5) -> Tensor:
        device = host.load(self.patcher, memory_required=len(faces_B3HW) * self.bytes_per_face, streamable=True)
        return self.restorer.on(device).restore(faces_B3HW, fidelity)


@dataclass(frozen=True)
class ManagedDetector:
    """A FaceDetector; the wrapped one follows its module's device by itself."""

    name: str
    default_confidence: float
    module: nn.Module | None
    detector: FaceDetector
    patcher: host.Patcher

    def detect(self, images_BHWC: Tensor, confidence: float | None = None) -> list[list[Face]]:
        host.load(self.patcher)
        return self.detector.detect(images_BHWC, confidence)


@dataclass(frozen=True)
class ManagedParser:
    """A FaceParser; the wrapped one follows its module's device by itself."""

    name: str
    module: nn.Module
    parser: FaceParser
    patcher: host.Patcher

    def parse(self, faces_B3HW: Tensor) -> Tensor:
        host.load(self.patcher)
        return self.parser.parse(faces_B3HW)


def managed_detector(detector: FaceDetector) -> FaceDetector:
    """Detectors without a module (OpenCV's) need no managing and come back as they are."""
    module = detector.module
    if module is None:
        return detector
    return ManagedDetector(detector.name, detector.default_confidence, module, detector, host.managed(module))


def managed_parser(parser: FaceParser) -> FaceParser:
    return ManagedParser(parser.name, parser.module, parser, host.managed(parser.module))
