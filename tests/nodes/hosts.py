"""Finds ComfyUI checkouts to test against.

Looked for in this order: the checkout that COMFYUI_PATH names; every checkout in `<cache>/hosts`; a shallow clone put
there. environments.py gives each an environment of its own.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

REPOSITORY = "https://github.com/comfyanonymous/ComfyUI"
CLONE_SECONDS = 60
MOST_SAID = 400


class NoHost(Exception):
    """Why there is no ComfyUI to test against: one line, shown as the reason of the skip."""


class BrokenHost(Exception):
    """Why a checkout that is there can't be run: one line. One test fails with it, the host's others are skipped."""


@dataclass(frozen=True)
class Host:
    root: Path

    @property
    def version(self) -> str:
        text = (self.root / "comfyui_version.py").read_text()
        match = re.search(r'__version__ = "([^"]+)"', text)
        return match[1] if match else "unknown"


def cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or Path.home() / ".cache"
    return Path(base) / "comfyui-codeformer"


def found_hosts() -> list[Host]:
    """The checkouts on this machine, newest version last. Raises ValueError when COMFYUI_PATH names no checkout."""
    named = os.environ.get("COMFYUI_PATH")
    if named:
        if not _is_checkout(Path(named)):
            raise ValueError(f"COMFYUI_PATH={named} is no ComfyUI checkout (no main.py and comfyui_version.py in it)")
        return [Host(Path(named).resolve())]
    folders = sorted(cache_folder().glob("hosts/*"))
    hosts = [Host(folder) for folder in folders if _is_checkout(folder)]
    return sorted(hosts, key=lambda host: [int(number) for number in re.findall(r"\d+", host.version)])


@cache
def cloned_host() -> Host:
    """A fresh shallow clone in the cache, tried once per test run. Raises NoHost."""
    target = cache_folder() / "hosts" / "ComfyUI"
    partial = target.with_name(f".cloning-{os.getpid()}")
    partial.parent.mkdir(parents=True, exist_ok=True)
    command = ["git", "clone", "--quiet", "--depth", "1", REPOSITORY, str(partial)]
    environment = os.environ | {"GIT_TERMINAL_PROMPT": "0"}
    try:
        run(command, CLONE_SECONDS, environment)
        partial.rename(target)
    except (OSError, subprocess.SubprocessError) as error:
        raise NoHost(
            f"the tests in a real ComfyUI did not run: no checkout in {target.parent}, COMFYUI_PATH is not set, "
            f"and cloning {REPOSITORY} failed ({last_line(error)})"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Host(target)


def _is_checkout(folder: Path) -> bool:
    return (folder / "main.py").is_file() and (folder / "comfyui_version.py").is_file()


def run(command: list[str], seconds: float, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        command, env=environment, timeout=seconds, check=True, text=True, capture_output=True, stdin=subprocess.DEVNULL
    )
    return done.stdout


def last_line(problem: Exception | str) -> str:
    """The last line that says something, cut to a length that a summary can show."""
    said = problem if isinstance(problem, str) else getattr(problem, "stderr", None) or str(problem)
    lines = [line.strip() for line in str(said).splitlines() if line.strip()]
    return (
        lines[-1][:MOST_SAID] if lines else "nothing was said" if isinstance(problem, str) else type(problem).__name__
    )
