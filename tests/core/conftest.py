"""What the core tests share: golden files, and networks small enough to run in milliseconds."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from codeformer_core.faces.types import Face
from codeformer_core.networks.codeformer import CodeFormerConfig
from codeformer_core.networks.vqgan import AutoencoderConfig
from codeformer_core.weights.convert import to_published
from codeformer_core.weights.detect import Identity, build

GOLDEN = Path(__file__).parent.parent / "golden"

TINY_CONFIG = CodeFormerConfig(
    autoencoder=AutoencoderConfig(
        image_size=512,
        base_channels=32,
        channel_multipliers=(1, 1, 1, 2, 2, 3),
        residual_blocks=1,
        attention_sizes=(16,),
        codebook_size=48,
        code_channels=32,
    ),
    width=64,
    layers=2,
    heads=8,
    mlp_width=96,
    fuse_sizes=(32, 64),
)


@pytest.fixture(scope="session")
def golden() -> Path:
    return GOLDEN


@pytest.fixture(scope="session")
def fill():
    """tests/golden/fill.py: deterministic weights by key and shape."""
    spec = importlib.util.spec_from_file_location("golden_fill", GOLDEN / "fill.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def published_state(fill):
    """Name of a golden network -> a whole checkpoint in the published layout. The newest one is kept."""

    @lru_cache(maxsize=1)
    def make(name: str) -> dict[str, Tensor]:
        manifest = json.loads((GOLDEN / "networks" / f"{name}.json").read_text())
        return {key: torch.from_numpy(value) for key, value in fill.fill_state_dict(manifest).items()}

    return make


@pytest.fixture(scope="session")
def tiny_config() -> CodeFormerConfig:
    return TINY_CONFIG


@pytest.fixture(scope="session")
def tiny_state(fill) -> dict[str, Tensor]:
    """A small CodeFormer of odd sizes in the published layout."""
    shapes = {
        key: tuple(tensor.shape) for key, tensor in to_published(random_network().state_dict(), TINY_CONFIG).items()
    }
    return {key: torch.from_numpy(fill.fill(key, shape)) for key, shape in shapes.items()}


def random_network():
    from codeformer_core.networks.codeformer import CodeFormer

    torch.manual_seed(0)
    return CodeFormer(TINY_CONFIG)


@pytest.fixture(scope="session")
def tiny_restorer(tiny_state):
    import codeformer_core as cf

    return cf.load_restorer(tiny_state)


@pytest.fixture(scope="session")
def tiny_network(tiny_state):
    return build(tiny_state, Identity("codeformer", "restoration", "published", TINY_CONFIG))


def read_rgb(path: Path) -> Tensor:
    """(H, W, 3) float32 [0, 1] of an 8-bit picture."""
    return torch.from_numpy(np.asarray(Image.open(path).convert("RGB")).copy()).float() / 255


@pytest.fixture(scope="session")
def astronaut() -> Tensor:
    """(512, 512, 3) RGB [0, 1]; one face, at `astronaut_face`."""
    return read_rgb(GOLDEN / "pipeline" / "one_up1_input.webp")


@pytest.fixture(scope="session")
def astronaut_face() -> Face:
    case = json.loads((GOLDEN / "pipeline" / "cases.json").read_text())["one_up1"]
    return face_at(case["landmarks"][0])


def face_at(landmarks: list[list[float]]) -> Face:
    points = np.asarray(landmarks)
    (left, top), (right, bottom) = points.min(0), points.max(0)
    return Face((left, top, right, bottom), tuple(map(tuple, points.tolist())), 0.99)


@dataclass(frozen=True)
class GivenDetector:
    """Finds in every picture the faces it was given; `per_picture` in turn when there are several lists."""

    per_picture: tuple[tuple[Face, ...], ...]
    name: str = "given"
    default_confidence: float = 0.5
    module: None = None

    def detect(self, images_BHWC: Tensor, confidence: float | None = None) -> list[list[Face]]:
        # The pictures of a batch are told apart by their first pixel's red, set by the tests.
        if len(self.per_picture) == 1:
            return [list(self.per_picture[0]) for _ in images_BHWC]
        return [list(self.per_picture[round(float(image[0, 0, 0]) * 255)]) for image in images_BHWC]


@dataclass(frozen=True)
class InvertingRestorer:
    """Stands for a network in tests of everything around it: restored := 1 - crop."""

    name: str = "inverting"
    task: str = "restoration"
    device: torch.device = torch.device("cpu")
    bytes_per_face: int = 1 << 20

    def restore(self, faces_B3HW: Tensor, fidelity: float = 0.5) -> Tensor:
        return -faces_B3HW
