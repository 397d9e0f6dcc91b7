"""`codeformer bulk`."""

from __future__ import annotations

import importlib

import pytest

from codeformer_core import cli
from codeformer_core.commands import tools
from codeformer_core.commands.bulk import estimate_lines
from codeformer_core.commands.demo import EXAMPLE
from codeformer_core.pipeline.bulk import packages
from codeformer_core.pipeline.bulk.estimate import Estimate

from .cheap import CheapModels, image_bytes, write_images
from .test_local import files_below, records_of

QUICK = ["--mask", "box", "--color-match", "off", "--when-worse", "paste", "--detail", "0", "--engine", "local"]


@pytest.fixture
def cheap(monkeypatch):
    monkeypatch.setattr(tools, "name_models", lambda args, console: (CheapModels(), "box", ()))


def test_an_archive_is_restored_and_accounted_for(tmp_path, cheap, capsys):
    source, target = tmp_path / "in", tmp_path / "out"
    write_images(source, 3)
    (source / "b.txt").write_text("")
    command = ["bulk", str(source), "-o", str(target), *QUICK]
    assert cli.main(command) == 0
    out = capsys.readouterr().out
    assert "3 images = 3 done + 0 failed + 0 unchanged" in out and "1 file left out: 1 .txt" in out
    (source / "c.png").write_bytes(b"broken")
    assert cli.main(command) == 1
    told = capsys.readouterr()
    assert "4 images = 0 done + 1 failed + 3 unchanged" in told.out and "failures.csv says why" in told.err
    assert cli.main([*command, "--upscale", "2"]) == 1
    assert "made with other settings (upscale: 1.0, now 2.0)" in capsys.readouterr().err


def test_a_dry_run_writes_nothing(tmp_path, cheap, capsys):
    source, target = tmp_path / "in", tmp_path / "out"
    write_images(source, 6)
    command = ["bulk", str(source), "-o", str(target), *QUICK, "--dry-run", "--sample", "3", "--price", "2"]
    assert cli.main(command) == 0
    out = capsys.readouterr().out
    assert "6 images, 0 of them finished; 3 tried" in out and "1.00 faces" in out and "cost: about" in out
    assert not target.exists() and len(files_below(source)) == 6


def test_an_estimate_counts_what_works_side_by_side():
    seconds = {"preparing": 0.3, "restoring": 1.0, "finishing": 0.1, "writing": 0.0}
    found = Estimate(1_000_100, 100, 32, 1, 1.5, seconds, 2e6, 3e6)
    assert found.time(cores=14) == pytest.approx(1e5) and found.disk == 3e12
    # A GPU restores while the cores prepare.
    assert found.time(cores=16, gpus=1) == pytest.approx(1e6) and found.time(cores=1, gpus=4) == pytest.approx(4e5)
    lines = estimate_lines(found, 14, "cpu", 3.6)
    assert "27:46:40 on 14 cores" in lines[2] and "3,000.00 GB" in lines[3] and "100.00 at 3.6" in lines[4]


@pytest.mark.slow
def test_the_models_that_come_with_the_package_restore_a_photo(tmp_path, capsys):
    source, target = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    (source / "a.jpg").write_bytes(EXAMPLE.read_bytes())
    names = ["--model", "codeformer_starter", "--detector", "yunet"]
    assert cli.main(["bulk", str(source), "-o", str(target), "--engine", "local", "--dtype", "float32", *names]) == 0
    assert "1 done" in capsys.readouterr().out and (target / "a.jpg").exists()
    (record,) = records_of(target)
    (face,) = [face for face in record["faces"] if face["restored"]]
    assert record["restorer"].startswith("codeformer_starter") and record["fidelity"] == 1
    assert 0 < face["identity"] < 0.6 and 0 < face["shown"] <= 1
    assert face["sharpness_after"] / face["sharpness_before"] == pytest.approx(face["sharpness"], rel=0.02)


def test_missing_packages_are_named(tmp_path, cheap, monkeypatch, capsys):
    def missing(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(packages, "importlib", type("Without", (), {"import_module": staticmethod(missing)}))
    write_images(tmp_path / "in", 1)
    command = ["bulk", str(tmp_path / "in"), "-o", str(tmp_path / "out"), *QUICK, "--engine", "ray"]
    assert cli.main(command) == 1
    assert "pip install 'comfyui-codeformer[bulk]'" in capsys.readouterr().err
    assert cli.main([*command, "--engine", "auto"]) == 0
    assert importlib.import_module("ray")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--to", "zip"], "invalid choice"),
        (["--pack", "0"], "at least 1"),
        (["--regions", "eyes", "--mask", "box"], "takes the place of --mask"),
        (["--person", "a.jpg", "--not-person", "b.jpg"], "contradict"),
    ],
)
def test_wrong_words_are_refused(tmp_path, capsys, words, said):
    assert cli.main(["bulk", str(tmp_path), "-o", str(tmp_path / "out"), *words]) == 2
    assert said in capsys.readouterr().err


def test_a_folder_without_images_is_an_error(tmp_path, cheap, capsys):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.doc").write_bytes(image_bytes(1))
    assert cli.main(["bulk", str(tmp_path / "in"), "-o", str(tmp_path / "out"), *QUICK]) == 1
    assert "the folder holds no images, only 1 .doc" in capsys.readouterr().err
