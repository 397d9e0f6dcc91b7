"""Detector, parser and restorer whose modules live in the host's memory manager.

Each call first asks the host to load the module: between two calls another model may have taken its place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor, nn

from . import host

if TYPE_CHECKING:
    import numpy as np

    from ..codeformer_core.faces.detection import FaceDetector
    from ..codeformer_core.faces.landmarks import FaceAligner
    from ..codeformer_core.faces.parsing import FaceParser
    from ..codeformer_core.faces.types import Face
    from ..codeformer_core.models.restorer import Restorer

# Room for so many faces at a time is worth evicting other models for.
FACES_WANTED = 4


@dataclass(frozen=True)
class ManagedRestorer:
    """A FaceInpainter; one built with the host's layers streams its weights when memory is short."""

    restorer: Restorer
    patcher: host.Patcher

    @property
    def name(self) -> str:
        return self.restorer.name

    @property
    def tasks(self) -> tuple[str, ...]:
        return self.restorer.tasks

    def faces_at_once(self) -> int:
        """Asked after the host has made room: memory that another model holds now counts as free."""
        return self.loaded(FACES_WANTED).faces_at_once()

    @property
    def uses_fidelity(self) -> bool:
        return self.restorer.uses_fidelity

    @property
    def needs_landmarks(self) -> bool:
        return self.restorer.needs_landmarks

    def restore(self, faces_B3HW: Tensor, fidelity: float = 0.5, component_boxes_B44: Tensor | None = None) -> Tensor:
        return self.loaded(len(faces_B3HW)).restore(faces_B3HW, fidelity, component_boxes_B44)

    def inpaint(self, faces_B3HW: Tensor, mask_B1HW: Tensor) -> Tensor:
        return self.loaded(len(faces_B3HW)).inpaint(faces_B3HW, mask_B1HW)

    def loaded(self, faces: int) -> Restorer:
        """The restorer on the device where the host now has it, with room for so many faces at a time."""
        memory = faces * self.restorer.bytes_per_face
        # Only the host's own layers can have their weights brought one by one.
        streamable = self.restorer.casts_weights
        return self.restorer.on(host.load(self.patcher, memory_required=memory, streamable=streamable))


@dataclass(frozen=True)
class ManagedDetector:
    """A FaceDetector; the wrapped one follows its module's device by itself."""

    name: str
    default_confidence: float
    module: nn.Module | None
    detector: FaceDetector
    patcher: host.Patcher

    def bytes_for(self, images_BHWC: Tensor) -> int:
        return self.detector.bytes_for(images_BHWC)

    def detect(self, images_BHWC: Tensor, confidence: float | None = None) -> list[list[Face]]:
        host.load(self.patcher, memory_required=self.bytes_for(images_BHWC))
        return self.detector.detect(images_BHWC, confidence)


@dataclass(frozen=True)
class ManagedParser:
    """A FaceParser; the wrapped one follows its module's device by itself."""

    name: str
    module: nn.Module
    parser: FaceParser
    patcher: host.Patcher

    def bytes_for(self, faces_B3HW: Tensor) -> int:
        return self.parser.bytes_for(faces_B3HW)

    def parse(self, faces_B3HW: Tensor) -> Tensor:
        host.load(self.patcher, memory_required=self.bytes_for(faces_B3HW))
        return self.parser.parse(faces_B3HW)


@dataclass(frozen=True)
class ManagedAligner:
    """A FaceAligner; the wrapped one follows its module's device by itself."""

    name: str
    module: nn.Module
    aligner: FaceAligner
    patcher: host.Patcher

    def bytes_for(self, faces_B3HW: Tensor) -> int:
        return self.aligner.bytes_for(faces_B3HW)

    def find(self, faces_B3HW: Tensor) -> np.ndarray:
        host.load(self.patcher, memory_required=self.bytes_for(faces_B3HW))
        return self.aligner.find(faces_B3HW)


def managed_detector(detector: FaceDetector) -> FaceDetector:
    """Detectors without a module (OpenCV's) need no managing and come back as they are."""
    module = detector.module
    if module is None:
        return detector
    return ManagedDetector(detector.name, detector.default_confidence, module, detector, host.managed(module))


def managed_parser(parser: FaceParser) -> FaceParser:
    return ManagedParser(parser.name, parser.module, parser, host.managed(parser.module))


def managed_aligner(aligner: FaceAligner) -> FaceAligner:
    return ManagedAligner(aligner.name, aligner.module, aligner, host.managed(aligner.module))
