"""What a checkout costs that can't be run: one error that names it and says why; no traceback, no second try."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from . import environments
from .hosts import Host

REPOSITORY = Path(__file__).resolve().parents[2]
CONFTEST = """
import sys
from pathlib import Path
import tests.nodes.conftest, tests.nodes.server
from tests.nodes.conftest import host, measured_inside, pytest_runtest_makereport, server, small_codeformer
for module in (tests.nodes.conftest, tests.nodes.server):
    module.environment_python = lambda host: Path(sys.executable)
"""
TESTS = """
import pytest
@pytest.mark.parametrize("number", range(20))
def test_in_the_server(server, number): pass
def test_inside(measured_inside): pass
def test_without_a_host(): pass
"""
STARTS_AND_ENDS = """
import pathlib, sys
with (pathlib.Path(__file__).parent / "starts").open("a") as starts: starts.write("started\\n")
print("looking for audio")
raise OSError("/site-packages/torchaudio/_torchaudio.abi3.so: undefined symbol: torch_call")
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Looks like ComfyUI; ends while it starts."""
    folder = tmp_path / "ComfyUI"
    folder.mkdir()
    (folder / "main.py").write_text(STARTS_AND_ENDS)
    (folder / "comfyui_version.py").write_text('__version__ = "9.9.9"\n')
    (folder / "requirements.txt").write_text("torch\ntorchaudio\n")
    return folder


@pytest.mark.slow
def test_a_host_that_cannot_start_costs_one_error(checkout: Path, tmp_path: Path):
    tests = tmp_path / "tests_of_a_host"
    tests.mkdir()
    (tests / "conftest.py").write_text(CONFTEST)
    (tests / "test_it.py").write_text(TESTS)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-ra", "-p", "no:cacheprovider", "--import-mode=importlib", str(tests)],
        cwd=tests,
        env={**os.environ, "COMFYUI_PATH": str(checkout), "PYTHONPATH": str(REPOSITORY), "COLUMNS": "400"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    said = done.stdout
    assert re.search(r"= 1 passed, 20 skipped, 1 error in ", said), said + done.stderr
    (error,) = re.findall(r"^ERROR .*", said, re.MULTILINE)
    reason = f"ComfyUI 9.9.9 in {checkout} ended while starting; the last line of "
    assert "test_it.py::test_in_the_server[9.9.9-0]" in error and reason in error
    assert error.endswith(
        "server.log: OSError: /site-packages/torchaudio/_torchaudio.abi3.so: undefined symbol: torch_call"
    )
    (skips,) = re.findall(r"^SKIPPED .*", said, re.MULTILINE)
    assert skips.startswith("SKIPPED [20] ") and reason in skips
    assert "Traceback" not in said
    assert (checkout / "starts").read_text() == "started\n", "tried once"


class Pip:
    """Plays the commands of an environment in which only `loads` of torchaudio's releases can be imported."""

    def __init__(self, releases: list[str], loads: str | None) -> None:
        self.releases = releases  # newest first
        self.loads = loads
        self.asked: list[str] = []
        self.installed = ""

    def run(self, command: list[str], seconds: float) -> str:
        if command[1:3] == ["-m", "pip"]:
            assert "--no-deps" in command, "torchaudio may ask for another torch"
            self.asked.append(command[-1])
            limit = command[-1].removeprefix("torchaudio")
            fitting = [
                release
                for release in self.releases
                if (release <= limit[2:] if limit.startswith("<=") else release < limit[1:])
            ]
            if not fitting:
                raise subprocess.CalledProcessError(1, command, stderr="ERROR: No matching distribution found\n")
            self.installed = fitting[0]
        elif command[-1] == "import torchaudio" and self.installed != self.loads:
            raise subprocess.CalledProcessError(1, command, stderr="Traceback\nOSError: undefined symbol: x\n\n")
        return f"{self.installed}\n"


RELEASES = ["2.13.0", "2.11.1", "2.11.0", "2.10.0"]


@pytest.mark.parametrize(
    ("torch", "loads", "asked"),
    [
        ("2.12.1", "2.11.0", ["<=2.12.1", "<2.11.1"]),
        ("2.12.1+cpu", "2.11.1", ["<=2.12.1"]),
        ("2.10.0", "2.10.0", ["<=2.10.0"]),
    ],
)
def test_the_newest_torchaudio_that_loads_is_taken(monkeypatch, torch, loads, asked):
    pip = Pip(RELEASES, loads)
    monkeypatch.setattr(environments, "run", pip.run)
    monkeypatch.setattr(environments, "_version", lambda name: torch)
    assert environments._install_torchaudio(Path("python")) == loads
    assert pip.asked == [f"torchaudio{limit}" for limit in asked]


def test_no_torchaudio_that_loads_is_one_line_with_the_reason(monkeypatch, checkout, tmp_path):
    pip = Pip(RELEASES, None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(environments, "_make", lambda *places: None)
    monkeypatch.setattr(environments, "run", pip.run)
    monkeypatch.setattr(environments, "_version", lambda name: "2.12.1")
    with pytest.raises(environments.BrokenHost) as raised:
        environments.environment_python(Host(checkout))
    said = str(raised.value)
    assert said.startswith(f"ComfyUI 9.9.9 in {checkout} has no environment: ") and "\n" not in said
    assert "no torchaudio loads beside torch 2.12.1" in said and "2.10.0: OSError: undefined symbol: x" in said
