"""Many files in one command: folders with their structure, continued batches, and what is known before the work."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from codeformer_core import cli
from codeformer_core.commands import preflight
from codeformer_core.imaging import files

from .picture_files import noise, picture

ROOT = Path(__file__).parents[2]
GRAY = (90, 90, 90)


@pytest.fixture
def restore(gain_file, capsys):
    """Runs `restore` on aligned faces -> (exit code, lines of stdout, lines of stderr)."""

    def run(*words: object) -> tuple[int, list[str], list[str]]:
        code = cli.main(["restore", "--aligned", "--device", "cpu", "--model", str(gain_file), *map(str, words)])
        said = capsys.readouterr()
        return code, said.out.splitlines(), said.err.splitlines()

    return run


def photo(path: Path, size: tuple[int, int] = (12, 8), colour: tuple[int, int, int] = GRAY) -> Path:
    """Of one colour, which a restorer leaves as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, {".apng": "PNG", ".mpo": "JPEG"}.get(path.suffix))
    return path


def files_in(folder: Path) -> list[str]:
    """With those that are hidden."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


# --- which files -----------------------------------------------------------------------------------------------------


def test_recursive_keeps_the_structure_and_leaves_out_its_own_results(restore, tmp_path):
    for name in ("a.png", "x/b.jpg", "x/deep/b.jpg", "y/c.webp", ".hidden/d.png"):
        photo(tmp_path / "in" / name)
    out = tmp_path / "in" / "restored"
    assert restore(tmp_path / "in", "-o", out, "--recursive")[0] == 0
    expected = ["a.png", "x/b.jpg", "x/deep/b.jpg", "y/c.webp"]
    assert files_in(out) == expected
    code, lines, _ = restore(tmp_path / "in", "-o", out, "--recursive", "--skip-existing")
    assert code == 0 and lines == ["4 of 4 images have their results already"]
    assert files_in(out) == expected


def test_a_folder_says_what_it_left_out_by_kind_and_count(restore, tmp_path):
    photo(tmp_path / "in" / "a.png")
    for name in ("c.HEIC", "d.jp2", "e.heic", "notes", ".DS_Store"):
        (tmp_path / "in" / name).write_bytes(b"x")
    for name in ("x/b.jpg", "x/deep/c.jpg", "y/d.png"):
        photo(tmp_path / "in" / name)
    (tmp_path / "in" / "x" / "f.psd").write_bytes(b"x")
    _, _, said = restore(tmp_path / "in", "-o", tmp_path / "out")
    (note,) = [line for line in said if line.startswith("note: ") and "left out" in line]
    assert note.startswith(f"note: {tmp_path / 'in'}: 4 files left out: 2 .heic, 1 .jp2, 1 without ending; ")
    assert note.endswith("2 folders inside with 3 images left out (--recursive takes them)")
    _, _, said = restore(tmp_path / "in", "-o", tmp_path / "all", "--recursive")
    (note,) = [line for line in said if "left out" in line]
    assert note.endswith("5 files left out: 2 .heic, 1 .jp2, 1 .psd, 1 without ending")
    _, _, said = restore(tmp_path / "in" / "*", "-o", tmp_path / "more")
    assert "4 files left out: 2 .heic" in "\n".join(said)


def test_a_folder_without_pictures_says_what_it_holds(restore, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "c.HEIC").write_bytes(b"x")
    photo(tmp_path / "in" / "below" / "a.png")
    code, _, said = restore(tmp_path / "in", "-o", tmp_path / "out")
    assert code == 2 and "the folder holds no images" in said[-1]
    assert said[-1].endswith("1 file left out: 1 .heic; 1 folder inside with 1 image left out (--recursive takes them)")


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights on Windows")
def test_linked_folders_are_not_followed_and_named(restore, tmp_path):
    photo(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "round").symlink_to(tmp_path / "in", target_is_directory=True)
    _, _, said = restore(tmp_path / "in", "-o", tmp_path / "out", "--recursive")
    assert f"the linked folder {tmp_path / 'in' / 'round'} is not followed" in "\n".join(said)
    assert files_in(tmp_path / "out") == ["a.png"]


def test_formats_are_told_by_content(restore, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jpg").write_bytes(picture(noise(), "PNG"))
    (tmp_path / "in" / "b.jpg").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(90))
    code, _, said = restore(tmp_path / "in", "-o", tmp_path / "out")
    assert code == 1 and "b.jpg: is a HEIC file, which is not read; convert it" in "\n".join(said)
    assert Image.open(tmp_path / "out" / "a.jpg").format == "JPEG"


def test_results_that_would_get_one_name_keep_their_old_ending(restore, tmp_path):
    for name in ("a.png", "a.gif", "a.apng", "b.gif"):
        photo(tmp_path / "in" / name)
    assert restore(tmp_path / "in", "-o", tmp_path / "out", "--compare")[0] == 0
    pictures = ["a.apng.png", "a.gif.png", "a.png", "b.png"]
    assert files_in(tmp_path / "out") == sorted(
        [*pictures, "a_compare.png", "a.gif_compare.png", "a.apng_compare.png", "b_compare.png"]
    )
    photo(tmp_path / "in" / "a.jpg")
    assert restore(tmp_path / "in", "-o", tmp_path / "png", "--format", "png")[0] == 0
    assert files_in(tmp_path / "png") == ["a.apng.png", "a.gif.png", "a.jpg.png", "a.png", "b.png"]
    (tmp_path / "in" / "a.gif").unlink()
    (tmp_path / "in" / "a.apng").unlink()
    assert restore(tmp_path / "in", "-o", tmp_path / "pair", "--compare")[0] == 0
    assert files_in(tmp_path / "pair")[:4] == ["a.jpg", "a.jpg_compare.png", "a.png", "a.png_compare.png"]


def test_format_writes_all_results_so(restore, tmp_path):
    for name in ("a.png", "b.jpeg", "c.bmp"):
        photo(tmp_path / "in" / name)
    assert restore(tmp_path / "in", "-o", tmp_path / "out", "--format", "jpg")[0] == 0
    assert files_in(tmp_path / "out") == ["a.jpg", "b.jpeg", "c.jpg"]
    assert all(Image.open(path).format == "JPEG" for path in (tmp_path / "out").iterdir())
    code, _, said = restore(tmp_path / "in" / "a.png", "-o", tmp_path / "a.webp", "--format", "jpg")
    assert code == 2 and "contradict each other" in said[-1]


# --- continuing ------------------------------------------------------------------------------------------------------


def test_skip_existing_does_the_rest(restore, tmp_path):
    for name in ("a.png", "b.png", "c.png"):
        photo(tmp_path / "in" / name)
    photo(tmp_path / "out" / "b.png", colour=(1, 2, 3))
    code, lines, _ = restore(tmp_path / "in", "-o", tmp_path / "out", "--skip-existing")
    assert code == 0 and lines[0] == "1 of 3 images have their results already" and len(lines) == 3
    assert Image.open(tmp_path / "out" / "b.png").getpixel((0, 0)) == (1, 2, 3)
    code, _, said = restore(tmp_path / "in", "-o", tmp_path / "out", "--skip-existing", "--overwrite")
    assert code == 2 and "--overwrite and --skip-existing contradict each other" in said[-1]


def test_half_of_a_pair_is_not_taken_for_done(restore, tmp_path):
    photo(tmp_path / "in" / "a.png")
    photo(tmp_path / "out" / "a_compare.png")  # a process was killed behind it
    assert restore(tmp_path / "in", "-o", tmp_path / "out", "--skip-existing", "--compare")[0] == 0
    assert files_in(tmp_path / "out") == ["a.png", "a_compare.png"]


def test_leftovers_of_killed_processes_are_removed_and_those_of_others_are_not(restore, tmp_path):
    photo(tmp_path / "in" / "a.png")
    (tmp_path / "out").mkdir()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    dead = tmp_path / "out" / f".{ended.pid}-1-{files._MACHINE}.part"
    alive = tmp_path / "out" / f".{os.getpid()}-1-{files._MACHINE}.part"
    elsewhere = tmp_path / "out" / f".{ended.pid}-1-00000000.part"
    for path in (dead, alive, elsewhere):
        path.write_bytes(b"half")
    assert restore(tmp_path / "in", "-o", tmp_path / "out")[0] == 0
    assert not dead.exists() and alive.exists() and elsewhere.exists()


# A process that knows the dummy restorer, as a third party's program would.
PROGRAM = """
import sys
sys.path.insert(0, sys.argv.pop(1))
from codeformer_core import cli
from codeformer_core.models.architectures import register
from tests.core.dummy_architecture import DUMMY
register(DUMMY)
sys.exit(cli.main())
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_thousand_images_with_a_killed_process_are_each_done_once(gain_file, tmp_path):
    for number in range(1000):
        photo(tmp_path / "in" / f"{number // 100}" / f"{number:04}.png", colour=(number % 256, 9, number // 256))
    out = tmp_path / "out"
    words = ["restore", tmp_path / "in", "-o", out, "--recursive", "--skip-existing", "--aligned", "--device", "cpu"]
    command = [sys.executable, "-c", PROGRAM, ROOT, *words, "--model", gain_file]
    first = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    done = [first.stdout.readline() for _ in range(300)]
    first.send_signal(signal.SIGKILL)
    done += first.stdout.readlines()  # what it had still said
    first.wait()
    assert first.returncode == -signal.SIGKILL
    before = {name: (out / name).stat().st_mtime_ns for name in files_in(out) if name.endswith(".png")}
    assert 300 <= len(before) < 1000
    time.sleep(0.02)  # so that a file written again has another time
    second = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
    lines = second.stdout.splitlines()
    assert lines[0] == f"{len(before)} of 1000 images have their results already"
    assert len(lines) - 1 == 1000 - len(before)
    assert files_in(out) == files_in(tmp_path / "in")  # and nothing half written
    assert all((out / name).stat().st_mtime_ns == written for name, written in before.items())
    for number in (0, 299, 999):
        made = np.asarray(Image.open(out / f"{number // 100}" / f"{number:04}.png"))
        assert made[0, 0].tolist() == [number % 256, 9, number // 256]


# --- before the work -------------------------------------------------------------------------------------------------


@pytest.fixture
def unloaded(monkeypatch):
    """Fails the test if a model is loaded."""
    from codeformer_core.commands import tools

    monkeypatch.setattr(tools, "load_models", lambda *_: pytest.fail("a model was loaded"))


def command(verb: str, *words: object) -> int:
    return cli.main([verb, "--device", "cpu", *map(str, words)])


def test_format_limits_are_said_before_the_work(unloaded, tmp_path, capsys):
    photo(tmp_path / "wide.webp", (8400, 20))
    assert command("restore", tmp_path / "wide.webp", "-o", tmp_path / "out", "--upscale", 2) == 1
    err = capsys.readouterr().err
    assert "wide.webp: 16800x40 pixels are too many for WEBP, which takes 16383 a side" in err and "--format png" in err
    assert not (tmp_path / "out").exists()
    photo(tmp_path / "long.png", (70000, 2))
    for verb in ("restore", "colorize", "inpaint"):
        assert command(verb, tmp_path / "long.png", "-o", tmp_path / "out.jpg") == 1
        assert "long.png -> out.jpg: 70000x2 pixels are too many for JPEG" in capsys.readouterr().err


def test_the_published_recipe_enlarges_small_images_before_its_limits_are_asked(unloaded, tmp_path, capsys):
    photo(tmp_path / "flat.webp", (4000, 100))  # its shorter side becomes 512
    assert command("restore", tmp_path / "flat.webp", "-o", tmp_path / "out", "--parity") == 1
    assert "20480x512 pixels are too many for WEBP" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["restore", "colorize", "inpaint"])
def test_one_picture_that_can_not_be_done_is_said_first_and_the_others_go_on(verb, tmp_path, capsys, monkeypatch):
    from codeformer_core.commands import batch

    photo(tmp_path / "in" / "a.png")
    photo(tmp_path / "in" / "b.webp", (16383, 2))
    photo(tmp_path / "in" / "c.jpg")
    (tmp_path / "in" / "c.jpg").write_bytes(b"8BPS" + bytes(60))
    worked_on: list[str] = []

    def work_on(jobs, *_: object) -> int:
        worked_on.extend(job.source.name for job in jobs)
        assert "c.jpg: is a Photoshop (PSD) file" in capsys.readouterr().err
        return 0

    monkeypatch.setattr(batch, "_work_on", work_on)
    assert command(verb, tmp_path / "in", "-o", tmp_path / "out") == 1
    assert worked_on == ["a.png", "b.webp"]
    assert "1 of 3 images failed" in capsys.readouterr().err


def test_a_name_that_is_too_long_is_said_before_the_work(unloaded, tmp_path, capsys):
    name = "x" * 249 + ".gif"
    try:
        photo(tmp_path / name)
    except OSError:
        pytest.skip("this file system has no such long names")
    assert command("restore", tmp_path / name, "-o", tmp_path / "out", "--compare") == 1
    assert "is too long for its folder" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="the administrator may write everywhere")
@pytest.mark.parametrize("verb", ["restore", "colorize", "inpaint"])
def test_a_folder_that_is_not_writable_is_said_before_the_work(unloaded, tmp_path, capsys, verb):
    photo(tmp_path / "a.png")
    (tmp_path / "out").mkdir(mode=0o500)
    assert command(verb, tmp_path / "a.png", "-o", tmp_path / "out") == 2
    assert f"{tmp_path / 'out'}: can't be written to" in capsys.readouterr().err


def test_a_failing_trial_is_said_before_the_work_and_leaves_nothing(unloaded, tmp_path, capsys, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    photo(tmp_path / "a.png")
    monkeypatch.setattr(preflight.tempfile, "TemporaryFile", refuse)
    assert command("restore", tmp_path / "a.png", "-o", tmp_path / "new" / "out") == 2
    err = capsys.readouterr().err
    assert "can't be written to (Read-only file system); name another folder with -o" in err
    assert files_in(tmp_path) == ["a.png"] and not (tmp_path / "new").exists()


@pytest.mark.parametrize(("share", "code"), [(0.1, 2), (0.5, 0)])
def test_a_disk_without_room_is_said_before_the_work(restore, tmp_path, monkeypatch, share, code):
    size = photo(tmp_path / "a.png").stat().st_size
    usage = shutil.disk_usage(tmp_path)._replace(free=int(size * share))
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda _folder: usage)
    found, _, said = restore(tmp_path / "a.png", "-o", tmp_path / "out")
    assert found == code and "MiB are free" in "\n".join(said)
    assert (tmp_path / "out" / "a.png").exists() == (code == 0)


def test_holes_that_are_missing_are_said_before_the_work(unloaded, tmp_path, capsys):
    photo(tmp_path / "in" / "a.png")
    (tmp_path / "holes").mkdir()
    assert command("inpaint", tmp_path / "in", "-o", tmp_path / "out", "--holes", tmp_path / "holes") == 1
    assert "holds no image called a; add one" in capsys.readouterr().err


def test_strict_refuses_a_picture_that_is_cut_short(restore, tmp_path):
    (tmp_path / "a.jpg").write_bytes(picture(noise(), "JPEG")[:-2])
    code, _, said = restore(tmp_path / "a.jpg", "-o", tmp_path / "out")
    assert code == 0 and any("a.jpg: its end is missing; read as far as it goes" in line for line in said)
    code, _, said = restore(tmp_path / "a.jpg", "-o", tmp_path / "strict", "--strict")
    assert code == 1 and any("a.jpg: is truncated" in line for line in said)
