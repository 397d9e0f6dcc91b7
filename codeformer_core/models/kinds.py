"""The kinds of models that users choose among, and what to tell them about those in the catalog."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..faces.events import Event
from ..weights.catalog import (
    CATALOG,
    COLORIZERS,
    DETECTORS,
    INPAINTERS,
    LANDMARK_DETECTORS,
    PARSERS,
    RESTORERS,
    UPSCALERS,
    CatalogEntry,
    find_entry,
)

TASKS = ("restoration", "colorization", "inpainting")


@dataclass(frozen=True)
class ModelKind:
    """A kind of model file.

    folders: names of its folders below a models folder; new files belong into the first.
    best_first: catalog names that auto chooses from.
    when_none: catalog name that auto stands for where no file is installed, so that loading it says what to do; None:
    then auto stands for no model at all.
    foreign: beginnings of the names of other kinds' files that packs put into the same folders.
    """

    folders: tuple[str, ...]
    best_first: tuple[str, ...]
    when_none: str | None
    foreign: tuple[str, ...] = ()


RESTORER = ModelKind(
    ("facerestore_models", "codeformer", "gfpgan"),
    RESTORERS,
    RESTORERS[0],
    ("detection_", "parsing_", "yolov5", "restoreformer++", "gpen", "alignment_", "realesrgan"),
)
# The same files, but what auto stands for follows the task.
_BY_TASK = {
    "restoration": RESTORER,
    "colorization": replace(RESTORER, best_first=COLORIZERS, when_none=COLORIZERS[0]),
    "inpainting": replace(RESTORER, best_first=INPAINTERS, when_none=INPAINTERS[0]),
}
DETECTOR = ModelKind(("facedetection",), DETECTORS, DETECTORS[-1], ("parsing_", "alignment_"))
PARSER = ModelKind(("facedetection",), PARSERS, None)
UPSCALER = ModelKind(("upscale_models",), UPSCALERS, UPSCALERS[0])
LANDMARK_DETECTOR = ModelKind(("facedetection",), LANDMARK_DETECTORS, None)
MODEL_FOLDERS = tuple(dict.fromkeys((*RESTORER.folders, *DETECTOR.folders)))

# Everything that takes the restorer's place, by task.
RESTORER_ENTRIES = tuple(entry for task in TASKS for entry in CATALOG if entry.task == task)


def restorer_kind(task: str | None) -> ModelKind:
    """The restorers among which auto chooses for `task`; None: for restoration."""
    return _BY_TASK[task or TASKS[0]]


def entry_of(name: str) -> CatalogEntry:
    """The entry of a name that is in the catalog for sure."""
    entry = find_entry(name)
    assert entry is not None, name
    return entry


def restorer_licences() -> str:
    """Every licence of the catalog's restorers with the files that it holds for."""
    terms = dict.fromkeys((entry.licence, entry.licence_note) for entry in RESTORER_ENTRIES)
    return "; ".join(
        f"{', '.join(entry.filename for entry in RESTORER_ENTRIES if (entry.licence, entry.licence_note) == term)}: "
        + ", ".join(term)
        for term in terms
    )


def restorers_without_fidelity() -> str:
    """The catalog's restorers that fidelity changes nothing with."""
    return ", ".join(entry.filename for entry in RESTORER_ENTRIES if not entry.uses_fidelity)


def starter_event(restorer: str) -> Event | None:
    """What to know of the restorer that comes with the package; None for other names of files and models."""
    entry = find_entry(restorer)
    if entry not in RESTORER_ENTRIES or not entry.bundled:
        return None
    best = entry_of(restorer_kind(entry.task).best_first[0])
    values = {"starter": entry.filename, "best": best.filename, "licence": f"{best.licence}, {best.licence_note}"}
    return Event("starter", values=values)
