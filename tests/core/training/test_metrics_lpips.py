"""LPIPS with a random backbone against the formula, written out here with plain convolutions."""

from __future__ import annotations

import math
import sys

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from codeformer_core.metrics.lpips import Lpips, load_lpips
from codeformer_core.weights.reading import WeightsError

lpips = pytest.importorskip("lpips")

# VGG16: the numbers of the convolutions in torchvision, channels in and out; "pool" between, "tap" behind the ReLU.
LAYERS = (
    *((0, 3, 64), (2, 64, 64), "tap", "pool", (5, 64, 128), (7, 128, 128), "tap", "pool"),
    *((10, 128, 256), (12, 256, 256), (14, 256, 256), "tap", "pool"),
    *((17, 256, 512), (19, 512, 512), (21, 512, 512), "tap", "pool"),
    *((24, 512, 512), (26, 512, 512), (28, 512, 512), "tap"),
)


def random_backbone() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    state = {}
    for layer in LAYERS:
        if isinstance(layer, tuple):
            number, before, after = layer
            spread = math.sqrt(2 / (9 * before))
            state[f"features.{number}.weight"] = torch.randn((after, before, 3, 3), generator=generator) * spread
            state[f"features.{number}.bias"] = torch.randn(after, generator=generator) * 0.1
    state["classifier.0.bias"] = torch.zeros(7)  # other layers may be there and are not looked at
    return state


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    path = tmp_path_factory.mktemp("lpips") / "vgg.safetensors"
    save_file(random_backbone(), path)
    return path


@pytest.fixture(scope="module")
def distance(backbone):
    return load_lpips(backbone)


def faces(seed: int, count: int = 2) -> torch.Tensor:
    return torch.rand((count, 3, 32, 48), generator=torch.Generator().manual_seed(seed)) * 2 - 1


def written_out(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Zhang et al. 2018, equation 1, in float64, for pictures in [-1, 1]."""
    state = {key: value.double() for key, value in random_backbone().items()}
    heads = torch.load(f"{lpips.__path__[0]}/weights/v0.1/vgg.pth", map_location="cpu", weights_only=True)

    def taps(picture: torch.Tensor) -> list[torch.Tensor]:
        # ImageNet's mean and deviation, for pictures in [-1, 1] instead of [0, 1]
        mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        shift, scale = (2 * mean - 1).double(), (2 * deviation).double()
        x, found = (picture.double() - shift.view(3, 1, 1)) / scale.view(3, 1, 1), []
        for layer in LAYERS:
            if layer == "tap":
                found.append(x / x.square().sum(1, keepdim=True).sqrt())
            elif layer == "pool":
                x = F.max_pool2d(x, 2)
            else:
                key = f"features.{layer[0]}"
                x = F.relu(F.conv2d(x, state[f"{key}.weight"], state[f"{key}.bias"], padding=1))
        return found

    total = torch.zeros(len(a), dtype=torch.float64)
    for level, (one, other) in enumerate(zip(taps(a), taps(b), strict=True)):
        weights = heads[f"lin{level}.model.1.weight"].double()
        total += ((one - other) ** 2 * weights.view(1, -1, 1, 1)).sum(1).mean((1, 2))
    return total


def test_it_is_the_formula(distance):
    a, b = faces(1), faces(2)
    found = distance(a, b)
    assert found.shape == (2, 1, 1, 1)
    torch.testing.assert_close(found.flatten().double(), written_out(a, b), rtol=1e-4, atol=1e-6)


def test_equal_pictures_have_no_distance_and_it_is_symmetric(distance):
    a, b = faces(1), faces(2)
    assert distance(a, a).abs().max() == 0
    torch.testing.assert_close(distance(a, b), distance(b, a))
    assert (distance(a, b) > 0.01).all()


def test_as_a_loss_it_reaches_the_picture_and_not_the_weights(distance):
    a = faces(1).requires_grad_()
    distance.train()
    assert not any(module.training for module in distance.modules())  # the heads' dropout stays off
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = distance(a, faces(2))
    assert value.dtype == torch.float32
    value.sum().backward()
    assert a.grad is not None and a.grad.abs().max() > 0
    assert not any(parameter.requires_grad for parameter in distance.parameters())
    torch.testing.assert_close(value, distance(faces(1), faces(2)))


def test_pictures_of_different_shapes_or_too_small_are_refused(distance):
    with pytest.raises(ValueError, match=r"\(2, 3, 32, 48\).*\(1, 3, 32, 48\)"):
        distance(faces(1), faces(2, count=1))
    with pytest.raises(ValueError, match="16 or more"):
        distance(faces(1)[..., :8], faces(2)[..., :8])


def test_the_metric_takes_faces_from_zero_to_one_and_leaves_the_random_state(backbone, distance):
    before = torch.random.get_rng_state()
    metric = Lpips(backbone)
    assert torch.equal(before, torch.random.get_rng_state())
    a, b = faces(1), faces(2)
    values = metric.measure((a + 1) / 2, (b + 1) / 2)
    torch.testing.assert_close(values, distance(a, b).flatten().double(), rtol=1e-4, atol=1e-6)


def test_other_files_are_refused_before_anything_is_built(tmp_path, monkeypatch):
    monkeypatch.setattr("lpips.lpips.LPIPS", None)
    state = random_backbone()
    del state["features.10.weight"], state["features.28.bias"]
    save_file(state, tmp_path / "part.safetensors")
    with pytest.raises(WeightsError, match=r"part\.safetensors.*lacks features\.10\.weight, features\.28\.bias"):
        load_lpips(tmp_path / "part.safetensors")
    state = random_backbone() | {"features.5.weight": torch.zeros(1)}
    save_file(state, tmp_path / "bent.safetensors")
    with pytest.raises(WeightsError, match=r"other shapes in features\.5\.weight"):
        load_lpips(tmp_path / "bent.safetensors")
    state = random_backbone()
    state["features.0.bias"][3] = math.nan
    save_file(state, tmp_path / "nan.safetensors")
    with pytest.raises(WeightsError, match=r"features\.0\.bias holds values that are NaN"):
        load_lpips(tmp_path / "nan.safetensors")
    with pytest.raises(WeightsError, match=r"nowhere\.pth is not there"):
        load_lpips(tmp_path / "nowhere.pth")


def test_without_the_package_the_error_names_it(backbone, monkeypatch):
    monkeypatch.setitem(sys.modules, "lpips.lpips", None)
    with pytest.raises(ImportError, match="lpips"):
        load_lpips(backbone)
