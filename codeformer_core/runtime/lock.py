"""A lock between processes, held on a file.

The operating system frees it when its owner ends, however it ends: a file left behind by a crash locks nothing.
"""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from filelock import BaseFileLock

log = logging.getLogger(__name__)

# Seconds between two tries at a taken lock.
POLL = 0.2
# Network file systems without locks answer with one of these.
_UNSUPPORTED = {errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOLCK}


class LockError(OSError):
    """The lock file can't be made or locked."""


@contextmanager
def locked(path: Path, on_wait: Callable[[], None], poll: float = POLL) -> Generator[None]:
    """Hold the lock file `path` during the block, and remove it afterwards.

    path: the lock file; its folder exists.
    on_wait: called before each pause while another process holds the lock; may raise to give up.
    poll: seconds between two tries.
    Raises LockError when the file can't be made. On a file system without locks a warning is logged and the block runs
    without one.
    """
    from filelock import FileLock

    lock = FileLock(path)
    while not _acquired(lock):
        on_wait()
        time.sleep(poll)
    try:
        yield
    finally:
        if lock.is_locked:
            # Removed while the lock holds, so that nobody can have locked this file in between. Windows removes no
            # open file; filelock does it there.
            with suppress(OSError):
                path.unlink()
            lock.release()


def _acquired(lock: BaseFileLock) -> bool:
    """Whether the block may run now."""
    from filelock import Timeout

    try:
        lock.acquire(blocking=False)
    except Timeout:
        return False
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise LockError(error.errno, error.strerror) from error
        log.warning("this file system has no locks (%s): don't download the same file twice at once", error)
    return True
