"""`restore` on the command line: upscalers, and how faces are pasted."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from spandrel.architectures.Compact import Compact
from torch import Tensor

import codeformer_core as cf
from codeformer_core import cli
from codeformer_core.imaging import tensors as imaging
from codeformer_core.imaging.files import read_image
from codeformer_core.models import loading

from .conftest import GivenDetector, placed_face
from .others import filled

SIZE = 160
FACE = placed_face(80, 80, 26)


@dataclass
class Painter:
    """Makes every face green."""

    tasks: tuple[str, ...] = ("restoration",)
    uses_fidelity: bool = True
    needs_landmarks: bool = False
    name: str = "painter.pth"
    module: torch.nn.Module = field(default_factory=torch.nn.Identity)
    recommended_fidelity: float = 0.5
    bytes_per_face: int = 0
    casts_weights: bool = False

    def on(self, device: torch.device) -> Painter:
        return self

    def faces_at_once(self) -> int:
        return 1

    def restore(self, faces_B3HW: Tensor, fidelity: float = 0.5, component_boxes_B44: Tensor | None = None) -> Tensor:
        return torch.tensor((-1.0, 0.5, -1.0)).view(3, 1, 1).expand_as(faces_B3HW)


@dataclass
class HalfParser:
    """Takes the left half of a crop for skin and the rest for a nose."""

    name: str = "half parser"
    module: torch.nn.Module = field(default_factory=torch.nn.Identity)

    def bytes_for(self, faces_B3HW: Tensor) -> int:
        return 0

    def parse(self, faces_B3HW: Tensor) -> Tensor:
        labels_BHW = torch.full((len(faces_B3HW), *faces_B3HW.shape[2:]), 2, dtype=torch.uint8)
        labels_BHW[..., : faces_B3HW.shape[3] // 2] = 1
        return labels_BHW


@pytest.fixture
def models(monkeypatch, tmp_path) -> Path:
    """The folder for upscalers, with one in it that doubles; other models are fakes."""
    monkeypatch.setattr(loading, "load_restorer", lambda path, device, dtype, *, operations, task: Painter())
    monkeypatch.setattr(loading, "load_detector", lambda path, device: GivenDetector(((FACE,),)))
    monkeypatch.setattr(loading, "load_parser", lambda path, device: HalfParser())
    monkeypatch.setenv("CODEFORMER_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "models" / "upscale_models"
    folder.mkdir(parents=True)
    save_file(filled(Compact(num_feat=4, num_conv=1, upscale=2)), folder / "double.safetensors")
    return folder


@pytest.fixture
def photo(tmp_path) -> Path:
    pixels = np.random.default_rng(3).integers(60, 200, (SIZE // 8, SIZE // 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((SIZE, SIZE), Image.Resampling.BICUBIC).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.fixture
def restored(photo, tmp_path) -> Callable[..., np.ndarray]:
    def run(*words: object) -> np.ndarray:
        out = tmp_path / "out.png"
        mask = () if "--regions" in words else ("--mask", "outline")
        # The fakes' faces are pasted as they are, whatever they are like.
        as_they_are = ("--when-worse", "paste", "--color-match", "off")
        command = ["restore", photo, "-o", out, "--device", "cpu", "--overwrite", *as_they_are, *mask, *words]
        assert cli.main(list(map(str, command))) == 0
        return np.asarray(Image.open(out).convert("RGB")).astype(float)

    return run


def refused(photo: Path, *words: object) -> int:
    command = ["restore", str(photo), "-o", str(photo.parent / "out"), "--device", "cpu", *map(str, words)]
    code = cli.main(command)
    assert not (photo.parent / "out").exists()
    return code


# --- upscalers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["name", "path"])
def test_the_background_is_redrawn(models, photo, restored, capsys, by):
    file = "double.safetensors" if by == "name" else models / "double.safetensors"
    plain, redrawn = restored("--upscale", 2), restored("--upscale", 2, "--background-upscaler", file, "--tile", 128)
    expected_HW3 = cf.load_upscaler(models / "double.safetensors")(read_image(photo).image_HWC[None])[0]
    assert redrawn.shape == plain.shape == (2 * SIZE, 2 * SIZE, 3)
    assert np.abs(redrawn[:40] - expected_HW3[:40].numpy() * 255).max() <= 1
    assert np.abs(redrawn[:40] - plain[:40]).mean() > 10
    assert np.array_equal(redrawn[150:170, 150:170], plain[150:170, 150:170])  # inside the face
    said = capsys.readouterr().out.splitlines()
    assert ", background by double.safetensors" in said[1] and ", background" not in said[0]


def test_upscale_alone_sets_the_size(models, photo, restored):
    redrawn = restored("--background-upscaler", "double.safetensors")
    large_1HW3 = cf.load_upscaler(models / "double.safetensors")(read_image(photo).image_HWC[None])
    expected_HW3 = imaging.resize(large_1HW3, SIZE, SIZE, mode="bicubic")[0].clamp(0, 1) * 255
    assert redrawn.shape == (SIZE, SIZE, 3) and np.abs(redrawn[:20] - expected_HW3[:20].numpy()).max() <= 1


def test_gray_and_transparent_pictures(models, photo, tmp_path):
    upscale = ["--upscale", "2", "--background-upscaler", "double.safetensors", "--mask", "outline", "--device", "cpu"]
    for mode in ("L", "RGBA"):
        Image.open(photo).convert(mode).save(tmp_path / f"{mode}.png")
        assert cli.main(["restore", str(tmp_path / f"{mode}.png"), "-o", str(tmp_path / "out"), *upscale]) == 0
        made = Image.open(tmp_path / "out" / f"{mode}.png")
        assert made.mode == mode and made.size == (2 * SIZE, 2 * SIZE)


def test_one_file_for_background_and_faces_is_loaded_once(models, restored, monkeypatch):
    loads: list[Path] = []
    load = loading.load_upscaler

    def noted(path: Path, device: torch.device, dtype: torch.dtype, **options: int | None) -> object:
        loads.append(path)
        assert dtype == torch.bfloat16 and options == {"tile": None}
        return load(path, device, dtype, **options)

    monkeypatch.setattr(loading, "load_upscaler", noted)
    words = ["--upscale", 6, "--dtype", "bfloat16"]
    both = restored(*words, "--background-upscaler", "double.safetensors", "--face-upscaler", "double.safetensors")
    background = restored(*words, "--background-upscaler", "double.safetensors")
    assert len(loads) == 2
    assert np.array_equal(both[:100], background[:100])
    middle = slice(450, 510)
    assert np.abs(both[middle, middle] - background[middle, middle]).mean() > 5


@pytest.mark.parametrize("option", ["--background-upscaler", "--face-upscaler"])
@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("gone.pth", "'gone.pth' is not on this machine"),
        ("folder/gone.pth", "there is no such file"),
        ("realesrgan_x2plus", "RealESRGAN_x2plus.pth is not on this machine: add --download"),
        ("photo.png", "photo.png is a PNG image"),
    ],
)
def test_what_is_no_upscaler_is_said_before_the_first_picture(models, photo, capsys, monkeypatch, option, file, said):
    monkeypatch.chdir(photo.parent)
    assert refused(photo, option, file) == 1
    lines = capsys.readouterr().err.splitlines()
    assert said in lines[-1] and sum("codeformer:" in line for line in lines) == 1


@pytest.mark.parametrize(
    "words",
    [
        ["--background-upscaler", "double.safetensors", "--tile", "127"],
        ["--background-upscaler", "double.safetensors", "--tile", "many"],
        ["--tile", "200"],
        ["--aligned", "--background-upscaler", "double.safetensors"],
        ["--aligned", "--face-upscaler", "double.safetensors"],
        ["--grow", "300"],
        ["--feather", "-1"],
        ["--opacity", "1.1"],
        ["--color-match", "all"],
        ["--regions", "skin,tail"],
        ["--regions", ","],
        ["--mask", "box", "--regions", "skin"],
        ["--aligned", "--regions", "skin"],
        ["--aligned", "--chroma-only"],
        ["--parity", "--grow", "3"],
        ["--parity", "--feather", "3"],
        ["--parity", "--chroma-only"],
        ["--parity", "--color-match", "mean-std"],
        ["--parity", "--regions", "skin"],
    ],
)
def test_impossible_options_are_refused_before_anything_is_done(models, photo, capsys, words):
    assert refused(photo, *words) == 2
    err = capsys.readouterr().err
    option = [word for word in words if word.startswith("--")][-1]
    assert option in err or option[2:].replace("chroma-only", "colour only").replace("-", " ") in err
    assert "Traceback" not in err


# --- pasting ---------------------------------------------------------------------------------------------------------


def green(pixels: np.ndarray) -> np.ndarray:
    """Where a restored face shows."""
    return (pixels[..., 1] > 150) & (pixels[..., 0] < 60) & (pixels[..., 2] < 60)


def test_the_masks_edge_moves_and_fades(models, restored):
    plain, larger, smaller = (green(restored(*words)).sum() for words in ((), ("--grow", 20), ("--grow", -20)))
    assert 0 < smaller < 0.8 * plain and 1.2 * plain < larger
    assert green(restored("--feather", 60)).sum() < plain


def test_opacity(models, photo, restored):
    before = np.asarray(Image.open(photo)).astype(float)
    half = restored("--opacity", 0.5)[80, 80]
    assert np.abs(half - (before[80, 80] + restored()[80, 80]) / 2).max() <= 1
    assert np.array_equal(restored("--opacity", 0.5, "--parity", "--mask", "box").shape, (512, 512, 3))


def test_colours(models, photo, restored):
    before, middle = np.asarray(Image.open(photo)).astype(float), slice(70, 90)
    luma = np.array([0.299, 0.587, 0.114])
    chroma = restored("--chroma-only")[middle, middle]
    assert np.abs(chroma @ luma - before[middle, middle] @ luma).mean() < 12
    assert chroma[..., 1].mean() > before[middle, middle, 1].mean() + 10
    for how in ("mean-std", "low-frequency"):
        matched = restored("--color-match", how)[middle, middle]
        assert np.abs(matched.mean((0, 1)) - before[middle, middle].mean((0, 1))).max() < 40, how


def test_regions_take_the_masks_place(models, restored, capsys):
    folder = models.parent / "facedetection"
    folder.mkdir()
    (folder / "parsing_parsenet.pth").touch()
    skin = green(restored("--regions", "skin"))
    both = green(restored("--regions", "skin, nose"))
    assert skin[80, 60] and not skin[80, 100] and both[80, 60] and both[80, 100]
    assert "mask: skin by half parser" in capsys.readouterr().out


def test_regions_without_parsenet_are_the_meshs_or_an_error_with_the_cure(models, photo, restored, capsys):
    assert refused(photo, "--regions", "skin, hair") == 1
    err = capsys.readouterr().err
    assert "parsing_parsenet.pth" in err and "--download" in err
    assert os.listdir(photo.parent / "models") == ["upscale_models"]
    restored("--regions", "skin")
    assert "parser face_mesh, because parsenet is not installed" in capsys.readouterr().err
