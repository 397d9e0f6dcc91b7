"""`colorize` and `inpaint` on the command line: files in, files out, and what wrong words get."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from codeformer_core import cli
from codeformer_core.models import loading

from .conftest import GivenDetector, placed_face
from .facts import line_of

SIZE = 160
FACE = placed_face(80, 80, 26)
GRAY = (120, 120, 120)


@dataclass
class Painter:
    """Makes every face green; fills holes with it too."""

    tasks: tuple[str, ...]
    uses_fidelity: bool = True
    recommended_fidelity: float = 0.5
    needs_landmarks: bool = False
    name: str = "painter.pth"
    module: torch.nn.Module = field(default_factory=torch.nn.Identity)
    bytes_per_face: int = 0
    uses_fidelity: bool = True
    recommended_fidelity: float = 0.5
    casts_weights: bool = False

    def on(self, device: torch.device) -> Painter:
        return self

    def faces_at_once(self) -> int:
        return 2

    def restore(self, faces_B3HW: Tensor, fidelity: float = 0.5, component_boxes_B44: Tensor | None = None) -> Tensor:
        return torch.tensor((-1.0, 0.5, -1.0)).view(3, 1, 1).expand_as(faces_B3HW)

    def inpaint(self, faces_B3HW: Tensor, mask_B1HW: Tensor) -> Tensor:
        return torch.where(mask_B1HW > 0.5, self.restore(faces_B3HW), faces_B3HW)


@pytest.fixture
def loaded(monkeypatch, tmp_path) -> list[str]:
    """Fakes in place of the loaders; the models that were asked for."""
    asked: list[str] = []

    def load_restorer(path, device, dtype, *, operations, task):
        asked.append(path.stem)
        return Painter(("inpainting" if "inpainting" in path.stem else "colorization",))

    monkeypatch.setattr(loading, "load_restorer", load_restorer)
    monkeypatch.setattr(loading, "load_detector", lambda path, device: GivenDetector(((FACE,),)))
    for name in ("codeformer_colorization.pth", "codeformer_inpainting.pth", "my.pth"):
        file = tmp_path / "models" / "facerestore_models" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    monkeypatch.setenv("CODEFORMER_MODELS", str(tmp_path / "models"))
    return asked


def photo(path: Path, white: tuple[int, int, int, int] | None = None, colour: tuple[int, int, int] = GRAY) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", (SIZE, SIZE), colour)
    image.paste((90, 90, 90), (0, 0, 20, 20))
    if white:
        image.paste((255, 255, 255), white)
    image.save(path)
    return path


def pixel(path: Path, x: int, y: int) -> list[int]:
    return np.asarray(Image.open(path).convert("RGB"))[y, x].tolist()


def run(verb: str, *words: object) -> int:
    return cli.main([verb, "--device", "cpu", *map(str, words)])


def test_colorize_gives_colour_and_keeps_the_brightness(loaded, tmp_path, capsys):
    source = photo(tmp_path / "a.png")
    assert run("colorize", source, "-o", tmp_path / "out", "--compare") == 0
    red, green, blue = pixel(tmp_path / "out" / "a.png", 80, 80)
    assert green > red + 30 and abs(0.299 * red + 0.587 * green + 0.114 * blue - 120) < 3
    assert pixel(tmp_path / "out" / "a.png", 5, 5) == [90, 90, 90]
    assert Image.open(tmp_path / "out" / "a_compare.png").size == (2 * SIZE, SIZE)
    assert loaded == ["codeformer_colorization"]
    assert line_of("colorized_by", restorer="painter.pth") in capsys.readouterr().out


@pytest.mark.parametrize("words", [("--paste", "face", "--mask", "box"), ("--aligned",)])
def test_colorize_pastes_the_redrawn_face(loaded, tmp_path, words):
    source = photo(tmp_path / "a.png")
    assert run("colorize", source, "-o", tmp_path / "out", *words) == 0
    assert pixel(tmp_path / "out" / "a.png", 80, 80) == [0, 191, 0]


def test_inpaint_fills_white_pixels_or_what_a_picture_says(loaded, tmp_path, capsys):
    source = photo(tmp_path / "a.png", white=(70, 70, 90, 90), colour=(200, 110, 60))
    assert run("inpaint", source, "-o", tmp_path / "out") == 0
    assert pixel(tmp_path / "out" / "a.png", 80, 80) == [0, 191, 0]
    assert pixel(tmp_path / "out" / "a.png", 110, 80) == [200, 110, 60]
    holes = tmp_path / "holes" / "a.png"
    holes.parent.mkdir()
    Image.fromarray(np.pad(np.full((20, 20), 255, np.uint8), ((70, 70), (100, 40)))).save(holes)
    for number, given in enumerate((holes, holes.parent)):
        out = tmp_path / f"out{number}"
        assert run("inpaint", source, "-o", out, "--holes", given) == 0
        assert pixel(out / "a.png", 80, 80) == [255, 255, 255] and pixel(out / "a.png", 110, 80) == [0, 191, 0]
    assert run("inpaint", source, "-o", tmp_path / "crops", "--aligned") == 0
    assert pixel(tmp_path / "crops" / "a.png", 80, 80) == [0, 191, 0]
    assert "filled by painter.pth" in capsys.readouterr().out


def test_a_picture_without_holes_fails_alone(loaded, tmp_path, capsys):
    photo(tmp_path / "in" / "a.png")
    photo(tmp_path / "in" / "b.png")
    photo(tmp_path / "holes" / "b.webp")
    assert run("inpaint", tmp_path / "in", "-o", tmp_path / "out", "--holes", tmp_path / "holes") == 1
    err = capsys.readouterr().err
    assert "holds no image called a; add one" in err and "1 of 2 images failed" in err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b.png"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("inpaint", "--holes", "nowhere"), "--holes nowhere: there is no such file or folder"),
        (("inpaint", "--aligned", "--confidence", "0.5"), "--confidence: no effect with --aligned"),
        (("colorize", "--aligned", "--smallest-face", "9"), "--smallest-face: no effect with --aligned"),
        (("colorize", "--model", "codeformer_inpainting"), "colorizing faces needs one for colorization"),
        (
            ("inpaint", "--model", "my.pth"),
            "inpainting faces needs one for inpainting: choose codeformer_inpainting.pth",
        ),
        (("restore", "--model", "my.pth"), "restoring faces needs one for restoration: choose codeformer.pth"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_written(loaded, tmp_path, capsys, words, expected):
    source = photo(tmp_path / "a.png")
    assert run(words[0], source, "-o", tmp_path / "out", *words[1:]) in (1, 2)
    assert expected in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
