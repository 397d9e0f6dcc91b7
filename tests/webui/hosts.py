"""Finds checkouts of Stable-Diffusion-WebUI to test against; none is fetched or installed.

The checkout that WEBUI_PATH names, else every one in `<user cache>/comfyui-codeformer/hosts`. Each is ready to run: its
`repositories` are there, and its own environment in `venv`, as the host makes it at its first start.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.nodes.hosts import cache_folder

# What is large in a checkout that somebody works with, and is not looked for there by the tests' hosts.
NOT_COPIED = ("venv", "models", "output", "outputs", "extensions", "tmp", "cache")
PYTHON = "venv/Scripts/python.exe" if os.name == "nt" else "venv/bin/python"


@dataclass(frozen=True)
class WebUIHost:
    root: Path

    @property
    def name(self) -> str:
        return self.root.name

    @property
    def python(self) -> Path:
        return self.root / PYTHON

    @property
    def is_forge(self) -> bool:
        return (self.root / "modules_forge").is_dir()

    @property
    def flags(self) -> list[str]:
        """Those that start it on the CPU without a checkpoint."""
        if self.is_forge:
            # Classic doesn't know the second, and loads nothing at its start.
            knows = "--skip-load-model-at-start" in (self.root / "modules" / "cmd_args.py").read_text()
            return ["--always-cpu", *(["--skip-load-model-at-start"] if knows else [])]
        checkpoint = self.root / "test" / "test_files" / "empty.pt"
        flags = ["--no-half", "--use-cpu", "all", "--do-not-download-clip", "--skip-load-model-at-start"]
        return [*flags, "--ckpt", str(checkpoint)]

    def copied(self, folder: Path) -> Path:
        """A copy of the checkout without its environment, to run it from: it serves no file, and so none of its own
        JavaScript, from below a folder whose name begins with a dot, such as a cache."""

        def left_out(place: str, names: list[str]) -> set[str]:
            own = NOT_COPIED if Path(place) == self.root else ()
            return {name for name in names if name in (*own, "__pycache__", ".git")}

        return Path(shutil.copytree(self.root, folder, ignore=left_out, symlinks=True))


def found_hosts() -> list[WebUIHost]:
    """Raises ValueError when WEBUI_PATH names no checkout that can run."""
    named = os.environ.get("WEBUI_PATH")
    if named:
        if not _can_run(Path(named)):
            raise ValueError(f"WEBUI_PATH={named} is no checkout of the WebUI, or {PYTHON} there has no torch")
        return [WebUIHost(Path(named).resolve())]
    return [WebUIHost(folder) for folder in sorted(cache_folder().glob("hosts/*")) if _can_run(folder)]


def why_none() -> str:
    return (
        f"the tests in a real WebUI did not run: no checkout with torch in its {PYTHON} in {cache_folder() / 'hosts'}, "
        "and WEBUI_PATH is not set"
    )


def _can_run(folder: Path) -> bool:
    python = folder / PYTHON
    if not ((folder / "launch.py").is_file() and (folder / "modules").is_dir() and python.exists()):
        return False
    # An environment that borrows torch from another one outlives it.
    looking = "import importlib.util, sys; sys.exit(importlib.util.find_spec('torch') is None)"
    return subprocess.run([python, "-c", looking], check=False, timeout=60).returncode == 0
