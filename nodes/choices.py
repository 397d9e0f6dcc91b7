"""What the loaders' dropdowns offer, and which file a choice stands for.

A catalog file that is not on this machine is offered with DOWNLOAD behind its name; choosing that is the user's
consent. A workflow saved with such a choice stays valid after the download: it then means the file on disk. AUTO
stands for the best file that is here, and is never a download.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePath

from ..codeformer_core.weights.catalog import ALIGNER, CATALOG, DETECTORS, CatalogEntry, find_entry
from ..codeformer_core.weights.download import download
from ..codeformer_core.weights.folders import best_installed_detector, best_installed_restorer, find_weights
from ..codeformer_core.weights.safetensors_cache import origin
from . import host

DOWNLOAD = " (download)"
AUTO = "auto"
RESTORER_FOLDERS = ("facerestore_models", "codeformer")
FACE_FOLDERS = ("facedetection",)
PARSER = "parsenet"
WEIGHT_SUFFIXES = (".pth", ".pt", ".ckpt", ".bin", ".safetensors", ".sft")
# What other packs put into the same folders.
NO_RESTORER = ("detection_", "parsing_", "yolov5", "restoreformer++", "gpen", "alignment_", "realesrgan")
NO_DETECTOR = ("parsing_", "alignment_")

_TASKS = ("restoration", "colorization", "inpainting")
_RESTORERS = tuple(entry for task in _TASKS for entry in CATALOG if entry.task == task)
_LICENCES = "; ".join(
    f"{', '.join(entry.filename for entry in _RESTORERS if (entry.licence, entry.licence_note) == terms)}: "
    + ", ".join(terms)
    for terms in dict.fromkeys((entry.licence, entry.licence_note) for entry in _RESTORERS)
)
_WITHOUT_FIDELITY = ", ".join(entry.filename for entry in _RESTORERS if not entry.uses_fidelity)
MODEL_TOOLTIP = (
    "A face restorer from models/facerestore_models or models/codeformer: CodeFormer, VQFR, DFDNet, GFPGAN or "
    "RestoreFormer; what is in a file decides, not its name. auto: codeformer.pth, else the best of the others that "
    "is there, at last the small starter that comes with the pack; the report says which, and nothing is downloaded "
    "for it. An entry with (download) is fetched when the node runs, with its hash checked where one is known, and "
    f"stays valid afterwards. Fidelity does nothing with {_WITHOUT_FIDELITY}. "
    f"Licence of {_LICENCES}."
)
DETECTOR_TOOLTIP = (
    "Finds the faces. RetinaFace resnet50 finds the most and places them best (110 MB), mobile0.25 is small and quick, "
    "the starter detector and YuNet come with the pack and need no download. auto: the best of them whose file is "
    "here, in the order of this list. Licences: RetinaFace MIT, starter detector and YuNet Apache-2.0."
)
PARSER_TOOLTIP = (
    "Finds the outline of a face for the paste mask (Face Restore, mask: face). auto: ParseNet if its file "
    "parsing_parsenet.pth (85 MB) is in models/facedetection, otherwise the outline is drawn from the landmarks. "
    "Licence: MIT (facexlib); its network comes from PSFRGAN, whose own licence is CC BY-NC-SA 4.0."
)


def restorers() -> list[str]:
    """Files that may be face restorers, the catalog's first, then the one that comes with the pack, then downloads.

    What the catalog has no address of is offered only where it is.
    """
    files = [name for name in _weight_files(RESTORER_FOLDERS) if _may_be(name, NO_RESTORER)]
    known = [name for name in files if find_entry(name) in _RESTORERS]
    others = [name for name in files if name not in known]
    unlisted = [entry for entry in _RESTORERS if not any(find_entry(name) == entry for name in known)]
    # A file in another of the folders that the core searches is no download, and `resolve` finds it.
    here = [entry.filename for entry in unlisted if _file_of(entry)]
    downloads = [entry.filename + DOWNLOAD for entry in unlisted if entry.url and not _file_of(entry)]
    return [*known, *others, *here, *downloads]


def restorers_or_auto() -> list[str]:
    return [AUTO, *restorers()]


def detectors() -> list[str]:
    """The detectors this pack knows, best first, then other files in the detectors' folder."""
    known = [_offer(entry) for entry in map(_entry, DETECTORS) if entry.url or _file_of(entry)]
    others = [name for name in _weight_files(FACE_FOLDERS) if find_entry(name) is None and _may_be(name, NO_DETECTOR)]
    return known + others


def detectors_or_auto() -> list[str]:
    return [AUTO, *detectors()]


