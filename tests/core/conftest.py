"""What the core tests share: golden files, and networks small enough to run in milliseconds."""

from __future__ import annotations

import importlib.util
import json
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from codeformer_core.faces.geometry import TEMPLATE_XY
from codeformer_core.faces.types import Face
from codeformer_core.models import architectures
from codeformer_core.models.architectures import detect_architecture
from codeformer_core.models.codeformer.convert import to_published
from codeformer_core.models.saving import save_network
from codeformer_core.networks.codeformer import CodeFormer, CodeFormerConfig
from codeformer_core.networks.vqgan import AutoencoderConfig, VQAutoencoder
from codeformer_core.pipeline.options import PasteOptions

from .dummy_architecture import DUMMY, Gain, GainConfig

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

# For pictures of 64 pixels: milliseconds per run.
SMALL_CONFIG = CodeFormerConfig(
    autoencoder=AutoencoderConfig(
        image_size=64,
        base_channels=32,
        channel_multipliers=(1, 2, 1),
        residual_blocks=2,
        attention_sizes=(16,),
        codebook_size=24,
        code_channels=32,
    ),
    width=32,
    layers=2,
    heads=8,
    mlp_width=48,
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


def random_network() -> CodeFormer:
    torch.manual_seed(0)
    return CodeFormer(TINY_CONFIG)


def seeded_network(config: CodeFormerConfig | AutoencoderConfig, seed: int = 0) -> VQAutoencoder:
    """Every parameter random, so that none can be lost, swapped or left out unseen."""
    network = CodeFormer(config) if isinstance(config, CodeFormerConfig) else VQAutoencoder(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            spread = 1.0 if name == "codebook.weight" else 1 / math.sqrt(max(parameter[0].numel(), 16))
            noise = torch.randn(parameter.shape, generator=generator) * spread
            parameter.copy_(1 + noise if "norm" in name and name.endswith("weight") else noise)
    return network.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def tiny_restorer(tiny_state):
    import codeformer_core as cf

    return cf.load_restorer(tiny_state)


@pytest.fixture(scope="session")
def tiny_network(tiny_state):
    return detect_architecture(tiny_state, "tiny").build(tiny_state)


@pytest.fixture
def registered(monkeypatch) -> None:
    """The dummy, and after the test nobody knows it again."""
    monkeypatch.setattr(architectures, "ARCHITECTURES", architectures.ARCHITECTURES)
    architectures.register(DUMMY)


@pytest.fixture
def gain_file(registered, tmp_path) -> Path:
    """A network for faces of 512 pixels, as its training would write it."""
    network = Gain(GainConfig(512))
    network.load_state_dict({"gain.weight": torch.tensor([-1.0, 0.5, 0.25]).view(3, 1, 1, 1)})
    save_network(tmp_path / "gain.safetensors", network, network.config, "restoration", fidelity=0.25)
    return tmp_path / "gain.safetensors"


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


def placed_face(x: float, y: float, eye_distance: float, degrees: float = 0, score: float = 0.9) -> Face:
    """An undistorted face: the template shrunk to `eye_distance`, turned clockwise, its crop's middle at (x, y)."""
    size = eye_distance / math.dist(TEMPLATE_XY[0], TEMPLATE_XY[1])
    cosine, sine = size * math.cos(math.radians(degrees)), size * math.sin(math.radians(degrees))
    # The middle of 512 pixels lies between the pixels 255 and 256.
    points = [
        (x + cosine * (u - 255.5) - sine * (v - 255.5), y + sine * (u - 255.5) + cosine * (v - 255.5))
        for u, v in TEMPLATE_XY.tolist()
    ]
    reach = 1.2 * eye_distance
    return Face((x - reach, y - reach, x + reach, y + reach), tuple(points), score)


@dataclass(frozen=True)
class GivenDetector:
    """Finds in every picture the faces it was given; `per_image` in turn when there are several lists."""

    per_image: tuple[tuple[Face, ...], ...]
    name: str = "given"
    default_confidence: float = 0.5
    module: None = None

    def detect(self, images_BHWC: Tensor, confidence: float | None = None) -> list[list[Face]]:
        # The pictures of a batch are told apart by their first pixel's red, set by the tests.
        if len(self.per_image) == 1:
            return [list(self.per_image[0]) for _ in images_BHWC]
        return [list(self.per_image[round(float(image[0, 0, 0]) * 255)]) for image in images_BHWC]


@dataclass(frozen=True)
class InvertingRestorer:
    """Stands for a network in tests of everything around it: restored := 1 - crop."""

    name: str = "inverting"
    tasks: tuple[str, ...] = ("restoration",)
    uses_fidelity: bool = True
    recommended_fidelity: float = 0.5
    needs_landmarks: bool = False

    def faces_at_once(self) -> int:
        return 1

    def restore(self, faces_B3HW: Tensor, fidelity: float = 0.5, component_boxes_B44: Tensor | None = None) -> Tensor:
        return -faces_B3HW


def as_it_is(mask: str = "face", opacity: float = 1.0, **options: Any) -> dict[str, Any]:
    """Options of `restore_images` with which a restorer's face is pasted as it is, whatever it is like."""
    paste = PasteOptions(mask=mask, opacity=opacity, color_match="off")  # type: ignore[arg-type]
    return {"when_worse": "paste", "paste": paste, **options}
