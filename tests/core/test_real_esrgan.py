"""The published RealESRGAN_x4plus: sharper than a resize, true to the image, without seams."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import codeformer_core as cf
from codeformer_core.imaging.tensors import resize
from codeformer_core.imaging.tiles import MIN_TILE, make_tiles
from codeformer_core.models.upscaler import ImageUpscaler

from .conftest import GOLDEN, read_rgb
from .real_esrgan import real_esrgan_x4plus

pytestmark = pytest.mark.slow
HEIGHT, WIDTH = 64, 192


@pytest.fixture(scope="module")
def upscaler() -> ImageUpscaler:
    return cf.load_upscaler(real_esrgan_x4plus())


@pytest.fixture(scope="module")
def small_1HW3() -> Tensor:
    """Two faces of a photo, four times smaller and saved as JPEG."""
    photo_HW3 = read_rgb(GOLDEN / "photos" / "composite__group09.jpg")[64:405, 200:1224]
    levels_HW3 = (resize(photo_HW3[None], HEIGHT, WIDTH)[0] * 255).round().byte().numpy()
    file = io.BytesIO()
    Image.fromarray(levels_HW3).save(file, "JPEG", quality=80)
    return torch.from_numpy(np.asarray(Image.open(file)).copy()).float()[None] / 255


@pytest.fixture(scope="module")
def large_1HW3(upscaler, small_1HW3) -> Tensor:
    return dataclasses.replace(upscaler, tile=2 * WIDTH)(small_1HW3)


def sharpness(image_1HW3: Tensor) -> float:
    """Mean difference of neighbours."""
    return float(sum(image_1HW3.diff(dim=axis).abs().mean() for axis in (1, 2)))


def test_it_is_the_published_network(upscaler):
    found = upscaler.descriptor
    assert (upscaler.scale, found.architecture.id, found.tags) == (4, "ESRGAN", ["64nf", "23nb"])


def test_it_is_true_to_the_image_and_sharper_than_bicubic(small_1HW3, large_1HW3):
    bicubic_1HW3 = resize(small_1HW3, 4 * HEIGHT, 4 * WIDTH, mode="bicubic").clamp(0, 1)
    assert large_1HW3.shape == bicubic_1HW3.shape == (1, 4 * HEIGHT, 4 * WIDTH, 3)
    difference = resize(large_1HW3, HEIGHT, WIDTH) - small_1HW3
    # It makes images a little darker, as it is known to.
    assert difference.abs().mean() < 9 / 255 and difference.mean().abs() < 4 / 255
    assert sharpness(large_1HW3) > 1.3 * sharpness(bicubic_1HW3)


def test_no_seam_shows(upscaler, small_1HW3, large_1HW3):
    tiled_1HW3 = dataclasses.replace(upscaler, tile=MIN_TILE)(small_1HW3)
    left, right = (tile.columns for tile in make_tiles(HEIGHT, WIDTH, MIN_TILE, 16))
    assert (left.stop, right.start) == (MIN_TILE, WIDTH - MIN_TILE)
    difference = (tiled_1HW3 - large_1HW3).abs() * 255
    # The network sees farther than a tile, but what lies there counts little.
    assert difference.mean() < 0.3 and difference.max() < 20
    # Neighbouring columns differ where one tile takes over from the other no more than they did.
    middle = slice(4 * right.start, 4 * left.stop)
    whole, tiled = (
        image_1HW3[0, :, middle].diff(dim=1).abs().mean((0, 2)) * 255 for image_1HW3 in (large_1HW3, tiled_1HW3)
    )
    assert (tiled - whole).max() < 1