def parsers_or_auto() -> list[str]:
    return [AUTO, _offer(_entry(PARSER))]


def complaint(choice: str | None, choices: Sequence[str], folders: Sequence[str]) -> str | None:
    """What is wrong with a choice that may come from a workflow saved elsewhere; None when nothing is.

    choice is None for an input that another node feeds.
    """
    if choice is None or choice in choices:
        return None
    name = choice.removesuffix(DOWNLOAD)
    entry = find_entry(name)
    if _local(name, folders) is not None or (choice != name and entry is not None and entry.can_be_fetched):
        return None
    return _not_here(name, entry, folders)


def verdict(*complaints: str | None) -> bool | str:
    """The host's answer format: True, or what is wrong."""
    return "; ".join(filter(None, complaints)) or True


def resolve(choice: str, folders: Sequence[str]) -> Path:
    """The file a choice stands for, downloaded if the choice says so. Raises ValueError when there is none."""
    name = choice.removesuffix(DOWNLOAD)
    if (path := _local(name, folders)) is not None:
        return path
    entry = find_entry(name)
    if entry is None or choice == name or not entry.can_be_fetched:
        raise ValueError(_not_here(name, entry, folders))
    return download(entry, host.download_folder(entry.folder), host.download_progress())


def file_state(choice: str, folders: Sequence[str]) -> tuple[str, int, int]:
    """What changes when another file stands for the choice or its contents are replaced: its place, time and size."""
    path = _local(choice.removesuffix(DOWNLOAD), folders)
    if path is None:
        return choice, 0, 0
    status = path.stat()
    return str(path), status.st_mtime_ns, status.st_size


def best_local_restorer() -> str:
    """What AUTO stands for: the file of the best restorer that is here; where none is, `resolve` says what to do."""
    return _entry(best_installed_restorer(host.model_roots())).filename


def starter_remark(restorer: Path) -> str | None:
    """What to know about the restorer that comes with the pack; None for other files."""
    entry = find_entry(restorer.name)
    if entry is None or not entry.bundled:
        return None
    best = _RESTORERS[0]
    return (
        f"{entry.filename} is the small starter that comes with the pack, best at fidelity 1; "
        f"{best.filename} gives better faces ({best.licence}, {best.licence_note}): choose it in "
        "Load Face Restore Model"
    )


def best_local_detector() -> str:
    """What AUTO stands for: the best detector whose file is here; nothing is downloaded for it."""
    return best_installed_detector(host.model_roots())


def local_parser() -> Path | None:
    return _file_of(_entry(PARSER))


def local_aligner() -> Path | None:
    return _file_of(_entry(ALIGNER))


def _local(name: str, folders: Sequence[str]) -> Path | None:
    found = next((path for folder in folders if (path := host.model_path(folder, name))), None)
    entry = find_entry(name)
    return found if found or entry is None else _file_of(entry)


def _file_of(entry: CatalogEntry) -> Path | None:
    return find_weights(entry, host.model_roots())


def _entry(name: str) -> CatalogEntry:
    entry = find_entry(name)
    assert entry is not None, name
    return entry


def _offer(entry: CatalogEntry) -> str:
    return entry.name if _file_of(entry) else entry.name + DOWNLOAD


def _not_here(name: str, entry: CatalogEntry | None, folders: Sequence[str]) -> str:
    if entry is not None and entry.by_hand is not None:
        folder = host.download_folder(entry.folder)
        return f"{name!r} is not on this machine: {entry.by_hand}. Put the file into {folder}"
    if entry is not None and entry.url is None:
        return f"{name!r} is not on this machine: {entry.how_to_get}"
    cure = "choose another, or put it" if entry is None else f"choose {name + DOWNLOAD!r}, or put {entry.filename}"
    return f"{name!r} is not on this machine: {cure} into {host.download_folder(folders[0])}"


def _weight_files(folders: Sequence[str]) -> list[str]:
    """Names in the folders, each once, without the safetensors copies that the pack keeps beside pickles."""
    files = {name: folder for folder in reversed(folders) for name in host.model_files(folder)}
    weights = [name for name in sorted(files) if name.lower().endswith(WEIGHT_SUFFIXES)]
    return [name for name in weights if not _is_kept_copy(name, files)]


def _is_kept_copy(name: str, files: dict[str, str]) -> bool:
    path = host.model_path(files[name], name) if name.endswith(".safetensors") else None
    mark = origin(path) if path else None
    return mark is not None and str(PurePath(name).with_name(mark["source_file"])) in files


def _may_be(name: str, excluded_prefixes: tuple[str, ...]) -> bool:
    return not PurePath(name).name.lower().startswith(excluded_prefixes)
