"""One process at a time works in a folder of aligned faces: of two, each would write every row."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from ...runtime.lock import LockError, locked

_LOCK, _OWNER = ".align.lock", ".align.pid"


@contextmanager
def claimed(folder: Path) -> Generator[None]:
    """The folder is made, and is this process's until the block ends.

    Raises ValueError, with the other's process number, when another one works there; OSError naming the folder.
    """
    # Beside the lock and not in it: on Windows nobody else can read a locked file.
    owner = folder / _OWNER

    def refuse() -> None:
        number = owner.read_text(encoding="utf-8") if owner.is_file() else ""
        named = f" (process {number})" if number else ""
        raise ValueError(
            f"{folder}: another `train align` works there{named}. Wait until it ends, or name another folder"
        )

    folder.mkdir(parents=True, exist_ok=True)
    try:
        with locked(folder / _LOCK, refuse):
            owner.write_text(str(os.getpid()), encoding="utf-8")
            try:
                yield
            finally:
                owner.unlink(missing_ok=True)
    except LockError as error:
        raise OSError(error.errno, f"this folder can't be written ({error.strerror})", str(folder)) from error
