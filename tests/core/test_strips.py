"""Large maps computed in strips and by Winograd's method equal the layers one after another."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codeformer_core.networks import strips
from codeformer_core.networks.blocks import ResidualBlock, Upsample, group_norm
from codeformer_core.networks.codeformer import ControllableFusion

FACTORY = {"device": None, "dtype": torch.float32, "operations": nn}


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


@pytest.fixture
def small_strips(monkeypatch):
    """Maps of a test's size are computed in several strips, the last one shorter, and several groups of tiles."""
    monkeypatch.setattr(strips, "MIN_MAP_SIZE", {torch.float32: 256, torch.bfloat16: 256})
    monkeypatch.setattr(strips, "_STRIP_SIZE", dict.fromkeys(strips.MIN_MAP_SIZE, 8 * 24 * 64))
    monkeypatch.setattr(strips, "_TILES_AT_ONCE", 8)
    monkeypatch.setattr(strips, "_SUMMED_PIXELS", 100)


def seeded(module: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(3)
    for parameter in module.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) / max(1, parameter[0].numel()) ** 0.5)
    return module.eval().to(memory_format=torch.channels_last)


def a_map(channels: int, images: int = 2, height: int = 28, width: int = 24) -> Tensor:
    generator = torch.Generator().manual_seed(4)
    x_BCHW = torch.randn((images, channels, height, width), generator=generator)
    # Channels with means and deviations of their own, as networks have them.
    x_BCHW = x_BCHW * (1 + torch.arange(channels).view(-1, 1, 1) % 5) + 3
    return x_BCHW.contiguous(memory_format=torch.channels_last)


def error(found: Tensor, exact: Tensor) -> float:
    assert found.shape == exact.shape
    return float((found.double() - exact).square().mean().sqrt() / exact.std())


def computed_in_strips(monkeypatch) -> list[tuple[int, int]]:
    """Will hold the channels of each convolution that goes through strips."""
    seen: list[tuple[int, int]] = []
    in_strips = strips._in_strips

    def counted(x_BCHW: Tensor, out_channels: int, *rest: object) -> Tensor:
        seen.append((x_BCHW.shape[1], out_channels))
        return in_strips(x_BCHW, out_channels, *rest)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(strips, "_in_strips", counted)
    return seen


@pytest.mark.parametrize(("channels", "made"), [(64, 64), (128, 64), (32, 48), (64, 32)])
def test_residual_blocks(channels, made, small_strips, monkeypatch):
    block, x_BCHW = seeded(ResidualBlock(channels, made, **FACTORY)), a_map(channels)
    seen, before = computed_in_strips(monkeypatch), x_BCHW.clone()
    found = block(x_BCHW)
    assert seen == [(channels, made), (made, made)] and torch.equal(x_BCHW, before)
    assert found.is_contiguous(memory_format=torch.channels_last)
    monkeypatch.setattr(strips, "MIN_MAP_SIZE", {})
    exact = block.double()(x_BCHW.double())
    assert len(seen) == 2
    # Winograd's sums cancel: a digit less than the direct way's 5e-7.
    assert error(found, exact) < 5e-6


def test_the_fusion_and_the_doubling(small_strips, monkeypatch):
    seen = computed_in_strips(monkeypatch)
    fusion, upsample = seeded(ControllableFusion(64, **FACTORY)), seeded(Upsample(64, **FACTORY))
    one, other = a_map(64), a_map(64).flip(2).contiguous(memory_format=torch.channels_last)
    fused, doubled = fusion(one, other, 0.5), upsample(one)
    assert seen == [(128, 64), (64, 64), (64, 128), (64, 64), (64, 64), (64, 64)]
    monkeypatch.setattr(strips, "MIN_MAP_SIZE", {})
    assert error(fused, fusion.double()(one.double(), other.double(), 0.5)) < 5e-6
    conv = upsample.double().conv
    exact = F.conv2d(F.interpolate(one.double(), scale_factor=2), conv.weight, conv.bias, padding=1)
    assert error(doubled, exact) < 5e-6


def test_the_last_norm_and_convolution(small_strips):
    norm, conv = seeded(group_norm(64, None, None, nn)), seeded(nn.Conv2d(64, 3, 3, padding=1))
    x_BCHW = a_map(64)
    assert isinstance(norm, nn.GroupNorm) and isinstance(conv, nn.Conv2d)
    found = strips.convolve(conv, x_BCHW, strips.norm_alone(norm, x_BCHW))
    assert error(found, conv.double()(norm.double()(x_BCHW.double()))) < 2e-6


def test_bfloat16_stays_as_near_as_its_layers(small_strips, monkeypatch):
    block, x_BCHW = seeded(ResidualBlock(64, 64, **FACTORY)), a_map(64)
    exact = block.double()(x_BCHW.double())
    block.bfloat16()
    in_strips = block(x_BCHW.bfloat16())
    monkeypatch.setattr(strips, "MIN_MAP_SIZE", {})
    plain = block(x_BCHW.bfloat16())
    assert in_strips.dtype == torch.bfloat16
    assert error(in_strips, exact) < 1.3 * error(plain, exact) < 0.02


def test_where_layers_go_their_own_way(small_strips):
    """With gradients, a host's layers, weights of another precision, other layouts and sizes."""

    class OfHost(nn.Conv2d):
        pass

    conv, x_BCHW = nn.Conv2d(64, 64, 3, padding=1), a_map(64)
    assert strips.pays(x_BCHW, conv)
    assert not strips.pays(x_BCHW, OfHost(64, 64, 3, padding=1))
    assert not strips.pays(x_BCHW, nn.Conv2d(64, 64, 3, padding=1, dtype=torch.bfloat16))
    assert not strips.pays(x_BCHW.contiguous(), conv)
    assert not strips.pays(x_BCHW.half(), conv)
    assert not strips.pays(a_map(64, height=26), conv)
    assert not strips.pays(a_map(64, height=8, width=8), conv)
    with torch.enable_grad():
        assert not strips.pays(x_BCHW, conv)
