"""A lock between processes, by the operating system's own file locks.

The system frees such a lock when its owner ends, however it ends: a lock file left behind by a crash locks
nothing and needs no guess at its age.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger(__name__)

# Seconds between two tries at a taken lock.
POLL = 0.2
_TAKEN = {errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK, errno.EDEADLK}
# Network file systems that know no locks answer with one of these.
_UNSUPPORTED = {errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOLCK}


class LockError(OSError):
    """The lock file can't be made or locked."""


@contextmanager
def locked(path: Path, on_wait: Callable[[], None], poll: float = POLL) -> Iterator[None]:
    """Hold the lock file `path` (its folder exists) for the length of the block; it is removed afterwards.

    on_wait: called every `poll` seconds while someone else holds the lock; may raise to give up.
    Raises LockError when the lock file can't be made. Where the file system knows no locks, a warning is
    logged and the block runs without.
    """
    descriptor = _acquire(path, on_wait, poll)
    try:
        yield
    finally:
        _release(path, descriptor)


def _acquire(path: Path, on_wait: Callable[[], None], poll: float) -> int:
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise LockError(error.errno, error.strerror) from error
        try:
            if _try_lock(descriptor) and _is_same_file(path, descriptor):
                return descriptor
        except OSError as error:
            os.close(descriptor)
            raise LockError(error.errno, error.strerror) from error
        # Taken, or its last owner removed the file between our opening and locking it: look again.
        os.close(descriptor)
        on_wait()
        time.sleep(poll)


def _is_same_file(path: Path, descriptor: int) -> bool:
    if sys.platform == "win32":
        # An open file can't be removed there.
        return True
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(there, os.fstat(descriptor))


def _release(path: Path, descriptor: int) -> None:
    # Windows removes no open file, so it must be closed first; elsewhere the name must go while the lock
    # holds.
    if sys.platform == "win32":
        os.close(descriptor)
    try:
        path.unlink()
    except OSError as error:
        # Someone else opened it in between (Windows) or removed it. A file left over does no harm.
        log.debug("%s was not removed: %s", path, error)
    if sys.platform != "win32":
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        _lock_now(descriptor)
    except OSError as error:
        if error.errno in _TAKEN:
            return False
        if error.errno in _UNSUPPORTED:
            log.warning("this file system knows no locks (%s): don't download the same file twice at once", error)
            return True
        raise
    return True


if sys.platform == "win32":
    import msvcrt

    def _lock_now(descriptor: int) -> None:
        os.lseek(descriptor, 0, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock_now(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
