"""Restorer, detector, parser, landmark detector and upscaler whose modules a host holds.

Each call first asks the host to bring the module: between two calls another model may have taken its place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor, nn

from ..runtime.host import Handle, Host
from ..runtime.progress import OnProgress

if TYPE_CHECKING:
    import numpy as np
    import torch

    from ..faces.detection import FaceDetector
    from ..faces.landmarks import LandmarkDetector
    from ..faces.parsing import FaceParser
    from ..faces.types import Face
    from .architecture import TaskSource
    from .restorer import Restorer
    from .upscaler import ImageUpscaler

# Room for so many faces at a time is worth evicting other models for.
FACES_WANTED = 4


@dataclass(frozen=True)
class ManagedRestorer:
    """A FaceInpainter; one built with the host's layers streams its weights when memory is short."""

    restorer: Restorer
    host: Host
    handle: Handle

    @property
    def name(self) -> str:
        return self.restorer.name

    @property
    def tasks(self) -> tuple[str, ...]:
        return self.restorer.tasks

    @property
    def task_source(self) -> TaskSource:
        return self.restorer.task_source

    @property
    def dtype(self) -> torch.dtype:
        return self.restorer.dtype

    @property
    def generator_dtype(self) -> torch.dtype | None:
        return self.restorer.generator_dtype

    @property
    def recommended_fidelity(self) -> float:
        return self.restorer.recommended_fidelity

    @property
    def uses_fidelity(self) -> bool:
        return self.restorer.uses_fidelity

    @property
    def needs_landmarks(self) -> bool:
        return self.restorer.needs_landmarks

    def faces_at_once(self) -> int:
        """Asked after the host has made room: memory that another model holds now counts as free."""
        return self.loaded(FACES_WANTED).faces_at_once()

    def restore(self, faces_B3HW: Tensor, fidelity: float = 0.5, component_boxes_B44: Tensor | None = None) -> Tensor:
        return self.loaded(len(faces_B3HW)).restore(faces_B3HW, fidelity, component_boxes_B44)

    def inpaint(self, faces_B3HW: Tensor, mask_B1HW: Tensor) -> Tensor:
        return self.loaded(len(faces_B3HW)).inpaint(faces_B3HW, mask_B1HW)

    def loaded(self, faces: int) -> Restorer:
        """The restorer on the device where the host now has it, with room for so many faces at a time."""
        # Only the host's own layers can have their weights brought one by one.
        streamable = self.restorer.casts_weights
        return self.restorer.on(self.host.bring(self.handle, faces * self.restorer.bytes_per_face, streamable))


@dataclass(frozen=True)
class ManagedDetector:
    """A FaceDetector; the wrapped one follows its module's device by itself."""

    detector: FaceDetector
    host: Host
    handle: Handle

    @property
    def name(self) -> str:
        return self.detector.name

    @property
    def default_confidence(self) -> float:
        return self.detector.default_confidence

    @property
    def module(self) -> nn.Module | None:
        return self.detector.module

    def bytes_for(self, images_BHWC: Tensor) -> int:
        return self.detector.bytes_for(images_BHWC)

    def detect(self, images_BHWC: Tensor, confidence: float | None = None) -> list[list[Face]]:
        self.host.bring(self.handle, self.bytes_for(images_BHWC))
        return self.detector.detect(images_BHWC, confidence)


@dataclass(frozen=True)
class ManagedParser:
    """A FaceParser; the wrapped one follows its module's device by itself."""

    parser: FaceParser
    host: Host
    handle: Handle

    @property
    def name(self) -> str:
        return self.parser.name

    @property
    def module(self) -> nn.Module:
        return self.parser.module

    def bytes_for(self, faces_B3HW: Tensor) -> int:
        return self.parser.bytes_for(faces_B3HW)

    def parse(self, faces_B3HW: Tensor) -> Tensor:
        self.host.bring(self.handle, self.bytes_for(faces_B3HW))
        return self.parser.parse(faces_B3HW)


@dataclass(frozen=True)
class ManagedLandmarkDetector:
    """A LandmarkDetector; the wrapped one follows its module's device by itself."""

    landmark_detector: LandmarkDetector
    host: Host
    handle: Handle

    @property
    def name(self) -> str:
        return self.landmark_detector.name

    @property
    def module(self) -> nn.Module:
        return self.landmark_detector.module

    def bytes_for(self, faces_B3HW: Tensor) -> int:
        return self.landmark_detector.bytes_for(faces_B3HW)

    def find(self, faces_B3HW: Tensor) -> np.ndarray:
        self.host.bring(self.handle, self.bytes_for(faces_B3HW))
        return self.landmark_detector.find(faces_B3HW)


@dataclass(frozen=True)
class ManagedUpscaler:
    """An ImageUpscaler; without `on_progress` it shows its tiles on the host's own display, and obeys cancel."""

    upscaler: ImageUpscaler
    host: Host
    handle: Handle

    @property
    def name(self) -> str:
        return self.upscaler.name

    @property
    def scale(self) -> int:
        return self.upscaler.scale

    def __call__(self, images_BHW3: Tensor, on_progress: OnProgress | None = None) -> Tensor:
        device = self.host.bring(self.handle, self.upscaler.bytes_for(images_BHW3))
        return self.upscaler.on(device)(images_BHW3, on_progress or self.host.progress())


def manage_restorer(restorer: Restorer, host: Host) -> ManagedRestorer:
    return ManagedRestorer(restorer, host, host.hold(restorer.module))


def manage_detector(detector: FaceDetector, host: Host) -> FaceDetector:
    """The detector, managed by the host; one without a module (OpenCV's) is returned unchanged."""
    if detector.module is None:
        return detector
    return ManagedDetector(detector, host, host.hold(detector.module))


def manage_parser(parser: FaceParser, host: Host) -> ManagedParser:
    return ManagedParser(parser, host, host.hold(parser.module))


def manage_landmark_detector(landmark_detector: LandmarkDetector, host: Host) -> ManagedLandmarkDetector:
    return ManagedLandmarkDetector(landmark_detector, host, host.hold(landmark_detector.module))


def manage_upscaler(upscaler: ImageUpscaler, host: Host) -> ManagedUpscaler:
    return ManagedUpscaler(upscaler, host, host.hold(upscaler.module))
