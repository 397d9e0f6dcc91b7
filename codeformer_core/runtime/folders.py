"""Folders by their names, in whatever case."""

from __future__ import annotations

import os
from pathlib import Path


def folders_named(parent: Path, name: str) -> list[Path]:
    """The folders in `parent` of this name, in upper or lower case, which programs don't agree about.

    The one that is spelled like `name` comes first; `parent / name` where there is none.
    """
    try:
        with os.scandir(parent) as entries:
            found = [entry.name for entry in entries if entry.name.lower() == name.lower() and entry.is_dir()]
    except OSError:
        found = []
    return [parent / each for each in sorted(found, key=lambda each: (each != name, each)) or [name]]
