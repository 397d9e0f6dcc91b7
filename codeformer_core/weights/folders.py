"""Folders of weight files: those searched when no host names any, and the search itself.

Nothing is created, downloaded or remembered here.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ..runtime.folders import folders_named
from .catalog import CatalogEntry, find_entry
from .safetensors_cache import copy_path, is_stale

# Names that programs, packs and users give these folders below a models root, in upper or lower case (A1111 has
# Codeformer and GFPGAN); an entry's own folder is looked at first.
KNOWN_FOLDERS = (
    "facerestore_models",
    "codeformer",
    "gfpgan",
    "facedetection",
    "facedetection_models",
    "detection",
    "upscale_models",
)
# Environment variable with models roots of the user's own, separated like PATH.
ROOTS_VARIABLE = "CODEFORMER_MODELS"

PACKAGE_FOLDER = Path(os.path.abspath(__file__)).parents[1]
ASSETS_FOLDER = PACKAGE_FOLDER / "assets"


def default_roots(environ: Mapping[str, str] = os.environ, package_folder: Path = PACKAGE_FOLDER) -> list[Path]:
    """Models roots when there is no host, best first; they need not exist.

    CODEFORMER_MODELS, then the `models` of the ComfyUI whose `custom_nodes` this package lies in, then the
    user's cache folder.
    """
    roots = [
        Path(part.strip()).expanduser() for part in environ.get(ROOTS_VARIABLE, "").split(os.pathsep) if part.strip()
    ]
    custom_nodes = package_folder.parents[1] if len(package_folder.parents) > 2 else None
    if custom_nodes is not None and custom_nodes.name == "custom_nodes":
        roots.append(custom_nodes.parent / "models")
    cache = environ.get("XDG_CACHE_HOME") or environ.get("LOCALAPPDATA") or os.path.expanduser("~/.cache")
    # Without a home folder expanduser gives the tilde back, and a folder called "~" is nobody's wish.
    if not cache.startswith("~"):
        roots.append(Path(cache) / "comfyui-codeformer" / "models")
    return list(dict.fromkeys(roots))


def download_folder(entry: CatalogEntry, roots: Sequence[Path]) -> Path:
    """Where a download of `entry` belongs: its folder below the first root."""
    if not roots:
        raise ValueError(
            f"no folder is known to put {entry.filename} into: set {ROOTS_VARIABLE} to a folder, or name one"
        )
    return roots[0] / entry.folder


def find_weights(wanted: CatalogEntry | str, roots: Sequence[Path]) -> Path | None:
    """The file of a catalog entry, a catalog name or a file name below `roots`, or None.

    Per root: the entry's own folder, the other known folders, the root itself. The files shipped with the pack come
    last. Where a pickle has a safetensors file of the same name beside it, that one is returned, unless it is damaged
    or our own copy of an older state of the pickle.

    roots: models folders, preferred first.
    """
    entry = wanted if isinstance(wanted, CatalogEntry) else find_entry(wanted)
    names = _file_names(wanted, entry)
    for folder in search_folders(entry, roots):
        for name in names:
            if (found := _best(folder / name)) is not None:
                return found
    return None


def search_folders(entry: CatalogEntry | None, roots: Iterable[Path]) -> list[Path]:
    """All folders `find_weights` looks into, in its order."""
    first = () if entry is None else (entry.folder,)
    below = list(dict.fromkeys((*first, *KNOWN_FOLDERS)))
    in_roots = [
        folder for root in roots for folder in (*(each for name in below for each in folders_named(root, name)), root)
    ]
    return [*in_roots, ASSETS_FOLDER]


def _file_names(wanted: CatalogEntry | str, entry: CatalogEntry | None) -> list[str]:
    names = [] if entry is None else [entry.filename, *entry.aliases]
    if isinstance(wanted, str) and (entry is None or wanted != entry.name):
        # A file name that was asked for stands before the other names of the same bytes.
        names.insert(0, wanted)
    return list(dict.fromkeys(names))


def _best(path: Path) -> Path | None:
    copy = copy_path(path) if path.suffix != ".safetensors" else path
    # os.path.isfile and not Path.is_file: a folder that may not be read counts as empty.
    if not os.path.isfile(path):
        return copy if os.path.isfile(copy) else None
    if copy != path and os.path.isfile(copy) and not is_stale(copy, path):
        return copy
    return path
