"""The models of this machine: chosen, fetched, loaded into a host's memory."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..runtime.host import Host
from ..weights.catalog import FACE_MESH, CatalogEntry
from .bundle import ModelBundle
from .files import AUTO, Choice, DownloadProgress, Fingerprint, ModelFiles, by_command
from .kinds import DETECTOR, LANDMARK_DETECTOR, PARSER, UPSCALER, ModelKind, restorer_kind
from .managed import (
    ManagedRestorer,
    ManagedUpscaler,
    manage_detector,
    manage_landmark_detector,
    manage_parser,
    manage_restorer,
    manage_upscaler,
)

if TYPE_CHECKING:
    from ..faces.detection import FaceDetector
    from ..faces.landmarks import LandmarkDetector
    from ..faces.parsing import FaceParser
    from .precision import Precision

logger = logging.getLogger(__name__)

DOWNLOADING = "download"


@dataclass(frozen=True)
class ModelChoices:
    """Which models to load.

    restorer, detector, parser: see `files`.
    dtype: precision of the restorer; float32 is taken where the device has no fast bfloat16. auto: see `precision`.
    fetch: missing files of the catalog are downloaded, and auto stands for the best of all.
    task: "restoration", "colorization" or "inpainting": what auto chooses for, and what the restorer was trained for
    where its file doesn't say.
    """

    restorer: Choice = AUTO
    detector: Choice = AUTO
    parser: Choice = AUTO
    dtype: Precision = torch.float32
    fetch: bool = False
    task: str | None = None


class ModelLibrary(ModelFiles):
    """What nodes, WebUI and command line choose their models from; see `ModelFiles` for the choosing.

    What it loads belongs to the caller; only `remembered` keeps anything.
    """

    def __init__(
        self,
        host: Host,
        *,
        how_to_fetch: Callable[[str, CatalogEntry], str] = by_command,
        announce: Callable[[str], None] = logger.info,
    ) -> None:
        """The models that a host can run.

        host: runs the models and knows the folders.
        how_to_fetch, announce: see `ModelFiles`.
        """
        super().__init__(host.folders, how_to_fetch=how_to_fetch, announce=announce)
        self.host = host
        self._remembered: tuple[ModelChoices, tuple[Fingerprint, ...], ModelBundle] | None = None

    def load(self, choices: ModelChoices) -> ModelBundle:
        """The restorer, and what goes with it when it is first used. Raises as `load_restorer`."""
        return ModelBundle(
            self.load_restorer(choices.restorer, choices.dtype, fetch=choices.fetch, task=choices.task),
            load_detector=partial(self.load_detector, choices.detector, fetch=choices.fetch),
            load_parser=partial(self.load_parser, choices.parser, fetch=choices.fetch),
            load_landmark_detector=self.load_landmark_detector,
        )

    def remembered(self, choices: ModelChoices) -> ModelBundle:
        """As `load`, but returns the bundle of the last call if choices and files are still the same."""
        if self._remembered is not None:
            last_choices, last_files, bundle = self._remembered
            if last_choices == choices and last_files == self.fingerprints(choices):
                return bundle
        # Before the next one takes its memory.
        self.forget()
        bundle = self.load(choices)
        self._remembered = choices, self.fingerprints(choices), bundle
        return bundle

    def forget(self) -> None:
        """Lets the remembered bundle go."""
        self._remembered = None

    def load_restorer(
        self,
        choice: Choice = AUTO,
        dtype: Precision = torch.float32,
        *,
        fetch: bool = False,
        task: str | None = None,
    ) -> ManagedRestorer:
        """A restorer, managed by the host.

        task: see `ModelChoices`.
        Raises WeightsError with the fix for missing and wrong files, DownloadError when one can't be downloaded.
        """
        # Imported here and below, not at the top, so that a host's start doesn't wait for the networks.
        from . import loading

        restorer = loading.load_restorer(
            self._located(choice, restorer_kind(task), fetch),
            self.host.offload_device(),
            self.host.supported_dtype(torch.float32 if dtype == AUTO else dtype),
            operations=self.host.operations,
            task=task,
        )
        if dtype == AUTO:
            from .precision import choose_precision

            restorer = choose_precision(restorer)
        return manage_restorer(restorer, self.host)

    def load_detector(self, choice: Choice = AUTO, *, fetch: bool = False, refine: bool = True) -> FaceDetector:
        """A detector, managed by the host.

        refine: the face mesh improves the landmarks of detectors that gain by it, see `faces.detectors.refined`.
        Raises as `load_restorer`, and ImportError with the fix for a missing package.
        """
        from ..faces.detectors.refined import REFINED, RefinedDetector
        from . import loading

        path = self._located(choice, DETECTOR, fetch)
        detector = manage_detector(loading.load_detector(path, self.host.offload_device()), self.host)
        if not refine or detector.name not in REFINED or self.find(FACE_MESH, LANDMARK_DETECTOR) is None:
            return detector
        mesh = self.load_landmark_detector(FACE_MESH)
        return detector if mesh is None else RefinedDetector(detector, mesh)

    def load_parser(self, choice: Choice = AUTO, *, fetch: bool = False) -> FaceParser | None:
        """None for auto where there is none, not even the package's own. Raises as `load_detector`."""
        from . import loading

        if choice == AUTO and not fetch and self.auto(PARSER) is None:
            return None
        path = self._located(choice, PARSER, fetch)
        return manage_parser(loading.load_parser(path, self.host.offload_device()), self.host)

    def load_landmark_detector(self, choice: Choice = AUTO) -> LandmarkDetector | None:
        """The best that is here: restorers can do without, so it is never downloaded. None where there is none."""
        from . import loading

        if choice == AUTO and self.auto(LANDMARK_DETECTOR) is None:
            return None
        path = self._located(choice, LANDMARK_DETECTOR, False)
        return manage_landmark_detector(loading.load_landmark_detector(path, self.host.offload_device()), self.host)

    def load_upscaler(
        self,
        choice: Choice = AUTO,
        dtype: torch.dtype = torch.float32,
        *,
        tile: int | None = None,
        fetch: bool = False,
    ) -> ManagedUpscaler:
        """What enlarges images.

        tile: side of its tiles in pixels; chosen from the free memory if None.
        Raises as `load_detector`.
        """
        from . import loading

        path = self._located(choice, UPSCALER, fetch)
        upscaler = loading.load_upscaler(path, self.host.offload_device(), self.host.supported_dtype(dtype), tile=tile)
        return manage_upscaler(upscaler, self.host)

    def download_progress(self) -> DownloadProgress:
        """A listener for downloads that moves the host's bar and obeys cancel."""
        progress = self.host.progress()

        def report(done: int, total: int | None) -> None:
            progress(DOWNLOADING, done, total or max(done, 1))

        return report

    def _located(self, choice: Choice, kind: ModelKind, fetch: bool) -> Path:
        self.host.check_cancelled()
        return self.locate(choice, kind, fetch=fetch, on_progress=self.download_progress())

    def fingerprints(self, choices: ModelChoices) -> tuple[Fingerprint, ...]:
        """What changes when another file, or other contents, would be loaded."""
        return (
            self.fingerprint(choices.restorer, restorer_kind(choices.task)),
            self.fingerprint(choices.detector, DETECTOR),
            self.fingerprint(choices.parser, PARSER),
            self.fingerprint(AUTO, LANDMARK_DETECTOR),
        )
