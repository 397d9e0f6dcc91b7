"""The models of an archive's workers: named here, loaded where they run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ...models.files import AUTO, Choice
from ...models.kinds import DETECTOR, PARSER, ModelKind, restorer_kind
from ..fingerprints import digest_of_ends
from ..restore import Models

if TYPE_CHECKING:
    from ...faces.detection import FaceDetector
    from ...models.library import ModelChoices, ModelLibrary


class WorkerModels(Protocol):
    """What loads the models of a worker. It is pickled, and may be asked on another machine."""

    def describe(self) -> dict[str, Any]:
        """What results depend on, as JSON values."""
        ...

    def load_detector(self) -> FaceDetector:
        """On a CPU if Ray runs it."""
        ...

    def load(self) -> Models:
        """Everything that restoring needs."""
        ...

    def on(self, device: str) -> WorkerModels:
        """The same on another device."""
        ...


@dataclass(frozen=True)
class BulkModels:
    """Models of the library, by their choices.

    choices: see `models.library`.
    folders: models folders, at the same place on every machine.
    device: where they run.
    parser: whether the paste mask needs one.
    """

    choices: ModelChoices
    folders: tuple[Path, ...]
    device: str = "cpu"
    parser: bool = True

    def describe(self) -> dict[str, Any]:
        library, choices = self._library(), self.choices
        chosen: list[tuple[str, Choice, ModelKind]] = [
            ("restorer", choices.restorer, restorer_kind(choices.task)),
            ("detector", choices.detector, DETECTOR),
        ]
        if self.parser and not (choices.parser == AUTO and library.auto(PARSER) is None):
            chosen.append(("parser", choices.parser, PARSER))
        files = {name: _identity(library.locate(choice, kind)) for name, choice, kind in chosen}
        return {**files, "dtype": str(choices.dtype)}

    def load_detector(self) -> FaceDetector:
        return self._library().load_detector(self.choices.detector)

    def load(self) -> Models:
        bundle = self._library().load(replace(self.choices, fetch=False))
        return Models(
            bundle.restorer, bundle.detector, bundle.parser if self.parser else None, bundle.landmark_detector
        )

    def on(self, device: str) -> BulkModels:
        return replace(self, device=device)

    def _library(self) -> ModelLibrary:
        # Here and not above, so that it runs where the models do.
        import torch

        from ...models.library import ModelLibrary
        from ...runtime.host import FixedFolders
        from ...runtime.plain_host import PlainHost

        return ModelLibrary(PlainHost(torch.device(self.device), FixedFolders(self.folders)))


def loaded(models: WorkerModels) -> tuple[Callable[[], FaceDetector], Callable[[], Models]]:
    """Both as they are first needed; in one process the detector is loaded once."""
    return partial(_once, models.load_detector, []), partial(_once, models.load, [])


def _once(load: Callable[[], Any], kept: list[Any]) -> Any:
    if not kept:
        kept.append(load())
    return kept[0]


def _identity(path: Path) -> str:
    """A file's name, size and what it begins and ends with."""
    return f"{path.name}, {path.stat().st_size} bytes, {digest_of_ends(path)[:16]}"
