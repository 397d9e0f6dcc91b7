"""PSNR, SSIM, gradient similarity and sharpness against small numpy computations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from codeformer_core.metrics.pixels import GRADIENT_CONSTANT, GradientSimilarity, Psnr, Sharpness, Ssim

METRICS = (Psnr(), Ssim(), GradientSimilarity())


def pairs(seed: int = 0, faces: int = 3, height: int = 40, width: int = 32):
    """Smooth faces and the same with noise that grows from face to face."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand((faces, 3, 5, 4), generator=generator)
    clean_B3HW = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    strength_B111 = torch.linspace(0.02, 0.2, faces).view(-1, 1, 1, 1)
    noise_B3HW = torch.randn(clean_B3HW.shape, generator=generator)
    return (clean_B3HW + strength_B111 * noise_B3HW).clamp(0, 1), clean_B3HW


def direct_ssim(a_HW: np.ndarray, b_HW: np.ndarray) -> float:
    """The formula of Wang et al. at every pixel, with the picture mirrored at its border."""
    height, width = a_HW.shape
    a_HW, b_HW = (np.pad(picture, 5, mode="reflect") for picture in (a_HW, b_HW))
    offsets = np.arange(11) - 5
    weights = np.exp(-0.5 * (offsets / 1.5) ** 2)
    window = np.outer(weights, weights) / weights.sum() ** 2
    values = []
    for row in range(height):
        for column in range(width):
            a, b = (picture[row : row + 11, column : column + 11] for picture in (a_HW, b_HW))
            mean_a, mean_b = (window * a).sum(), (window * b).sum()
            variance_a, variance_b = (window * (a - mean_a) ** 2).sum(), (window * (b - mean_b) ** 2).sum()
            together = (window * (a - mean_a) * (b - mean_b)).sum()
            luminance = (2 * mean_a * mean_b + 0.01**2) / (mean_a**2 + mean_b**2 + 0.01**2)
            structure = (2 * together + 0.03**2) / (variance_a + variance_b + 0.03**2)
            values.append(luminance * structure)
    return float(np.mean(values))


def test_psnr_is_its_formula():
    restored, clean = pairs()
    error = ((restored.double() - clean.double()) ** 2).mean((1, 2, 3)).numpy()
    np.testing.assert_allclose(Psnr().measure(restored, clean), 10 * np.log10(1 / error), rtol=1e-5)


def test_ssim_is_its_formula():
    restored, clean = pairs(height=24, width=20)
    expected = [
        np.mean([direct_ssim(a[channel].double().numpy(), b[channel].double().numpy()) for channel in range(3)])
        for a, b in zip(restored, clean, strict=True)
    ]
    np.testing.assert_allclose(Ssim().measure(restored, clean), expected, atol=2e-5)


def magnitude(face_3HW: np.ndarray) -> np.ndarray:
    """Of the luma's gradient, by differences of sums over three pixels."""
    height, width = face_3HW.shape[1:]
    luma = np.pad(np.tensordot((0.299, 0.587, 0.114), face_3HW, 1), 1, mode="edge")
    across = sum(luma[i : i + height, 0:width] - luma[i : i + height, 2 : width + 2] for i in range(3)) / 3
    down = sum(luma[0:height, i : i + width] - luma[2 : height + 2, i : i + width] for i in range(3)) / 3
    return np.sqrt(across**2 + down**2)


def test_gradient_similarity_is_its_formula():
    restored, clean = pairs(height=12, width=9)
    for index, value in enumerate(GradientSimilarity().measure(restored, clean)):
        g, h = magnitude(restored[index].double().numpy()), magnitude(clean[index].double().numpy())
        expected = ((2 * g * h + GRADIENT_CONSTANT) / (g**2 + h**2 + GRADIENT_CONSTANT)).mean()
        assert float(value) == pytest.approx(expected, abs=1e-5)


def test_sharpness_is_a_share_of_the_clean_faces_edges():
    restored, clean = pairs(height=12, width=9)
    values = Sharpness().measure(restored, clean)
    for index, value in enumerate(values):
        g, h = magnitude(restored[index].double().numpy()), magnitude(clean[index].double().numpy())
        assert float(value) == pytest.approx(g.mean() / h.mean(), rel=1e-4)
    assert (values.diff() > 0).all(), "noise has edges too"
    blurred = torch.nn.functional.avg_pool2d(clean, 3, 1, 1, count_include_pad=False)
    assert (Sharpness().measure(blurred, clean) < 1).all()
    single = torch.full_like(clean, 0.5)
    assert Sharpness().measure(restored, single).isnan().all()
    assert (Sharpness().measure(single, clean) < 1e-6).all()


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_more_noise_is_worse_and_a_face_does_not_depend_on_its_neighbours(metric):
    restored, clean = pairs()
    values = metric.measure(restored, clean)
    assert values.dtype == torch.float64 and values.shape == (3,)
    assert (values.diff() < 0).all() and metric.better == "higher"
    for index in range(3):
        alone = metric.measure(restored[index : index + 1], clean[index : index + 1])
        torch.testing.assert_close(alone, values[index : index + 1], rtol=1e-5, atol=1e-6)


def test_equal_faces_get_the_best_value():
    _, clean = pairs()
    assert all(math.isinf(value) for value in Psnr().measure(clean, clean))
    for metric in (*METRICS[1:], Sharpness()):
        torch.testing.assert_close(metric.measure(clean, clean), torch.ones(3, dtype=torch.float64))


@pytest.mark.parametrize("metric", (*METRICS, Sharpness()), ids=lambda metric: metric.name)
def test_wrong_inputs_are_named(metric):
    restored, clean = pairs()
    with pytest.raises(ValueError, match=r"\(3, 3, 40, 32\).*\(2, 3, 40, 32\)"):
        metric.measure(restored, clean[:2])
    with pytest.raises(ValueError, match="restored faces must lie within 0 and 1, got -"):
        metric.measure(clean * 2 - 1, clean)
    with pytest.raises(ValueError, match="restored faces must lie within"):
        metric.measure(torch.full_like(clean, math.nan), clean)
    with pytest.raises(ValueError, match="must be floats"):
        metric.measure((restored * 255).to(torch.uint8), clean)


def test_ssim_needs_its_window():
    with pytest.raises(ValueError, match="at least 11x11"):
        Ssim().measure(torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8))
