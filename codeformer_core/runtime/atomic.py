"""Files that are there whole or not at all, also after a power cut."""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger(__name__)


@contextmanager
def replaced(path: Path, folder: Path | None = None) -> Generator[Path]:
    """Yields an empty file to write into; it takes the name `path` when the block succeeds.

    folder: of this file, on the same disk; the folder of `path` if None.

    By then it is on the disk, so that after a power cut there is the old file or the new one, never a part of it. When
    the block fails it is removed and `path` stays as it was.

    Raises OSError.
    """
    unique = f"{uuid.uuid4().hex[:12]}.part"
    temporary = path.with_name(f".{path.name}.{unique}") if folder is None else folder / unique
    try:
        # Fails with a plain OSError where the folder can't be written, and shows the mode the umask gives:
        # safetensors writes for the owner alone, but models are shared.
        temporary.touch(exist_ok=False)
        mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(mode)
        flush(temporary)
        os.replace(temporary, path)
        flush_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_whole(path: Path, data: bytes, folder: Path | None = None) -> None:
    """See `replaced`.

    Raises OSError naming `path`.
    """
    try:
        with replaced(path, folder) as temporary:
            temporary.write_bytes(data)
    except OSError as error:
        raise OSError(error.errno, f"could not be written: {error.strerror or error}", str(path)) from error


def flush(path: Path) -> None:
    """Puts a file on the disk."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_folder(folder: Path) -> None:
    """Puts a rename on the disk. The file itself lies there already, so where this can't be done nothing is lost."""
    if os.name != "posix":  # a folder can't be opened there
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        log.debug("%s knows no flushing of folders: %s", folder, error)
