"""A run's folder: nobody else's work is written over, and one run at a time writes into it."""

from __future__ import annotations

import logging
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..runtime.lock import LockError, locked
from . import WEIGHTS_NAME
from .data.config import DataConfig
from .engine.checkpoint import Checkpoints
from .engine.processes import Processes
from .setup import RunFiles

logger = logging.getLogger(__name__)

_LOCK = ".lock"
_CURVES = "scalars.csv"
_CONFIG = "config.json"


def check_folder(files: RunFiles, data: DataConfig, checkpoints: Checkpoints) -> Path | None:
    """The checkpoint to continue from. Raises ValueError for a folder that isn't this run's to write into."""
    folder = files.folder
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"-o {folder}: this is a file; name a folder for the run")
    for option, path in (("--teacher", files.teacher), ("--from", files.start), ("--codes", files.codes)):
        if path is not None and _same(folder, path if path.is_dir() else path.parent):
            raise ValueError(f"-o {folder}: {option} lies there and would be written over; name another folder")
    for place in (data.faces, data.validation):
        if place and Path(place).is_dir() and folder.resolve().is_relative_to(Path(place).resolve()):
            raise ValueError(f"-o {folder}: it lies among the faces of {place}; name a folder outside")
    if damaged := checkpoints.damaged():
        raise ValueError(f"{damaged[0]}: a checkpoint without its meta.json; delete this folder, or move it away")
    newest = checkpoints.newest()
    if newest is None and (folder / WEIGHTS_NAME).exists():
        raise ValueError(f"-o {folder}: it holds {WEIGHTS_NAME}, but no checkpoint of a run; name another folder")
    if newest is None and (folder / _CONFIG).exists() and not (folder / _CURVES).exists():
        raise ValueError(f"-o {folder}: it holds a {_CONFIG} that no run wrote; name another folder")
    if newest is not None and not files.resume:
        raise ValueError(f"{folder} holds a run already ({newest.name}): --resume continues it, or name another folder")
    if newest is None and files.resume:
        logger.warning("%s holds no checkpoint yet: starting from the beginning", folder)
    return newest


@contextmanager
def claimed(folder: Path, newest: Path | None, checkpoints: Checkpoints, processes: Processes) -> Generator[None]:
    """The folder is made, can be written, and is this run's until the block ends.

    Raises ValueError when another run has it, or has been there since `check_folder`; OSError naming the folder.
    """
    if not processes.is_first:
        yield
        return
    checkpoints.folder.mkdir(parents=True, exist_ok=True)

    def refuse() -> None:
        raise ValueError(f"-o {folder}: another run is writing there; wait for it, or name another folder")

    with locked(folder / _LOCK, refuse):
        if checkpoints.newest() != newest:
            refuse()
        yield


def check_whole_folder(folder: Path, faces: Path, made: Sequence[str], plan: str) -> None:
    """Whether `train all` may write into `folder`.

    faces: the folder of faces or photos.
    made: names that the run writes at its end.
    plan: name of the file that says that they are a run's own.
    Raises ValueError naming the folder and what is in the way.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"-o {folder}: this is a file; name a folder for the run")
    if faces.is_dir() and _same(folder, faces):
        raise ValueError(f"-o {folder}: these are the faces; name another folder for the run")
    if not (folder / plan).exists():
        for name in made:
            if (folder / name).exists():
                raise ValueError(f"-o {folder}: it holds {name}, but no {plan} of a run; name another folder")


@contextmanager
def whole_claimed(folder: Path, processes: Processes) -> Generator[None]:
    """The folder is made, and is this run's until the block ends, over all stages.

    Raises ValueError when another run has it; OSError naming the folder.
    """
    if not processes.is_first:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)

    def refuse() -> None:
        raise ValueError(f"-o {folder}: another run is writing there; wait for it, or name another folder")

    try:
        with locked(folder / _LOCK, refuse):
            yield
    except LockError as error:
        raise OSError(error.errno, f"this folder can't be written ({error.strerror})", str(folder)) from error


def _same(first: Path, second: Path) -> bool:
    return first.resolve() == second.resolve()
