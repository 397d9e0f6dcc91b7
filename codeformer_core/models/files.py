"""Which model files are on this machine, what may be fetched, and which file a choice stands for.

A choice is text or a path. A path is taken as it is. Text is a name: AUTO, a catalog name or a file's name in the
model folders, which it never leaves; a slash and a backslash in it mean the same on every system. With DOWNLOAD behind
it, it consents to fetching the file where it is missing, and stays valid afterwards. AUTO stands for the best file that
is here.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path, PurePath

from ..runtime.host import ModelFolders
from ..weights.catalog import CatalogEntry, find_entry, nearest_name
from ..weights.download import download
from ..weights.errors import WeightsError
from ..weights.folders import ASSETS_FOLDER, ROOTS_VARIABLE, find_weights
from ..weights.safetensors_cache import source_of
from .kinds import DETECTOR, PARSER, RESTORER, RESTORER_ENTRIES, ModelKind, entry_of

logger = logging.getLogger(__name__)

DOWNLOAD = " (download)"
AUTO = "auto"
WEIGHT_SUFFIXES = (".pth", ".pt", ".ckpt", ".bin", ".safetensors", ".sft")

Choice = str | Path
DownloadProgress = Callable[[int, int | None], None]
Fingerprint = tuple[str, int, int]


def by_command(_choice: str, entry: CatalogEntry) -> str:
    """How users of the library fetch a file."""
    return f"run `python -m codeformer_core weights download {entry.name}`"


class ModelFiles:
    """Nothing is created, downloaded or remembered but where a method says so."""

    def __init__(
        self,
        folders: ModelFolders,
        *,
        how_to_fetch: Callable[[str, CatalogEntry], str] = by_command,
        announce: Callable[[str], None] = logger.info,
    ) -> None:
        """The model files in some folders.

        folders: where files lie.
        how_to_fetch: (choice, its entry) -> what to do in this program to fetch the file, for messages.
        announce: called before a download with a sentence: what, from where and under which licence.
        """
        self.folders = folders
        self._how_to_fetch, self._announce = how_to_fetch, announce

    # --- what is there ---------------------------------------------------------------------------------------------

    def restorers(self) -> list[str]:
        """Choices: the catalog's files, the user's own, those in other folders or in this package, then downloads."""
        files = self.weight_files(RESTORER)
        known = [name for name in files if find_entry(name) in RESTORER_ENTRIES]
        others = [name for name in files if name not in known]
        unlisted = [entry for entry in RESTORER_ENTRIES if not any(find_entry(name) == entry for name in known)]
        installed = self._installed(unlisted, RESTORER)
        here = [entry.filename for entry in unlisted if entry.name in installed]
        downloads = [entry.filename + DOWNLOAD for entry in unlisted if entry.url and entry.name not in installed]
        return [*known, *others, *here, *downloads]

    def detectors(self) -> list[str]:
        """Choices: the catalog's detectors, best first, then the user's own files."""
        known = self._offers(DETECTOR)
        return known + [name for name in self.weight_files(DETECTOR) if find_entry(name) is None]

    def parsers(self) -> list[str]:
        return self._offers(PARSER)

    def weight_files(self, kind: ModelKind) -> list[str]:
        """Names of the files that may be of this kind, without the safetensors copies kept beside pickles."""
        names = self.names(kind, WEIGHT_SUFFIXES)
        of_this_kind = [name for name in names if not PurePath(name).name.lower().startswith(kind.foreign)]
        return [name for name in of_this_kind if not self._is_our_copy(name, kind)]

    def names(self, kind: ModelKind, suffixes: tuple[str, ...]) -> list[str]:
        """Sorted names of the files in the kind's folders that end so; with subfolders in the name."""
        return sorted(
            {
                os.path.relpath(os.path.join(place, file), folder)
                for name in kind.folders
                for folder in self.folders.of(name)
                for place, _, files in os.walk(folder, followlinks=True)
                for file in files
                if file.lower().endswith(suffixes)
            }
        )

    def folder_for(self, kind: ModelKind) -> Path:
        """Where a new file of this kind belongs. Raises ValueError where no folder is known."""
        return self._download_folder(kind.folders[0], "it")

    # --- what a choice means ---------------------------------------------------------------------------------------

    def auto(self, kind: ModelKind, fetch: bool = False) -> str | None:
        """The catalog name that AUTO stands for, or None for no model.

        fetch: choose among all that can be fetched, not only among those that are here.
        """
        if fetch:
            return kind.best_first[0]
        return next(iter(self._installed(map(entry_of, kind.best_first), kind)), kind.when_none)

    def find(self, choice: Choice, kind: ModelKind) -> Path | None:
        """The file on this machine; the one that the user has, not our safetensors copy of it."""
        if isinstance(choice, Path):
            return choice if choice.is_file() else None
        name = self.auto(kind) if choice == AUTO else choice.removesuffix(DOWNLOAD)
        if name is None:
            return None
        found = self._in_folders(name, kind)
        if found is None and _is_bare(name):
            found = find_weights(name, self.folders.roots()) or self._below_folders(name, kind)
        return None if found is None else source_of(found)

    def problem(self, choice: Choice, kind: ModelKind) -> str | None:
        """What is wrong with a choice, which may come from another machine; None when nothing is."""
        if (choice == AUTO and kind.when_none is None) or self.find(choice, kind) is not None:
            return None
        return None if self._may_fetch(choice) else self._not_here(choice, kind)

    def fingerprint(self, choice: Choice, kind: ModelKind) -> Fingerprint:
        """What changes when another file stands for the choice or its contents are replaced: place, time and size."""
        path = self.find(choice, kind)
        if path is None:
            return str(choice), 0, 0
        status = path.stat()
        return str(path), status.st_mtime_ns, status.st_size

    def locate(
        self, choice: Choice, kind: ModelKind, *, fetch: bool = False, on_progress: DownloadProgress | None = None
    ) -> Path:
        """The file that a choice stands for, downloaded where it is missing and the choice or `fetch` consents.

        on_progress: bytes done, and bytes in all or None; what it raises cancels the download.
        Raises WeightsError saying what to do when there is no file, DownloadError when it can't be had.
        """
        if choice == AUTO:
            choice = self.auto(kind, fetch) or AUTO
        if (path := self.find(choice, kind)) is not None:
            return path
        entry = _entry(choice)
        if entry is None or entry.url is None or not (fetch or self._may_fetch(choice)):
            raise WeightsError(self._not_here(choice, kind))
        folder = self._download_folder(entry.folder, entry.filename)
        self._announce(
            f"downloading {entry.filename} from {entry.url}\n  licence: {entry.licence} ({entry.licence_note})"
        )
        return download(entry, folder, on_progress)

    # --- inside ----------------------------------------------------------------------------------------------------

    def _installed(self, entries: Iterable[CatalogEntry], kind: ModelKind) -> dict[str, Path]:
        """Those of the entries that are on this machine, in their order: catalog name -> file."""
        roots, listed = self.folders.roots(), self._listed(kind)
        files = {entry.name: find_weights(entry, roots) or listed.get(entry.name) for entry in entries}
        return {name: file for name, file in files.items() if file is not None}

    def _listed(self, kind: ModelKind) -> dict[str, Path]:
        """Catalog name -> file, of all that lie anywhere below the kind's folders."""
        found: dict[str, Path] = {}
        for name in self.names(kind, WEIGHT_SUFFIXES):
            entry, path = find_entry(name), self._in_folders(name, kind)
            if entry is not None and path is not None:
                found.setdefault(entry.name, path)
        return found

    def _below_folders(self, name: str, kind: ModelKind) -> Path | None:
        entry = find_entry(name)
        return None if entry is None else self._listed(kind).get(entry.name)

    def _offers(self, kind: ModelKind) -> list[str]:
        entries = [entry_of(name) for name in kind.best_first]
        installed = self._installed(entries, kind)
        return [
            entry.name if entry.name in installed else entry.name + DOWNLOAD
            for entry in entries
            if entry.url or entry.name in installed
        ]

    def _in_folders(self, name: str, kind: ModelKind) -> Path | None:
        """A name that tries to leave the folders finds nothing."""
        for spelled in dict.fromkeys((name, _with_slashes(name))):
            if PurePath(spelled).is_absolute() or ".." in PurePath(spelled).parts:
                continue
            places = (folder / spelled for kind_name in kind.folders for folder in self.folders.of(kind_name))
            if (found := next((path for path in places if path.is_file()), None)) is not None:
                return found
        return None

    def _is_our_copy(self, name: str, kind: ModelKind) -> bool:
        path = self._in_folders(name, kind)
        return path is not None and source_of(path) != path

    def _may_fetch(self, choice: Choice) -> bool:
        entry = _entry(choice)
        return entry is not None and entry.url is not None and str(choice).endswith(DOWNLOAD)

    def _download_folder(self, name: str, what: str) -> Path:
        folders = self.folders.of(name)
        if not folders:
            raise ValueError(f"no folder is known to put {what} into: set {ROOTS_VARIABLE} to a folder, or name one")
        return folders[0]

    def _not_here(self, choice: Choice, kind: ModelKind) -> str:
        """Which file is missing, where it comes from and where to put it."""
        if isinstance(choice, Path):
            return f"{choice}: there is no such file"
        name = self.auto(kind) or choice if choice == AUTO else choice.removesuffix(DOWNLOAD)
        entry = find_entry(name)
        if entry is None:
            near = nearest_name(name)
            hint = f" Did you mean {near}?" if near else ""
            folder = self._download_folder(kind.folders[0], repr(name))
            return f"{name!r} is not on this machine, nor in the catalog.{hint} Choose another, or put it into {folder}"
        if entry.bundled and entry.url is None:
            return f"{entry.filename} is gone from {ASSETS_FOLDER}: {entry.how_to_get}"
        folder = self._download_folder(entry.folder, entry.filename)
        if entry.by_hand is not None:
            return (
                f"{entry.filename} is not on this machine, and nothing can be downloaded for it: {entry.by_hand}. Put "
                f"the file into {folder} (licence: {entry.licence})"
            )
        return (
            f"{entry.filename} is not on this machine: {self._how_to_fetch(name, entry)}; or fetch it from "
            f"{entry.url} ({entry.expectation}; licence: {entry.licence}) and put it into {folder}"
        )


def _entry(choice: Choice) -> CatalogEntry | None:
    return find_entry(choice.removesuffix(DOWNLOAD)) if isinstance(choice, str) and _is_bare(choice) else None


def _is_bare(name: str) -> bool:
    return PurePath(_with_slashes(name)).name == name


def _with_slashes(name: str) -> str:
    """Workflows go from one system to another."""
    return name.replace("\\", "/")


def as_choice(source: str | os.PathLike[str]) -> Choice:
    """For callers who may open any file: a path where there is such a file or a folder in it, else a name."""
    name = os.fspath(source)
    return name if _is_bare(name) and not os.path.isfile(name) else Path(name)
