"""From a loaded restorer to a file that loads again as the same one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch

from ..weights.catalog import find_entry
from ..weights.safetensors_cache import PICKLE_SUFFIXES, origin
from .codeformer.save import save_network
from .restorer import USUAL_FIDELITY, Restorer
from .save_others import save_other

SUFFIX = ".safetensors"
# Windows opens devices by these names, whatever ending they have.
DEVICES = {"con", "prn", "aux", "nul", "conin$", "conout$"}
DEVICES |= {f"{port}{number}" for port in ("com", "lpt") for number in "123456789\u00b9\u00b2\u00b3"}
FORBIDDEN = '<>:"/\\|?*'
# File systems allow 255 bytes; the file that is renamed at the end has a longer name than the result.
LONGEST_NAME = 200
_CHUNK = 2**20


@dataclass(frozen=True)
class SavedModel:
    """path: the file; size: in bytes; sha256: 64 hex digits. remarks: what the user should know."""

    path: Path
    size: int
    sha256: str
    remarks: tuple[str, ...]

    def summary(self) -> str:
        return "\n".join((f"saved: {self.path}", f"{self.size:,} bytes", f"sha256 {self.sha256}", *self.remarks))


def save_restorer(
    restorer: Restorer, folder: Path, filename: str, *, dtype: torch.dtype, overwrite: bool = False
) -> SavedModel:
    """Write the network of `restorer` as `filename`.safetensors into `folder`: whole, or not at all.

    filename: without a folder; the ending may be left out. dtype: float32, bfloat16 or float16. overwrite: an older
    file of that name may be replaced; otherwise it is an error. The file says the network's task and sizes in its
    header. Raises ValueError naming the input and the cure, OSError when the disk is full or can't be written.
    """
    path = free_path(folder, filename, overwrite)
    if restorer.architecture in ("codeformer", "vqgan"):
        is_codeformer = restorer.architecture == "codeformer"
        config = restorer.module.codeformer_config if is_codeformer else restorer.module.config
        recommended = restorer.recommended_fidelity
        save_network(
            path,
            restorer.module,
            config,
            restorer.task,
            dtype=dtype,
            fidelity=None if recommended == USUAL_FIDELITY else recommended,
            also=restorer.also,
        )
    else:
        save_other(path, restorer.module, restorer.architecture, restorer.face_size, dtype=dtype)
    remarks = []
    if restorer.dtype.itemsize < dtype.itemsize:
        remarks.append(
            f"{restorer.name} was loaded in {_short(restorer.dtype)}, so the saved numbers are rounded to it though "
            f"they are stored in {_short(dtype)}: choose dtype {_short(dtype)} in Load Face Restore Model"
        )
    return saved(path, *remarks)


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


def saved(path: Path, *remarks: str) -> SavedModel:
    """What there is to tell about a file that was just written."""
    return SavedModel(path, path.stat().st_size, _sha256(path), remarks)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
