"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import threading
from pathlib import Path


def write_whole(path: Path, data: bytes) -> None:
    """Write `data` beside `path` and then take its place. Raises OSError naming `path`."""
    # In the same folder, so that the last step is one rename.
    part = path.with_name(f".{os.getpid()}-{threading.get_ident()}.part")
    begun = False
    try:
        with part.open("wb") as stream:
            begun = True
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(part, path)
    except OSError as error:
        raise OSError(error.errno, f"could not be written: {error.strerror or error}", str(path)) from error
    finally:
        if begun:
            part.unlink(missing_ok=True)
