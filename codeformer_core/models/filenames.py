"""Names for saved models: one that every system can have, of no published file, and free."""

from __future__ import annotations

from pathlib import Path

from ..weights.catalog import find_entry
from ..weights.safetensors_cache import PICKLE_SUFFIXES, origin

SUFFIX = ".safetensors"
# Windows opens devices by these names, whatever ending they have.
DEVICES = {"con", "prn", "aux", "nul", "conin$", "conout$"} | {
    f"{port}{number}" for port in ("com", "lpt") for number in "123456789\u00b9\u00b2\u00b3"
}
FORBIDDEN = '<>:"/\\|?*'
# File systems allow 255 bytes; the file that is renamed at the end has a longer name than the result.
LONGEST_NAME = 200


def checked_name(filename: str) -> str:
    """`filename` with its ending. Raises ValueError for names that leave the folder or that a system can't have."""
    name = filename.strip()
    stem = name[: -len(SUFFIX)] if name.lower().endswith(SUFFIX) else name
    if not stem:
        raise ValueError("filename is empty: give the saved model a name")
    wrong = sorted({letter for letter in stem if letter in FORBIDDEN or not letter.isprintable()})
    if wrong:
        listed = " ".join(letter if letter.isprintable() else repr(letter) for letter in wrong)
        raise ValueError(
            f"filename {filename!r} holds {listed}: give a plain name without folders and without {FORBIDDEN}"
        )
    if stem[0] == "." or stem[-1] in ". ":
        raise ValueError(f"filename {filename!r} begins with a dot or ends with a dot or space: choose another name")
    if stem.split(".")[0].strip().lower() in DEVICES:
        raise ValueError(f"filename {filename!r} is the name of a device on Windows: choose another name")
    if stem.lower().endswith(PICKLE_SUFFIXES):
        raise ValueError(f"filename {filename!r}: the file is written as {SUFFIX}; leave the ending out")
    size = len((stem + SUFFIX).encode())
    if size > LONGEST_NAME:
        raise ValueError(f"filename has {size} bytes, at most {LONGEST_NAME} are possible: choose a shorter name")
    if (entry := find_entry(stem + SUFFIX)) is not None:
        raise ValueError(
            f"filename {filename!r} belongs to a published file ({entry.filename}), for which this one would be taken: "
            "choose another name"
        )
    return stem + SUFFIX


def free_path(folder: Path, filename: str, overwrite: bool) -> Path:
    """Where a model called `filename` may be written. Raises ValueError, see `save_restorer`."""
    path = folder / checked_name(filename)
    if path.is_dir():
        raise ValueError(f"{path} is a folder: choose another filename")
    if not path.exists():
        return path
    mark = origin(path)
    if mark is not None and path.with_name(mark["source_file"]).exists():
        raise ValueError(f"{path} is the copy that is kept of {mark['source_file']}: choose another filename")
    if not overwrite:
        raise ValueError(f"{path} is there already: choose another filename, or set overwrite")
    return path
