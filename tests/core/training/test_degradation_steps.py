"""Each step of the degradation against an independent computation in numpy."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch

from codeformer_core.degradation import PRESETS, Degradation, brush_mask, degrade_on_cpu, draw
from codeformer_core.degradation.color import change_colors
from codeformer_core.degradation.device import blur_batch
from codeformer_core.degradation.draw import Blur, Colors, Drawn, Stroke
from codeformer_core.degradation.kernels import gaussian_kernels, kernel_side
from codeformer_core.degradation.noise import normals, normals_batch
from codeformer_core.degradation.resize import resize_batch

CPU = torch.device("cpu")
TURNED = Blur(6.0, 2.5, 0.7)


def test_kernel_is_a_rotated_gaussian():
    """From the covariance matrix, point by point."""
    turn = np.array([[math.cos(0.7), -math.sin(0.7)], [math.sin(0.7), math.cos(0.7)]])
    inverse = np.linalg.inv(turn @ np.diag([6.0**2, 2.5**2]) @ turn.T)
    expected = np.zeros((41, 41))
    for row in range(41):
        for column in range(41):
            point = np.array([column - 20, row - 20])  # x to the right, y downwards
            expected[row, column] = math.exp(-0.5 * point @ inverse @ point)
    kernels = gaussian_kernels([None, TURNED], kernel_side(512))
    assert kernels.shape == (2, 41, 41) and kernels.dtype == np.float32
    np.testing.assert_allclose(kernels[1], expected / expected.sum(), atol=1e-9)
    assert kernels[0, 20, 20] == kernels[0].sum() == 1


@pytest.mark.parametrize(("size", "side"), [(512, 41), (256, 21), (64, 5), (8, 3), (1024, 81)])
def test_kernel_side_follows_the_face(size, side):
    assert kernel_side(size) == side


def test_blur_is_a_weighted_mean_with_mirrored_borders():
    face = np.random.default_rng(0).uniform(0, 255, (48, 48, 3)).astype(np.float32)
    kernel = gaussian_kernels([TURNED], 15)[0].astype(np.float64)
    mirrored = np.pad(face.astype(np.float64), ((7, 7), (7, 7), (0, 0)), mode="reflect")
    expected = sum(
        kernel[row, column] * mirrored[row : row + 48, column : column + 48]
        for row in range(15)
        for column in range(15)
    )
    batch = torch.from_numpy(face).permute(2, 0, 1)[None]
    by_fft = blur_batch(batch, torch.from_numpy(kernel[None]).float())[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(by_fft, expected, atol=2e-4)
    by_opencv = cv2.filter2D(face, -1, kernel.astype(np.float32), borderType=cv2.BORDER_REFLECT_101)
    np.testing.assert_allclose(by_opencv, expected, atol=2e-4)


@pytest.mark.parametrize(("size", "new"), [(64, 13), (64, 64), (9, 64), (1, 8), (8, 1), (50, 25), (33, 32)])
def test_resize_of_one_row(size, new):
    """`np.interp` between the pixels' middles; both paths, along both axes, beside a face of another size."""
    row = np.random.default_rng(1).uniform(0, 255, size).astype(np.float32)
    middles = (np.arange(new) + 0.5) * size / new - 0.5
    expected = np.interp(middles, np.arange(size), row)
    square = np.repeat(np.repeat(row[None, :, None], size, 0), 3, 2)
    np.testing.assert_allclose(cv2.resize(square, (new, new))[0, :, 0], expected, atol=2e-3)
    canvas = torch.full((2, 3, 70, 70), 1e4)
    canvas[0, :, :size, :size] = torch.from_numpy(square).permute(2, 0, 1)
    canvas[1, :, :size, :size] = torch.from_numpy(square).permute(2, 1, 0)
    along, across = resize_batch(canvas, [size, size], [new, new])
    np.testing.assert_allclose(along[1, -1, :].numpy(), expected, atol=1e-4)
    np.testing.assert_allclose(across[1, :, -1].numpy(), expected, atol=1e-4)
    beside = resize_batch(canvas, [size, 70], [new, 35])
    torch.testing.assert_close(beside[0, :, :new, :new], along)


def test_noise_is_normal_and_independent():
    count = 3 * 300 * 300
    numbers = normals(123456789012345678, count).astype(np.float64)
    error = 1 / math.sqrt(count)
    assert abs(numbers.mean()) < 4 * error
    assert numbers.std() == pytest.approx(1, abs=4 * error)
    assert (numbers**3).mean() == pytest.approx(0, abs=4 * error * math.sqrt(15))
    assert (numbers**4).mean() == pytest.approx(3, abs=4 * error * math.sqrt(96))
    share_below = [(numbers < edge).mean() for edge in (-2, -1, 0, 1, 2)]
    np.testing.assert_allclose(share_below, [0.02275, 0.15866, 0.5, 0.84134, 0.97725], atol=4 * error)
    picture = numbers.reshape(300, 300, 3)
    other = normals(123456789012345679, count).astype(np.float64).reshape(picture.shape)
    far = normals(123456789012345678 + 2**31, count).astype(np.float64).reshape(picture.shape)
    pairs = {
        "neighbours in a row": (picture[:, 1:], picture[:, :-1]),
        "neighbours in a column": (picture[1:], picture[:-1]),
        "red and green": (picture[..., 0], picture[..., 1]),
        "green and blue": (picture[..., 1], picture[..., 2]),
        "red and blue": (picture[..., 0], picture[..., 2]),
        "seeds that differ in the lowest bit": (picture, other),
        "seeds that differ in the upper half": (picture, far),
        "sizes of neighbours": (np.abs(picture[:, 1:]) - 0.8, np.abs(picture[:, :-1]) - 0.8),
        "sizes of channels": (np.abs(picture[..., 0]) - 0.8, np.abs(picture[..., 1]) - 0.8),
    }
    for name, (one, two) in pairs.items():
        correlation = np.corrcoef(one.ravel(), two.ravel())[0, 1]
        assert abs(correlation) < 4.5 / math.sqrt(one.size), name


