"""The demo: restores with a model that is there, and says what is missing and shows the faces where it isn't."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file

from codeformer_core import cli
from codeformer_core.commands import demo
from codeformer_core.models import loading
from codeformer_core.models.files import ModelFiles
from codeformer_core.models.kinds import DETECTOR
from codeformer_core.runtime.host import FixedFolders
from codeformer_core.weights.download import DownloadError

# What a machine without any models finds faces with.
BUNDLED_DETECTOR = ModelFiles(FixedFolders(())).auto(DETECTOR)


@pytest.fixture(autouse=True)
def own_folders(monkeypatch, tmp_path):
    monkeypatch.setenv("CODEFORMER_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_restores_the_example(tmp_path, tiny_state, capsys):
    save_file(tiny_state, tmp_path / "tiny.safetensors")
    assert cli.main(["demo", "-o", str(tmp_path / "out"), "--model", str(tmp_path / "tiny.safetensors")]) == 0
    before = np.asarray(Image.open(demo.EXAMPLE).convert("RGB"))
    after = np.asarray(Image.open(tmp_path / "out" / "example_restored.png").convert("RGB"))
    compare = Image.open(tmp_path / "out" / "example_compare.png")
    assert after.shape == before.shape
    # Random weights do harm: the face is left as it was, and the trial shows why.
    assert np.array_equal(after, before)
    assert compare.size == (2 * before.shape[1], before.shape[0])
    said = capsys.readouterr().out
    assert "1 face found, 0 restored" in said and "left as it was" in said
    assert f"detector: {BUNDLED_DETECTOR}" in said
    assert "put to the test on 1 face" in said and "WORSE than leaving it alone" in said
    assert "make demo MODEL=codeformer" not in said


def unreachable(*_args, **_options):
    raise DownloadError("codeformer.pth could not be downloaded: no network")


def test_by_itself_it_downloads_nothing_and_says_what_would_be_better(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("codeformer_core.models.files.download", unreachable)
    assert cli.main(["demo", "-o", str(tmp_path)]) == 0
    pictures = ("restored", "compare", "trial", "colorized", "filled")
    assert all((tmp_path / f"example_{name}.png").is_file() for name in pictures)
    said = capsys.readouterr()
    assert said.err == ""
    for words in (
        "1 face found, 1 restored",
        "restored by codeformer_starter.safetensors",
        "put to the test on 1 face",
        "colours taken away and given back",
        "strokes over",
    ):
        assert words in said.out
    assert "codeformer.pth gives better faces" in said.out and "make demo MODEL=codeformer" in said.out


def test_without_the_model_says_which_file_and_shows_the_faces(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("codeformer_core.models.files.download", unreachable)
    assert cli.main(["demo", "-o", str(tmp_path), "--model", "codeformer"]) == 0
    said = capsys.readouterr()
    assert "not restored: codeformer.pth could not be downloaded" in said.err
    assert f"1 face(s) found by {BUNDLED_DETECTOR}" in said.out
    assert "without --model the demo restores with the starter" in said.out
    drawn = np.asarray(Image.open(tmp_path / "example_faces.png").convert("RGB"))
    assert (drawn == demo.BOX_COLOUR).all(-1).sum() > 500


def test_an_installed_package_has_no_example(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(demo, "EXAMPLE", tmp_path / "absent.jpg")
    assert cli.main(["demo"]) == 2
    assert "name a photo" in capsys.readouterr().err


def test_a_model_that_is_wrong_is_an_error(tmp_path, capsys):
    (tmp_path / "wrong.pth").write_text("not a checkpoint")
    assert cli.main(["demo", "-o", str(tmp_path / "out"), "--model", str(tmp_path / "wrong.pth")]) == 1
    assert "wrong.pth" in capsys.readouterr().err


def test_yunet_stands_in_where_facexlib_is_broken(tmp_path, monkeypatch, tiny_state, capsys):
    def load_detector(path, device):
        if path.suffix != ".onnx":
            raise ImportError("the package 'facexlib' is installed but does not import")
        return real(path, device)

    real = loading.load_detector
    monkeypatch.setattr(loading, "load_detector", load_detector)
    best = tmp_path / "models" / "facedetection" / "detection_Resnet50_Final.pth"
    best.parent.mkdir(parents=True)
    best.touch()
    save_file(tiny_state, tmp_path / "tiny.safetensors")
    assert cli.main(["demo", "-o", str(tmp_path / "out"), "--model", str(tmp_path / "tiny.safetensors")]) == 0
    said = capsys.readouterr()
    assert "facexlib" in said.err and "detector: yunet" in said.out
