"""Gives a ComfyUI checkout an environment of its own that can run it.

Environments lie in `<cache>/environments`, never in the checkout. One shares this Python's torch and the pack's
dependencies, which are gigabytes, and adds the host's other requirements under constraints that fit the shared torch.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from .hosts import BrokenHost, Host, NoHost, cache_folder, last_line, run

INSTALL_SECONDS = 1200
IMPORT_SECONDS = 300
# Hundreds of megabytes of pictures for the browser; the server starts without them.
NOT_NEEDED = ("comfyui-workflow-templates", "comfyui-embedded-docs")
# What the shared torch decides the version of.
FITTING = ("torch", "torchvision", "torchaudio")
# How many releases of torchaudio are tried, from the newest that can fit downwards.
TORCHAUDIO_TRIES = 5


@cache
def environment_python(host: Host) -> Path:
    """The Python that runs `host`, set up on first use.

    Raises BrokenHost when that can't be done, NoHost when there is no torch to share.
    """
    requirements = _requirements(host)
    shared = _shared_packages()
    constraints = _constraints()
    stamp_text = hashlib.sha256("\n".join([*requirements, shared, *constraints, sys.version]).encode()).hexdigest()
    folder = _environment_folder(host)
    stamp = folder / "installed-requirements"
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if stamp.is_file() and stamp.read_text() == stamp_text and python.exists():
        return python
    try:
        _make(folder, python, shared)
        if any(_name(line) == "torchaudio" for line in requirements):
            constraints.append(f"torchaudio=={_install_torchaudio(python)}")
        (folder / "constraints.txt").write_text("\n".join(constraints) + "\n")
        install = [str(python), "-m", "pip", "install", "--quiet", "-c", str(folder / "constraints.txt")]
        run([*install, *requirements], INSTALL_SECONDS)
        _assert_shared_torch(python, shared)
    except (OSError, subprocess.SubprocessError) as error:
        raise BrokenHost(
            f"ComfyUI {host.version} in {host.root} has no environment: {folder} could not be set up "
            f"({last_line(error)})"
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


def _make(folder: Path, python: Path, shared: str) -> None:
    """An environment that sees the packages in `shared` after its own."""
    made_for = folder / f"python-{sys.version_info.major}.{sys.version_info.minor}"
    if not made_for.exists():
        shutil.rmtree(folder, ignore_errors=True)
        run([sys.executable, "-m", "venv", str(folder)], INSTALL_SECONDS)
        made_for.touch()
    packages = run([str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], 60).strip()
    (Path(packages) / "shared-with-the-tests.pth").write_text(shared + "\n")


def _install_torchaudio(python: Path) -> str:
    """Installs the newest torchaudio that loads beside the shared torch and returns its version.

    torchaudio counts like torch but is released less often, and a release may name no torch and yet not load beside
    the newest one. So what decides is whether it can be imported. Without dependencies: one may be another torch.
    """
    torch = _version("torch").partition("+")[0]
    limit, problem = f"<={torch}", ""
    for _ in range(TORCHAUDIO_TRIES):
        try:
            run([str(python), "-m", "pip", "install", "--quiet", "--no-deps", f"torchaudio{limit}"], INSTALL_SECONDS)
        except subprocess.CalledProcessError:
            if not problem:
                raise
            break  # there is no older one
        found = [str(python), "-c", "import importlib.metadata as m; print(m.version('torchaudio'))"]
        version = run(found, IMPORT_SECONDS).strip()
        try:
            run([str(python), "-c", "import torchaudio"], IMPORT_SECONDS)
        except subprocess.CalledProcessError as error:
            limit = f"<{version.partition('+')[0]}"
            problem = f"{version}: {last_line(error)}"
        else:
            return version
    raise OSError(f"no torchaudio loads beside torch {torch}; the last one tried is {problem}")


def _assert_shared_torch(python: Path, shared: str) -> None:
    """One torch for all: another one would be gigabytes, and the pack would be tested with what nobody chose."""
    origin = run([str(python), "-c", "import torch; print(torch.__file__)"], IMPORT_SECONDS).strip()
    if not Path(origin).is_relative_to(shared):
        raise OSError(f"it runs with the torch in {origin} and not with the one in {shared}")


def _environment_folder(host: Host) -> Path:
    place = hashlib.sha256(str(host.root).encode()).hexdigest()[:8]
    return cache_folder() / "environments" / f"{host.root.name}-{place}"


def _requirements(host: Host) -> list[str]:
    lines = (line.split("#")[0].strip() for line in (host.root / "requirements.txt").read_text().splitlines())
    return [line for line in lines if line and not line.startswith(NOT_NEEDED)] + ["requests"]


def _name(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0].lower()


def _constraints() -> list[str]:
    """Lines for pip that keep what is shared as it is."""
    shared = [name for name in FITTING if name != "torchaudio" and importlib.util.find_spec(name)]
    return [f"{name}=={_version(name)}" for name in shared]


def _version(name: str) -> str:
    return importlib.metadata.version(name)


def _shared_packages() -> str:
    """The folder of installed packages that this Python's torch lies in."""
    torch = importlib.util.find_spec("torch")
    if torch is None or torch.origin is None:
        raise NoHost("the tests in a real ComfyUI did not run: torch is not installed beside pytest")
    return str(Path(torch.origin).parents[1])
