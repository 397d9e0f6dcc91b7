"""Fakes for tests of the command line: models that cost nothing, and photos."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from codeformer_core import cli
from codeformer_core.faces.types import Face
from codeformer_core.models import files, loading
from codeformer_core.weights.catalog import find_entry

ROOT = Path(__file__).parents[2]
SIZE = 96
FACE = Face((20, 20, 76, 76), ((36, 40), (60, 40), (48, 52), (38, 64), (58, 64)), 0.9)
SMALL = Face((80, 80, 88, 88), ((82, 83), (86, 83), (84, 85), (82, 87), (86, 87)), 0.9)


@dataclass
class FakeRestorer:
    """Turns every face white; fast, and easy to find in a picture."""

    tasks: tuple[str, ...] = ("restoration",)
    uses_fidelity: bool = True
    needs_landmarks: bool = False
    name: str = "fake.pth"
    recommended_fidelity: float = 0.5
    fidelities: list[float] = field(default_factory=list)
    module: torch.nn.Module = field(default_factory=torch.nn.Identity)
    bytes_per_face: int = 0
    uses_fidelity: bool = True
    casts_weights: bool = False

    def on(self, device: torch.device) -> FakeRestorer:
        return self

    def faces_at_once(self) -> int:
        return 1

    def restore(
        self, faces_B3HW: torch.Tensor, fidelity: float = 0.5, component_boxes_B44: torch.Tensor | None = None
    ) -> torch.Tensor:
        self.fidelities.append(fidelity)
        return torch.ones_like(faces_B3HW)


@dataclass
class FakeDetector:
    name: str = "fake detector"
    default_confidence: float = 0.5
    module: None = None

    def detect(self, images_BHWC: torch.Tensor, confidence: float | None = None) -> list[list[Face]]:
        # A picture that is black all over holds no face.
        return [[FACE, SMALL] if image.max() > 0 else [] for image in images_BHWC]


@dataclass
class FakeParser:
    """Takes all of a crop for the face."""

    name: str
    module: torch.nn.Module = field(default_factory=torch.nn.Identity)

    def bytes_for(self, faces_B3HW: torch.Tensor) -> int:
        return 0

    def parse(self, faces_B3HW: torch.Tensor) -> torch.Tensor:
        return torch.ones(len(faces_B3HW), *faces_B3HW.shape[2:], dtype=torch.uint8)


@pytest.fixture
def fakes(monkeypatch, tmp_path) -> argparse.Namespace:
    """Fakes in place of the loaders and of the network; what was loaded, and how, and what was downloaded."""
    loaded = argparse.Namespace(restorer=FakeRestorer(), calls=[], downloads=[])

    def loader(kind: str, model: object):
        def load(path, device, dtype=None, *, operations=None, task=None):
            entry = find_entry(path.name)
            loaded.calls.append((kind, entry.name if entry else path.name, str(device), dtype))
            return model

        return load

    def load_parser(path, device):
        loader("parser", None)(path, device)
        return FakeParser(find_entry(path.name).name)

    def download(entry, folder, on_progress):
        loaded.downloads.append(entry.name)
        on_progress(1, entry.size)
        return folder / entry.filename

    monkeypatch.setattr(loading, "load_restorer", loader("restorer", loaded.restorer))
    monkeypatch.setattr(loading, "load_detector", loader("detector", FakeDetector()))
    monkeypatch.setattr(loading, "load_parser", load_parser)
    monkeypatch.setattr(files, "download", download)
    monkeypatch.setenv("CODEFORMER_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return loaded


COLOUR = (100, 60, 160)


def photo(path: Path, colour: tuple[int, int, int] = COLOUR, mode: str = "RGB") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", (SIZE, SIZE), colour)
    if any(colour):  # of one colour it would count as a gray picture, whose faces are made gray
        image.paste((160, 200, 40), (SIZE * 3 // 4, 0, SIZE, SIZE))
    image.convert(mode).save(path)
    return path


def restore(*words: object) -> int:
    """The fakes' faces are pasted as they are, whatever they are like."""
    whole = () if "--aligned" in words else ("--when-worse", "paste", "--color-match", "off")
    return cli.main(["restore", "--device", "cpu", *whole, *map(str, words)])


def middle(path: Path) -> list[int]:
    return np.asarray(Image.open(path).convert("RGB"))[48, 48].tolist()


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder)) if folder.exists() else []
