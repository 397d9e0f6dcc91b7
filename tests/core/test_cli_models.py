"""Which models the command line takes, what it says about them, and when they are not there."""

from __future__ import annotations

import sys

import torch

from codeformer_core.commands import tools
from codeformer_core.models import loading
from codeformer_core.models.files import ModelFiles
from codeformer_core.models.kinds import DETECTOR
from codeformer_core.runtime.host import FixedFolders

from .cli_fakes import (
    fakes,
    photo,
    restore,
)
from .facts import line_of

__all__ = ["fakes"]


real_load_detector = loading.load_detector


def test_a_missing_model_says_which_file_from_where_to_where_and_the_short_way(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("CODEFORMER_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    photo(tmp_path / "a.png")
    assert restore(tmp_path / "a.png", "-o", tmp_path / "out", "--model", "codeformer") == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and "Traceback" not in lines[0]
    for part in ("codeformer.pth", "https://", str(tmp_path / "models" / "facerestore_models"), "--download"):
        assert part in lines[0]
    assert not (tmp_path / "out").exists()
    # No download is offered for a file of the user's own.
    assert restore(tmp_path / "a.png", "-o", tmp_path / "out", "--model", tmp_path / "gone.pth") == 1
    err = capsys.readouterr().err
    assert "gone.pth" in err and "--download" not in err


def test_the_best_installed_model_detector_and_mask_are_chosen_and_said(fakes, tmp_path, capsys):
    def chosen(*words: str) -> tuple[list[str], str, str]:
        fakes.calls.clear()
        assert restore(tmp_path / "a.png", "-o", tmp_path / "out", "--overwrite", *words) == 0
        text = capsys.readouterr()
        return [source for _, source, *_ in fakes.calls], text.err, text.out

    photo(tmp_path / "a.png")
    models = tmp_path / "models" / "facedetection"
    models.mkdir(parents=True)
    sources, err, out = chosen()
    assert sources == ["codeformer_starter", ModelFiles(FixedFolders(())).auto(DETECTOR), "face_mesh"]
    assert (
        "note: model codeformer_starter, because codeformer is not installed\nnote: codeformer_starter.safetensors is"
        in err
    )
    assert "comes with the pack; codeformer.pth gives better faces (S-Lab License 1.0, non-commercial" in err
    assert f"detector {sources[1]}, because" in err and "--download fetches what is missing" in err
    assert "parser face_mesh, because parsenet is not installed" in err
    assert line_of("mask_mesh", parser="face_mesh") in out
    # The published recipe knows ParseNet or a box.
    _, err, out = chosen("--parity")
    assert "face_mesh" not in err
    assert "mask soft box, because parsenet is not installed" in err and line_of("mask_box_instead") in out
    # An explicit choice needs no explanation.
    for mask in ("outline", "box"):
        assert "mask" not in (err := chosen("--mask", mask)[1]) and "parser" not in err
    assert "model" not in chosen("--model", "codeformer_starter")[1]
    (models / "detection_mobilenet0.25_Final.pth").touch()
    (tmp_path / "models" / "codeformer").mkdir()
    (tmp_path / "models" / "codeformer" / "codeformer.pth").touch()
    assert chosen()[0] == ["codeformer", "retinaface_mobile0.25", "face_mesh"]
    (models / "detection_Resnet50_Final.pth").touch()
    (models / "parsing_parsenet.pth").touch()
    assert chosen()[:2] == (["codeformer", "retinaface_resnet50", "parsenet"], "")
    # What is not wanted is not loaded.
    assert chosen("--mask", "outline")[0] == ["codeformer", "retinaface_resnet50"]


def test_aligned_faces_are_told_which_model_was_chosen_too(fakes, tmp_path, capsys):
    photo(tmp_path / "a.png")
    assert restore(tmp_path / "a.png", "-o", tmp_path / "out", "--aligned") == 0
    err = capsys.readouterr().err
    assert "model codeformer_starter, because codeformer is not installed" in err and "detector" not in err


def test_download_announces_each_file_with_its_licence(fakes, tmp_path, capsys):
    photo(tmp_path / "a.png")
    assert restore(tmp_path / "a.png", "-o", tmp_path / "out", "--download") == 0
    assert fakes.downloads == ["codeformer", "retinaface_resnet50", "parsenet"]
    assert [source for _, source, *_ in fakes.calls] == fakes.downloads
    out = capsys.readouterr().out
    assert "downloading codeformer.pth from https://" in out and "S-Lab" in out and "parsing_parsenet.pth" in out


def test_a_face_mask_without_parsenet_is_the_meshs_and_in_the_official_recipe_an_error(fakes, tmp_path, capsys):
    photo(tmp_path / "a.png")
    assert restore(tmp_path / "a.png", "-o", tmp_path / "out", "--mask", "face") == 0
    assert fakes.calls[-1][:2] == ("parser", "face_mesh")
    assert "parser face_mesh, because parsenet is not installed" in capsys.readouterr().err
    assert restore(tmp_path / "a.png", "-o", tmp_path / "other", "--mask", "face", "--parity") == 1
    err = capsys.readouterr().err
    assert "parsing_parsenet.pth" in err and "--download" in err


def test_a_model_of_the_wrong_kind_is_refused_once(fakes, tmp_path, capsys):
    fakes.restorer.tasks, fakes.restorer.name = ("colorization",), "codeformer_colorization.pth"
    for name in ("a.png", "b.png"):
        photo(tmp_path / "in" / name)
    assert restore(tmp_path / "in", "-o", tmp_path / "out") == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and "codeformer_colorization.pth is a model for colorization" in lines[0]


def test_a_broken_package_is_one_line_with_the_way_around(fakes, tmp_path, capsys, monkeypatch):
    def broken(path, device):
        raise ImportError("facexlib is not installed. Run pip install facexlib")

    monkeypatch.setattr(loading, "load_detector", broken)
    photo(tmp_path / "a.png")
    assert restore(tmp_path / "a.png", "-o", tmp_path / "out") == 1
    assert "pip install facexlib. --detector yunet --mask outline work without" in capsys.readouterr().err


def test_a_broken_opencv_is_said_once_and_yunet_is_no_way_around_it(fakes, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    for name in ("a.png", "b.png"):
        photo(tmp_path / "in" / name)
    assert restore(tmp_path / "in", "-o", tmp_path / "out") == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and "pip install --upgrade opencv-python" in lines[0] and "yunet" not in lines[0]
    assert not (tmp_path / "out").exists()


def test_a_wrong_onnx_file_is_said_once(fakes, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(loading, "load_detector", real_load_detector)
    (tmp_path / "other.onnx").write_bytes(b"not a network")
    for name in ("a.png", "b.png"):
        photo(tmp_path / "in" / name)
    assert restore(tmp_path / "in", "-o", tmp_path / "out", "--detector", tmp_path / "other.onnx") == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and "other.onnx" in lines[0] and "comes with this package" in lines[0]


def test_a_device_that_is_not_there(fakes, tmp_path, capsys):
    photo(tmp_path / "a.png")
    assert restore(tmp_path / "a.png", "-o", tmp_path / "out", "--device", "cuda:99") == 2
    assert "cuda:99" in capsys.readouterr().err and fakes.calls == []


def test_auto_device_is_one_that_torch_has():
    assert torch.zeros(1, device=tools.choose_device("auto")).item() == 0


# --- around it -------------------------------------------------------------------------------------------------------
