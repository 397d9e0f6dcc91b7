"""Finds checkouts of Stable-Diffusion-WebUI to test against; none is fetched or installed.

The checkout that WEBUI_PATH names, else every one in `<user cache>/comfyui-codeformer/hosts`. Each is ready to run: its
`repositories` are there, and its own environment in `venv`, as the host makes it at its first start.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from tests.nodes.hosts import cache_folder

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
            # It serves its own JavaScript from the checkout.
            return ["--always-cpu", "--gradio-allowed-path", str(self.root)]
        checkpoint = self.root / "test" / "test_files" / "empty.pt"
        return ["--no-half", "--use-cpu", "all", "--do-not-download-clip", "--ckpt", str(checkpoint)]


def found_hosts() -> list[WebUIHost]:
    """Raises ValueError when WEBUI_PATH names no checkout that can run."""
    named = os.environ.get("WEBUI_PATH")
    if named:
        if not _can_run(Path(named)):
            raise ValueError(f"WEBUI_PATH={named} is no checkout of the WebUI with launch.py, modules and {PYTHON}")
        return [WebUIHost(Path(named).resolve())]
    return [WebUIHost(folder) for folder in sorted(cache_folder().glob("hosts/*")) if _can_run(folder)]


def why_none() -> str:
    return (
        f"the tests in a real WebUI did not run: no checkout with {PYTHON} in {cache_folder() / 'hosts'}, and "
        "WEBUI_PATH is not set"
    )


def _can_run(folder: Path) -> bool:
    return (folder / "launch.py").is_file() and (folder / "modules").is_dir() and (folder / PYTHON).exists()
