"""What the command line says to files, names and options that are of no use, and how it ends when it is stopped."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys

import pytest

from codeformer_core import cli
from codeformer_core.commands import errors, inputs

from .cli_fakes import (
    COLOUR,
    ROOT,
    fakes,
    middle,
    names,
    photo,
    restore,
)

__all__ = ["fakes"]


@pytest.mark.parametrize("debug", [False, True])
def test_one_bad_file_is_named_and_the_others_go_on(fakes, tmp_path, capsys, debug):
    photo(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "bad.png").write_bytes(b"this is no picture")
    photo(tmp_path / "in" / "c.png")
    assert restore(tmp_path / "in", "-o", tmp_path / "out", *(["--debug"] if debug else [])) == 1
    assert names(tmp_path / "out") == ["a.png", "c.png"]
    err = capsys.readouterr().err
    assert "bad.png: not an image" in err and "1 of 3 images failed" in err
    assert ("Traceback" in err) == debug


def test_a_full_disk_is_one_line_and_leaves_nothing(fakes, tmp_path, capsys, monkeypatch):
    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    photo(tmp_path / "a.png")
    monkeypatch.setattr(os, "fsync", fail)
    assert restore(tmp_path / "a.png", "-o", tmp_path / "out") == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(lines) == 1 and "a.png" in lines[0] and "the disk is full" in lines[0]
    assert names(tmp_path / "out") == []


@pytest.mark.parametrize(
    "words",
    [
        ["-w", "1.5"],
        ["-w", "-0.1"],
        ["--fidelity", "nan"],
        ["-w", "inf"],
        ["-w", "much"],
        ["--upscale", "0.5"],
        ["--upscale", "inf"],
        ["--confidence", "2"],
        ["--smallest-face", "-1"],
        ["--device", "toaster"],
        ["--device", "cuda:99999999999999999999"],
        ["--dtype", "float16"],
        ["--mask", "hair"],
        ["--aligned", "--upscale", "2"],
        ["--aligned", "--only-center-face"],
        ["--aligned", "--parity"],
    ],
)
def test_impossible_options_are_refused_before_anything_is_done(fakes, tmp_path, capsys, words):
    photo(tmp_path / "a.png")
    assert restore(tmp_path / "a.png", "-o", tmp_path / "out", *words) == 2
    err = capsys.readouterr().err
    option = [word for word in words if word.startswith("-") and not word[1].isdigit()][-1]
    assert option in err
    assert "Traceback" not in err
    assert fakes.calls == [] and not (tmp_path / "out").exists()


def test_inputs_that_are_not_there(fakes, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    for given, said in [("nothing.png", "no such file"), ("empty", "no images"), ("*.webp", "no image matches")]:
        assert restore(tmp_path / given, "-o", tmp_path / "out") == 2
        err = capsys.readouterr().err
        assert said in err and given in err
    assert restore("-o", tmp_path / "out") == 2
    assert cli.main([]) == 2 and cli.main(["dance"]) == 2
    assert restore(photo(tmp_path / "a.png")) == 2  # no -o
    assert not (tmp_path / "out").exists()


def test_empty_names_do_not_stand_for_the_current_folder(fakes, tmp_path, capsys, monkeypatch):
    # What a shell makes of "$forgotten".
    photo(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    assert restore("", "-o", "out") == 2
    assert "one of the inputs is an empty name" in capsys.readouterr().err
    assert restore("a.png", "-o", "") == 2
    assert "-o is given an empty name" in capsys.readouterr().err
    assert names(tmp_path) == ["a.png"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_not_waited_for(fakes, tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe.png")
    assert restore(tmp_path / "pipe.png", "-o", tmp_path / "out") == 2
    assert "pipe.png: a pipe or device" in capsys.readouterr().err


def test_results_where_none_can_be(fakes, tmp_path, capsys):
    photo(tmp_path / "a.png")
    (tmp_path / "file").write_text("")
    assert restore(tmp_path / "a.png", "-o", tmp_path / "out.gif") == 2
    assert "out.gif: can't be written as .gif; use one of .png" in capsys.readouterr().err
    assert restore(tmp_path / "a.png", "-o", tmp_path / "file" / "out") == 1
    err = capsys.readouterr().err
    assert f"{tmp_path / 'file' / 'out'}: this folder can't be made" in err and "-o" in err
    assert names(tmp_path) == ["a.png", "file"]


def test_existing_results_are_kept_unless_told_otherwise(fakes, tmp_path, capsys):
    photo(tmp_path / "in" / "a.png")
    photo(tmp_path / "in" / "b.png")
    photo(tmp_path / "out" / "b.png", (7, 8, 9))
    assert restore(tmp_path / "in", "-o", tmp_path / "out") == 2
    err = capsys.readouterr().err
    assert str(tmp_path / "out" / "b.png") in err and "--overwrite" in err
    assert names(tmp_path / "out") == ["b.png"] and middle(tmp_path / "out" / "b.png") == [7, 8, 9]
    assert restore(tmp_path / "in", "-o", tmp_path / "out", "--overwrite") == 0
    assert middle(tmp_path / "out" / "b.png") == [255, 255, 255]


def test_two_pictures_for_one_name_and_results_on_top_of_sources(fakes, tmp_path, capsys):
    one, two = photo(tmp_path / "x" / "a.png"), photo(tmp_path / "y" / "a.png")
    assert restore(one, two, "-o", tmp_path / "out") == 2
    err = capsys.readouterr().err
    assert str(one) in err and str(two) in err
    assert restore(one, "-o", tmp_path / "x", "--overwrite") == 2
    assert "replace the source" in capsys.readouterr().err
    photo(tmp_path / "y" / "a_compare.png")
    assert restore(tmp_path / "y", "-o", tmp_path / "out", "--compare") == 2
    assert restore(one, two, "-o", tmp_path / "out.png") == 2
    assert restore(tmp_path / "x", "-o", tmp_path / "out.png") == 2
    (tmp_path / "file").write_text("")
    assert restore(one, "-o", tmp_path / "file") == 2
    assert middle(one) == list(COLOUR) and not (tmp_path / "out").exists()


def test_names_with_pattern_characters_and_hidden_files(tmp_path):
    odd = photo(tmp_path / "a[1].png")
    photo(tmp_path / "a1.png")
    photo(tmp_path / ".hidden.png")
    assert inputs.expand_inputs([str(odd)]) == [odd]
    assert inputs.expand_inputs([str(tmp_path)]) == [tmp_path / "a1.png", odd]


def test_ctrl_c_keeps_what_is_done_and_leaves_nothing_half_written(fakes, tmp_path, capsys, monkeypatch):
    calls = itertools.count()

    def interrupt(descriptor: int) -> None:
        if next(calls) == 1:
            raise KeyboardInterrupt

    for name in ("a.png", "b.png", "c.png"):
        photo(tmp_path / "in" / name)
    monkeypatch.setattr(os, "fsync", interrupt)
    assert restore(tmp_path / "in", "-o", tmp_path / "out") == 130
    assert names(tmp_path / "out") == ["a.png"]
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends a program without asking it")
@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_request_to_end_leaves_nothing_half_written(fakes, tmp_path, capsys, monkeypatch, name, code):
    number = getattr(signal, name)
    # Under nohup it is ignored, which is respected.
    signal.signal(number, signal.SIG_DFL)
    photo(tmp_path / "a.png")
    monkeypatch.setattr(os, "fsync", lambda _descriptor: os.kill(os.getpid(), number))
    assert restore(tmp_path / "a.png", "-o", tmp_path / "out") == code
    assert names(tmp_path / "out") == [] and f"stopped by {name}" in capsys.readouterr().err
    assert signal.getsignal(number) == signal.SIG_DFL


def test_ctrl_c_before_anything_has_begun(capsys, monkeypatch):
    def interrupt(*_words: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.importlib, "import_module", interrupt)
    assert cli.main(["restore", "a.png", "-o", "out"]) == 130
    assert capsys.readouterr().err == "codeformer: stopped\n"


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 4.47 GiB for an array with shape (20000, 20000, 3)"),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"),
    ],
)
def test_out_of_memory_says_what_helps(fakes, tmp_path, capsys, monkeypatch, error):
    def fail(*_arguments: object, **_options: object) -> None:
        raise error

    monkeypatch.setattr(fakes.restorer, "restore", fail)
    photo(tmp_path / "a.png")
    assert restore(tmp_path / "a.png", "-o", tmp_path / "out") == 1
    lines = capsys.readouterr().err.splitlines()[-1:]
    assert "a.png: out of memory; use a smaller image or a smaller --upscale" in lines[0]
    assert "unexpected" not in lines[0] and names(tmp_path / "out") == []


def test_a_package_that_is_not_there_is_named_with_its_cure():
    error = ModuleNotFoundError("No module named 'PIL.Image'", name="PIL.Image")
    assert errors.one_line(error) == "the package 'PIL' is not installed. Run pip install pillow"


def test_closed_output_is_no_error(fakes, tmp_path, monkeypatch):
    photo(tmp_path / "a.png")
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert restore(tmp_path / "a.png", "-o", tmp_path / "out") == 0
    assert names(tmp_path / "out") == ["a.png"]


def test_a_name_that_steers_a_terminal_is_shown_harmlessly(tmp_path, capsys):
    assert restore(tmp_path / "a\x1b[31mred.png", "-o", tmp_path / "out") == 2
    err = capsys.readouterr().err
    assert "a?[31mred.png" in err and "\x1b" not in err


def test_a_name_without_letters_in_the_terminal_is_shown_with_marks(tmp_path):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    (tmp_path / "süß.pth").write_text("x")
    answer = subprocess.run(
        [sys.executable, "-m", "codeformer_core", "weights", "verify", tmp_path / "süß.pth"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0 and "s??.pth" in answer.stdout and answer.stderr == ""


# --- models ----------------------------------------------------------------------------------------------------------
