"""Finds ComfyUI checkouts to test against and gives each an environment of its own.

Looked for in this order: the checkout that COMFYUI_PATH names; every checkout in `<cache>/hosts`; a shallow clone put
there. Environments lie in `<cache>/environments`, never in the checkout. An environment shares this Python's torch and
the pack's dependencies, which are gigabytes, and adds the host's other requirements.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

REPOSITORY = "https://github.com/comfyanonymous/ComfyUI"
CLONE_SECONDS = 60
INSTALL_SECONDS = 1200
# Hundreds of megabytes of pictures for the browser; the server starts without them.
NOT_NEEDED = ("comfyui-workflow-templates", "comfyui-embedded-docs")


class NoHost(Exception):
    """Why there is no ComfyUI to test against: one line, shown as the reason of the skip."""


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
        _run(command, CLONE_SECONDS, environment)
        partial.rename(target)
    except (OSError, subprocess.SubprocessError) as error:
        raise NoHost(
            f"the tests in a real ComfyUI did not run: no checkout in {target.parent}, COMFYUI_PATH is not set, "
            f"and cloning {REPOSITORY} failed ({_last_line(error)})"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Host(target)


@cache
def environment_python(host: Host) -> Path:
    """The Python that runs `host`, set up on first use. Raises NoHost when its requirements can't be installed."""
    requirements = _requirements(host)
    shared = _shared_packages()
    stamp_text = hashlib.sha256("\n".join([*requirements, shared, sys.version]).encode()).hexdigest()
    folder = _environment_folder(host)
    stamp = folder / "installed-requirements"
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if stamp.is_file() and stamp.read_text() == stamp_text and python.exists():
        return python
    try:
        if not (folder / f"python-{sys.version_info.major}.{sys.version_info.minor}").exists():
            shutil.rmtree(folder, ignore_errors=True)
            _run([sys.executable, "-m", "venv", str(folder)], INSTALL_SECONDS)
            (folder / f"python-{sys.version_info.major}.{sys.version_info.minor}").touch()
        packages = _run([str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], 60).strip()
        (Path(packages) / "shared-with-the-tests.pth").write_text(shared + "\n")
        _run([str(python), "-m", "pip", "install", "--quiet", *requirements], INSTALL_SECONDS)
    except (OSError, subprocess.SubprocessError) as error:
        raise NoHost(
            f"the tests in ComfyUI {host.version} did not run: its requirements could not be installed into {folder} "
            f"({_last_line(error)})"
        ) from error
    stamp.write_text(stamp_text)
    return python


def host_environment(host: Host) -> dict[str, str]:
    """Environment variables under which `host` writes nothing into its checkout and asks nothing of the network."""
    ordinary = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return ordinary | {
        "PYTHONPYCACHEPREFIX": str(_environment_folder(host) / "pycache"),
        "PYTHONUNBUFFERED": "1",
        # On a machine that others use too, threads that wait for each other take ten times as long as one.
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "DO_NOT_TRACK": "1",
    }


def _is_checkout(folder: Path) -> bool:
    return (folder / "main.py").is_file() and (folder / "comfyui_version.py").is_file()


def _environment_folder(host: Host) -> Path:
    place = hashlib.sha256(str(host.root).encode()).hexdigest()[:8]
    return cache_folder() / "environments" / f"{host.root.name}-{place}"


def _requirements(host: Host) -> list[str]:
    lines = (line.split("#")[0].strip() for line in (host.root / "requirements.txt").read_text().splitlines())
    return [line for line in lines if line and not line.startswith(NOT_NEEDED)] + ["requests"]


def _shared_packages() -> str:
    """The folder of installed packages that this Python's torch lies in."""
    torch = importlib.util.find_spec("torch")
    if torch is None or torch.origin is None:
        raise NoHost("the tests in a real ComfyUI did not run: torch is not installed beside pytest")
    return str(Path(torch.origin).parents[1])


def _run(command: list[str], seconds: float, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        command, env=environment, timeout=seconds, check=True, text=True, capture_output=True, stdin=subprocess.DEVNULL
    )
    return done.stdout


def _last_line(error: Exception) -> str:
    said = getattr(error, "stderr", None) or str(error)
    lines = [line for line in str(said).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
