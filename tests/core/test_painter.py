"""The painter: colours without other brightness, holes without other pixels, and its files."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

import codeformer_core as cf
from codeformer_core.models.painter.architecture import PAINTER
from codeformer_core.models.saving import save_network
from codeformer_core.networks.painter import Painter, PainterConfig, luma
from codeformer_core.networks.pixel_path import PixelPathConfig
from codeformer_core.weights.reading import WeightsError

from .others import filled

TINY = PainterConfig(patch=2, widths=(8, 12, 16), image_size=64)
FACES_B3SS = torch.rand((2, 3, 64, 64), generator=torch.Generator().manual_seed(5)) * 1.6 - 0.8


def painter(config: PainterConfig = TINY) -> Painter:
    network = Painter(config)
    network.load_state_dict(filled(network))
    return network.eval()


def half(side: int = 64) -> Tensor:
    hole_B1SS = torch.zeros((2, 1, side, side))
    hole_B1SS[..., : side // 2] = 1
    return hole_B1SS


@torch.no_grad()
def test_colours_leave_the_brightness():
    coloured_B3SS = painter().colorize(FACES_B3SS)
    assert torch.allclose(luma(coloured_B3SS), luma(FACES_B3SS), atol=1e-5)
    assert float((coloured_B3SS - FACES_B3SS).abs().mean()) > 0.01
    # Colours that came are not looked at.
    gray_B3SS = luma(FACES_B3SS).expand_as(FACES_B3SS)
    assert torch.allclose(painter().colorize(gray_B3SS), coloured_B3SS, atol=1e-5)


@torch.no_grad()
def test_only_the_hole_is_painted_and_what_lies_in_it_is_not_seen():
    network, hole_B1SS = painter(), half()
    filled_B3SS = network.fill(FACES_B3SS, hole_B1SS)
    assert torch.equal(filled_B3SS[..., 32:], FACES_B3SS[..., 32:])
    assert float((filled_B3SS - FACES_B3SS)[..., :32].abs().mean()) > 0.01
    other_B3SS = torch.where(hole_B1SS > 0.5, torch.ones(()), FACES_B3SS)
    assert torch.equal(network.fill(other_B3SS, hole_B1SS), filled_B3SS)
    whole_B1SS = torch.ones((2, 1, 64, 64))
    assert torch.isfinite(network.fill(FACES_B3SS, whole_B1SS)).all()


@torch.no_grad()
def test_a_painter_that_is_off_by_a_tint_leaves_no_rim():
    """What it is wrong by around a hole is taken from what it paints in it."""
    network = painter()
    for last in (network.conv_out.weight, network.conv_out.bias):
        torch.nn.init.zeros_(last)
    network.conv_out.bias[: TINY.patch**2] = 0.4
    flat_B3SS = torch.tensor([0.1, 0.2, -0.3])[:, None, None].expand(2, 3, 64, 64)
    assert torch.allclose(network.fill(flat_B3SS, half()), flat_B3SS, atol=0.02)


@torch.no_grad()
def test_a_face_is_painted_whole_and_a_pixel_path_lets_the_face_itself_through():
    network = painter()
    painted_B3SS = network.restore(FACES_B3SS, 0.0)
    assert painted_B3SS.shape == FACES_B3SS.shape and float((painted_B3SS - FACES_B3SS).abs().mean()) > 0.01
    assert torch.equal(network.restore(FACES_B3SS, 1.0), painted_B3SS), "without a path fidelity changes nothing"

    with_path = painter(replace(TINY, pixel_path=PixelPathConfig((1.0, 2.0), 8)))
    with_path.load_state_dict(network.state_dict(), strict=False)
    torch.nn.init.zeros_(with_path.pixel_path.gate_out.weight)
    torch.nn.init.constant_(with_path.pixel_path.gate_out.bias, 30.0)
    assert torch.allclose(with_path.restore(FACES_B3SS, 0.0), painted_B3SS, atol=1e-6)
    assert torch.allclose(with_path.restore(FACES_B3SS, 1.0), FACES_B3SS, atol=1e-4)
    halfway_B3SS = (painted_B3SS + FACES_B3SS) / 2
    assert torch.allclose(with_path.restore(FACES_B3SS, 0.5), halfway_B3SS, atol=1e-4)


def test_a_file_for_restoring_and_filling(tmp_path):
    config = replace(TINY, pixel_path=PixelPathConfig((1.0, 2.0), 8))
    network = painter(config)
    save_network(tmp_path / "both.safetensors", network, config, "restoration", also=("inpainting",))
    restorer = cf.load_restorer(tmp_path / "both.safetensors")
    assert restorer.tasks == ("restoration", "inpainting") and restorer.uses_fidelity
    assert restorer.module.config == config
    faces_B3SS, mask_B1SS = FACES_B3SS.clamp(-1, 1), half()
    expected_B3SS = network.restore(faces_B3SS, 0.25).clamp(-1, 1)
    assert torch.allclose(restorer.restore(faces_B3SS, 0.25), expected_B3SS, atol=1e-5)
    expected_B3SS = network.fill(faces_B3SS, mask_B1SS).clamp(-1, 1)
    assert torch.allclose(restorer.inpaint(faces_B3SS, mask_B1SS), expected_B3SS, atol=1e-6)


@pytest.mark.parametrize("config", [TINY, PainterConfig(patch=4, widths=(8, 12), image_size=128)])
def test_a_file_is_read_as_the_same_network(tmp_path, config: PainterConfig):
    network = painter(config)
    path = tmp_path / "painter.safetensors"
    save_network(path, network, config, "inpainting")
    restorer = cf.load_restorer(path)
    assert (restorer.architecture, restorer.tasks, restorer.task_source) == ("painter", ("inpainting",), "file")
    assert restorer.module.config == config and restorer.face_size == config.image_size
    side = config.image_size
    faces_B3SS = torch.rand((1, 3, side, side)) * 2 - 1
    mask_B1SS = half(side)[:1]
    expected_B3SS = network.fill(faces_B3SS, mask_B1SS).clamp(-1, 1)
    assert torch.allclose(restorer.inpaint(faces_B3SS, mask_B1SS), expected_B3SS, atol=1e-6)


def test_the_other_task_and_half_a_file_are_refused(tmp_path):
    path = tmp_path / "painter.safetensors"
    save_network(path, painter(), TINY, "colorization")
    with pytest.raises(ValueError, match=r"painter\.safetensors is a model for colorization; inpainting"):
        cf.load_restorer(path).inpaint(FACES_B3SS, half())
    state = painter().state_dict()
    assert PAINTER.detect(state)
    del state["middle1.conv1.weight"]
    with pytest.raises(WeightsError, match=r"looks like a face painter checkpoint.*middle1\.conv1\.weight"):
        cf.load_restorer(state)


@pytest.mark.parametrize("widths", [(), (8, 12, 16, 24, 32, 48)])
def test_sizes_that_no_painter_can_have(widths: tuple[int, ...]):
    with pytest.raises(ValueError, match="faces of 64 pixels can't be divided into patches of 2"):
        PainterConfig(patch=2, widths=widths, image_size=64)


def test_bfloat16_is_nearly_the_same():
    exact = painter()
    network = painter().to(torch.bfloat16)
    with torch.no_grad():
        wide_B3SS = exact.colorize(FACES_B3SS)
        narrow_B3SS = network.colorize(FACES_B3SS.to(torch.bfloat16)).float()
    assert float((wide_B3SS - narrow_B3SS).abs().mean()) < 0.05
