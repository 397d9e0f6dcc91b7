"""A restorer with the detector, parser and landmark detector to use with it, each loaded when first used."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

from .managed import ManagedRestorer

if TYPE_CHECKING:
    from ..faces.detection import FaceDetector
    from ..faces.landmarks import LandmarkDetector
    from ..faces.parsing import FaceParser


class ModelBundle:
    """Models that work together; they stay loaded as long as the bundle lives."""

    def __init__(
        self,
        restorer: ManagedRestorer,
        *,
        load_detector: Callable[[], FaceDetector],
        load_parser: Callable[[], FaceParser | None],
        load_landmark_detector: Callable[[], LandmarkDetector | None],
    ) -> None:
        """A restorer and the models that go with it.

        restorer: loaded already.
        load_detector, load_parser, load_landmark_detector: called at most once each, when first needed.
        """
        self.restorer = restorer
        self._load_detector = load_detector
        self._load_parser = load_parser
        self._load_landmark_detector = load_landmark_detector

    @cached_property
    def detector(self) -> FaceDetector:
        return self._load_detector()

    @cached_property
    def parser(self) -> FaceParser | None:
        """None when there is no parser's file, not even the package's own, and none was asked for."""
        return self._load_parser()

    @property
    def landmark_detector(self) -> LandmarkDetector | None:
        """None when there is no file, and for restorers that don't ask where the parts of a face lie."""
        return self._any_landmark_detector if self.restorer.needs_landmarks else None

    def with_restorer(self, restorer: ManagedRestorer) -> ModelBundle:
        """Another restorer with the same other models, which are still loaded at most once."""
        return ModelBundle(
            restorer,
            load_detector=lambda: self.detector,
            load_parser=lambda: self.parser,
            load_landmark_detector=lambda: self._any_landmark_detector,
        )

    @cached_property
    def _any_landmark_detector(self) -> LandmarkDetector | None:
        return self._load_landmark_detector()
