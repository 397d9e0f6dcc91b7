"""The command line as a program: unexpected errors, help, the bar and the log."""

from __future__ import annotations

import argparse
import io
import subprocess
import sys

import pytest

from codeformer_core import cli
from codeformer_core.commands import console, tools
from codeformer_core.models import loading
from codeformer_core.weights.reading import WeightsError

from .cli_fakes import (
    ROOT,
    fakes,
    photo,
    restore,
)

__all__ = ["fakes"]


def test_weights_is_mounted(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("CODEFORMER_MODELS", str(tmp_path))
    assert cli.main(["weights", "list"]) == 0
    assert "codeformer_inpainting" in capsys.readouterr().out


def test_unexpected_errors_are_one_line_and_debug_shows_more(fakes, tmp_path, capsys, monkeypatch):
    def fail(*_: object):
        raise AssertionError("a bug")

    monkeypatch.setattr(tools, "choose_device", fail)
    photo(tmp_path / "a.png")
    assert restore(tmp_path / "a.png", "-o", tmp_path / "out") == 1
    err = capsys.readouterr().err
    assert "AssertionError: a bug" in err and "--debug" in err and "Traceback" not in err
    assert restore(tmp_path / "a.png", "-o", tmp_path / "out", "--debug") == 1
    assert "Traceback" in capsys.readouterr().err


def test_errors_about_weights_stay_weights_errors(fakes, monkeypatch):
    def fail(path, device, dtype, **options):
        raise WeightsError("broken file x.pth")

    monkeypatch.setattr(loading, "load_restorer", fail)
    args = argparse.Namespace(
        device="cpu", dtype="float32", model="auto", detector="auto", download=False, aligned=False
    )
    with pytest.raises(WeightsError, match=r"^broken file x\.pth$"):
        tools.load_models(args, "restoration", console.Console(io.StringIO(), io.StringIO()))


@pytest.mark.parametrize("words", [["--help"], ["restore", "--help"]])
def test_help_loads_nothing_heavy(words):
    code = (
        "import sys; from codeformer_core.cli import main; code = main(sys.argv[1:]); "
        "heavy = {'torch', 'cv2', 'facexlib', 'numpy', 'PIL'} & set(sys.modules); "
        "assert not heavy, heavy; sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "restore" in done.stdout, done.stderr


def test_the_package_runs_as_a_program():
    done = subprocess.run(
        [sys.executable, "-m", "codeformer_core", "restore"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2 and "INPUT" in done.stderr


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_bar_is_drawn_in_a_terminal_only_and_gives_way_to_lines():
    out, err = io.StringIO(), Terminal()
    shown = console.Console(out, err)
    shown.progress(0.5, "1/2 a.png: restoring faces 1/2")
    assert "[############............]  50% 1/2 a.png" in err.getvalue()
    shown.progress(0.6, "too soon")
    assert "too soon" not in err.getvalue()
    shown.progress(0.7, "a new stage", at_once=True)
    assert "70% a new stage" in err.getvalue()
    shown.line("a.png done")
    assert err.getvalue().endswith("\r") and out.getvalue() == "a.png done\n"
    quiet = io.StringIO()
    console.Console(out, quiet).progress(0.5, "text")
    assert quiet.getvalue() == ""


def test_a_log_gets_a_line_now_and_then(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    out, log = io.StringIO(), io.StringIO()
    shown = console.Console(out, log)
    for seconds, text in ((0, "first"), (5, "soon"), (31, "later"), (40, "soon again"), (62, "last")):
        now[0] = 100.0 + seconds
        shown.progress(seconds / 62, text)
    assert log.getvalue().splitlines() == [" 50% later", "100% last"]


def test_file_names_that_the_terminal_cannot_show():
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    console.Console(stream, stream).line("写真.png \udcff done")
    assert raw.getvalue() == b"??.png ? done\n"