def test_noise_has_no_visible_rhythm():
    """No frequency stands out: the strongest of n exponentially distributed powers is about ln n times the mean."""
    numbers = normals(42, 2**18).astype(np.float64)
    powers = np.abs(np.fft.rfft(numbers))[1:-1] ** 2 / numbers.size
    assert powers.max() < 2 * math.log(powers.size)


@pytest.mark.parametrize("count", [1, 2, 7, 4800])
def test_noise_is_the_same_in_numpy_and_torch(count):
    seeds = [0, 1, 987654321, 2**62 - 1, 2**31]
    batch = normals_batch(seeds, count, CPU).numpy()
    for row, seed in zip(batch, seeds, strict=True):
        np.testing.assert_allclose(row, normals(seed, count), atol=4e-6)
        np.testing.assert_array_equal(normals(seed, count), normals(seed, 5000)[:count])
    with pytest.raises(ValueError, match="from 0 to 2\\^62 - 1"):
        normals(-1, 4)


def test_noise_has_the_stated_deviation():
    gray = np.full((256, 256, 3), 128, np.uint8)
    drawn = draw(Degradation(None, None, (12, 12), None), 256, torch.Generator().manual_seed(0))
    difference = degrade_on_cpu(gray, drawn).astype(float) - 128
    # Rounding to whole levels adds a variance of 1/12.
    np.testing.assert_allclose(difference.std((0, 1)), math.sqrt(12**2 + 1 / 12), rtol=0.015)
    np.testing.assert_allclose(difference.mean((0, 1)), 0, atol=0.2)
    assert abs(np.corrcoef(difference[..., 0].ravel(), difference[..., 1].ravel())[0, 1]) < 0.02


def test_colors_in_their_order():
    """Shift, then brightness and contrast as drawn, then gray, all by hand."""
    levels = np.random.default_rng(2).uniform(0, 255, (8, 8, 3))
    weights = np.array([0.2989, 0.587, 0.114])
    image = np.clip(levels / 255 + np.array([20, -10, 5]) / 255, 0, 1)
    image = np.clip(image * 1.3, 0, 1)
    image = np.clip(0.6 * image + 0.4 * (image @ weights).mean(), 0, 1)
    batch = torch.from_numpy(levels).float().permute(2, 0, 1)
    adjustments = (("brightness", 1.3), ("contrast", 0.6))
    colored = change_colors(batch, Colors((20, -10, 5), adjustments, gray=False))
    np.testing.assert_allclose(colored.permute(1, 2, 0).numpy(), image * 255, atol=1e-3)
    gray = change_colors(batch, Colors((20, -10, 5), adjustments, gray=True))
    assert gray.shape == (3, 8, 8) and gray[0].equal(gray[1]) and gray[0].equal(gray[2])
    np.testing.assert_allclose(gray[0].numpy(), image @ weights * 255, atol=1e-3)
    other_order = change_colors(batch, Colors((20, -10, 5), adjustments[::-1], gray=False))
    assert not torch.allclose(other_order, colored, atol=1)


def test_brush_covers_what_is_near_its_way():
    """Every pixel within half a width of the way, and none beyond, by distances in numpy."""
    points = ((20.0, 30.0), (90.0, 40.0), (60.0, 110.0))
    mask = brush_mask(Drawn(size=128, strokes=(Stroke(24.0, points),)))
    y, x = np.mgrid[:128, :128]
    pixels = np.stack([x, y], -1).astype(float)
    distance = np.full((128, 128), np.inf)
    for start, end in zip(np.array(points), np.array(points[1:]), strict=False):
        way = end - start
        share = np.clip(((pixels - start) @ way) / (way @ way), 0, 1)
        distance = np.minimum(distance, np.linalg.norm(pixels - start - share[..., None] * way, axis=-1))
    assert mask[distance < 10.5].all()
    assert not mask[distance > 13.5].any()


def test_inpainting_paints_white_and_leaves_the_rest():
    face = np.random.default_rng(3).integers(0, 255, (512, 512, 3)).astype(np.uint8)
    shares = []
    for seed in range(20):
        drawn = draw(PRESETS["inpainting"], 512, torch.Generator().manual_seed(seed))
        assert 1 <= len(drawn.strokes) <= 3
        for stroke in drawn.strokes:
            assert 8 <= len(stroke.points) <= 27 and 30 <= stroke.width <= 70
            assert np.min(stroke.points) >= 0 and np.max(stroke.points) <= 512
        painted, mask = degrade_on_cpu(face, drawn), brush_mask(drawn)
        assert (painted[mask] == 255).all()
        assert (painted[~mask] == face[~mask]).all()
        shares.append(mask.mean())
    assert min(shares) > 0.02
    assert max(shares) < 0.95
