"""What can be known before the work: format limits, names, folders and the disk, from the headers of all images."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from ..imaging.codecs.suffixes import WRITABLE, check_size
from .errors import UsageError
from .inputs import Job

# width, height of an image -> those of its result.
ResultSize = Callable[[int, int], tuple[int, int]]

_TRIAL_SIZE = 2**16  # bytes; more than a full disk has left
_LONGEST_NAME = 255  # bytes, on all common file systems
_MIB = 1 << 20


def check_job(job: Job, result_size: ResultSize) -> None:
    """Check what the image's header and its names tell.

    Raises ValueError naming the file and the fix, OSError as the system gives it, ImportError for a missing package.
    """
    from ..imaging.files import inspect

    for path in job.written:
        longest = _longest_name(path.parent)
        if len(os.fsencode(path.name)) > longest:
            raise ValueError(
                f"{job.source}: the result's name {path.name[:40]}... is too long for its folder (more than {longest} "
                "bytes); rename the image"
            )
    with job.source.open("rb") as stream:
        _, header = inspect(job.source, stream)
    if header.width is None or header.height is None:
        return  # the decoder says what is wrong with it
    if header.width <= 0 or header.height <= 0:
        raise ValueError(f"{job.source}: the image has no pixels ({header.width}x{header.height})")
    file_format = WRITABLE[job.output.suffix.lower()]
    try:
        check_size(file_format, *result_size(header.width, header.height))
    except ValueError as error:
        raise ValueError(f"{job.source} -> {job.output.name}: {error} (--format png)") from error


def _longest_name(folder: Path) -> int:
    try:
        return os.pathconf(_existing(folder), "PC_NAME_MAX")
    except (OSError, AttributeError, ValueError):
        return _LONGEST_NAME


def check_folders(jobs: Sequence[Job]) -> None:
    """Try to write where results will go. What is made for it is removed again: the command may yet be refused.

    Raises OSError or UsageError naming the folder and the fix.
    """
    for folder in dict.fromkeys(job.output.parent for job in jobs):
        made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
        try:
            make_folder(folder)
            _try_to_write(folder)
        finally:
            for parent in made:
                if parent.is_dir() and not any(parent.iterdir()):
                    parent.rmdir()


def make_folder(folder: Path) -> None:
    """Raises OSError naming the folder and the fix."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(f"{folder}: this folder can't be made ({reason}); name another one with -o") from error


def _try_to_write(folder: Path) -> None:
    try:
        with tempfile.TemporaryFile(dir=folder) as stream:
            stream.write(bytes(_TRIAL_SIZE))
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(f"{folder}: can't be written to ({reason}); name another folder with -o") from error


def check_disk(jobs: Sequence[Job], result_size: ResultSize) -> str | None:
    """A note where the results may not fit; taken to be as large as their sources, times what they are enlarged by.

    Raises UsageError where not even a quarter of that is free.
    """
    width, height = result_size(1000, 1000)
    enlarged = width * height / 1e6
    needed = sum(job.source.stat().st_size for job in jobs if job.source.exists()) * enlarged
    folder = _existing(jobs[0].output.parent)
    free = shutil.disk_usage(folder).free
    if needed <= free:
        return None
    words = f"{folder}: the results need about {needed / _MIB:,.0f} MiB, and {free / _MIB:,.0f} MiB are free"
    if needed > 4 * free:
        raise UsageError(f"{words}; free some, or name a folder on another disk with -o")
    return f"{words}; --skip-existing continues after a full disk"


def _existing(folder: Path) -> Path:
    return next((parent for parent in (folder, *folder.absolute().parents) if parent.exists()), Path.cwd())
