"""NIQE: fits recover known distributions, features and distance follow the paper, real faces rank as they should."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from codeformer_core.metrics import niqe
from codeformer_core.metrics.niqe import Niqe, PristineModel, read_pristine_model
from codeformer_core.weights.reading import WeightsError

from ...face_pictures import large_faces


def asymmetric_noise(shape: float, left: float, right: float, size: tuple[int, ...], seed: int) -> np.ndarray:
    """Draws from the asymmetric generalised Gaussian with widths left and right."""
    random = np.random.default_rng(seed)
    distance = random.gamma(1 / shape, size=size) ** (1 / shape)
    return np.where(random.random(size) < left / (left + right), -left * distance, right * distance)


@pytest.mark.parametrize("shape", [0.7, 1.0, 2.0, 4.0])
@pytest.mark.parametrize(("left", "right"), [(1.0, 1.0), (0.4, 1.1)])
def test_fits_recover_shape_and_widths(shape, left, right):
    blocks = asymmetric_noise(shape, left, right, (2, 400, 400), seed=int(10 * shape))
    found_shape, found_left, found_right = niqe.fit_asymmetric(blocks)
    np.testing.assert_allclose(found_shape, shape, rtol=0.05)
    np.testing.assert_allclose(found_left, left, rtol=0.05)
    np.testing.assert_allclose(found_right, right, rtol=0.05)


def slow_fit(values: np.ndarray) -> tuple[float, float, float]:
    """Moment matching by trying every shape; math.gamma, one block."""
    values = values.ravel()
    left, right = math.sqrt((values[values < 0] ** 2).mean()), math.sqrt((values[values > 0] ** 2).mean())
    skew = left / right
    ratio = np.abs(values).mean() ** 2 / (values**2).mean()
    wanted = ratio * (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2

    def miss(shape: float) -> float:
        return abs(math.gamma(2 / shape) ** 2 / (math.gamma(1 / shape) * math.gamma(3 / shape)) - wanted)

    shape = min((0.2 + 0.001 * step for step in range(9801)), key=miss)
    width = math.sqrt(math.gamma(1 / shape) / math.gamma(3 / shape))
    return shape, left * width, right * width


def test_features_of_a_block_one_by_one():
    block = asymmetric_noise(1.5, 1.0, 0.8, (24, 24), seed=3)
    shape, left, right = slow_fit(block)
    expected = [shape, (left + right) / 2]
    for down, aside in ((0, 1), (1, 0), (1, 1), (1, -1)):
        products = np.array(
            [[block[y, x] * block[(y - down) % 24, (x - aside) % 24] for x in range(24)] for y in range(24)]
        )
        shape, left, right = slow_fit(products)
        expected += [shape, (right - left) * math.gamma(2 / shape) / math.gamma(1 / shape), left, right]
    np.testing.assert_allclose(niqe.block_features(block[None])[0], expected, rtol=1e-9, atol=1e-12)


def test_contrast_normalisation_is_its_formula():
    picture = np.random.default_rng(0).uniform(16, 235, (9, 11))
    offsets = np.arange(7) - 3
    weights = np.exp(-0.5 * (offsets / (7 / 6)) ** 2)
    window = np.outer(weights, weights) / weights.sum() ** 2
    padded = np.pad(picture, 3, mode="edge")
    found = niqe.normalised(picture)
    for row, column in ((0, 0), (4, 5), (8, 10), (2, 9)):
        around = padded[row : row + 7, column : column + 7]
        mean = (window * around).sum()
        deviation = math.sqrt((window * (around - mean) ** 2).sum())
        assert found[row, column] == pytest.approx((picture[row, column] - mean) / (deviation + 1), rel=1e-9)
    assert (niqe.normalised(np.full((20, 20), 77.0)) == 0).all()


def test_half_size_is_a_widened_bicubic():
    """One row: the cubic kernel with a = -0.5, stretched to twice its width, the border mirrored."""
    row = np.random.default_rng(1).uniform(16, 235, 16)

    def cubic(x: float) -> float:
        x = abs(x)
        if x < 1:
            return 1.5 * x**3 - 2.5 * x**2 + 1
        return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0

    mirrored = np.pad(row, 16, mode="symmetric")
    expected = []
    for place in range(8):
        weights = np.array([cubic((index - (2 * place + 0.5)) / 2) for index in range(-16, 32)])
        expected.append((weights * mirrored).sum() / weights.sum())
    np.testing.assert_allclose(niqe.half_size(np.tile(row, (16, 1))), np.tile(expected, (8, 1)), rtol=1e-6)


def test_luma_is_studio_range():
    colours = np.array([[[0.0, 0, 0], [1, 1, 1], [1, 0, 0]]])
    np.testing.assert_array_equal(niqe.luma(colours), [[16, 235, 81]])


def noisy_face(seed: int, size: int = 200) -> torch.Tensor:
    return torch.rand((1, 3, size, size), generator=torch.Generator().manual_seed(seed))


def test_a_picture_is_at_no_distance_of_its_own_statistics():
    face = noisy_face(0)
    features = niqe.image_features(niqe.luma(face[0].permute(1, 2, 0).double().numpy()))
    assert features.shape == (4, 36) and np.isfinite(features).all()
    own = PristineModel(features.mean(0), np.cov(features, rowvar=False))
    assert float(Niqe(own).measure(face, face)) == pytest.approx(0, abs=1e-9)
    moved = PristineModel(features.mean(0) + 1, np.eye(36))
    apart = np.ones(36)
    covariance = (np.eye(36) + np.cov(features, rowvar=False)) / 2
    expected = math.sqrt(apart @ np.linalg.inv(covariance) @ apart)
    assert float(Niqe(moved).measure(face, face)) == pytest.approx(expected, rel=1e-9)


def test_flat_and_small_pictures_have_no_value():
    model = PristineModel(np.zeros(36), np.eye(36))
    flat = torch.full((1, 3, 200, 200), 0.5)
    assert math.isnan(float(Niqe(model).measure(flat, flat)))
    small = torch.rand(1, 3, 64, 64)
    assert math.isnan(float(Niqe(model).measure(small, small)))


def test_a_blurred_face_is_farther_from_good_photographs():
    from PIL import Image, ImageFilter

    photographs = [Image.open(path).convert("RGB") for path in large_faces()[:8]]
    features = np.concatenate([niqe.image_features(niqe.luma(np.asarray(photo) / 255)) for photo in photographs[:6]])
    features = features[np.isfinite(features).all(1)]
    pristine = PristineModel(features.mean(0), np.cov(features, rowvar=False))
    for photo in photographs[6:]:
        grainy = np.asarray(photo) + np.random.default_rng(0).normal(0, 25, (512, 512, 3))
        sharp, blurred, noisy = (
            niqe.niqe(niqe.luma(np.clip(np.asarray(picture) / 255, 0, 1)), pristine)
            for picture in (photo, photo.filter(ImageFilter.GaussianBlur(3)), grainy)
        )
        assert blurred > 1.1 * sharp and noisy > 1.1 * sharp


def test_clean_faces_are_near_the_photographs_that_come_with_the_package():
    from PIL import Image, ImageFilter

    photographs = [Image.open(path).convert("RGB") for path in large_faces()[:4]]
    clean, blurred = (
        [niqe.niqe(niqe.luma(np.asarray(picture) / 255), read_pristine_model()) for picture in pictures]
        for pictures in (photographs, [photo.filter(ImageFilter.GaussianBlur(3)) for photo in photographs])
    )
    # The published comparisons have 4 to 5 for clean faces.
    assert 3 < np.mean(clean) < 6 < np.mean(blurred)


def test_parameter_files(tmp_path):
    path = tmp_path / "niqe_pris_params.npz"
    np.savez(path, mu_pris_param=np.arange(36.0)[None], cov_pris_param=np.eye(36), gaussian_window=np.eye(7))
    model = read_pristine_model(path)
    np.testing.assert_array_equal(model.mean_F, np.arange(36))
    np.savez(tmp_path / "a.npz", mu_pris_param=np.zeros(36))
    with pytest.raises(WeightsError, match=r"a\.npz.*lacks cov_pris_param.*niqe_pris_params\.npz"):
        read_pristine_model(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", mu_pris_param=np.zeros(18), cov_pris_param=np.eye(18))
    with pytest.raises(WeightsError, match=r"b\.npz.*36.*\(18,\)"):
        read_pristine_model(tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", mu_pris_param=np.array([print], dtype=object), cov_pris_param=np.eye(36))
    with pytest.raises(WeightsError, match=r"c\.npz.*allow_pickle"):
        read_pristine_model(tmp_path / "c.npz")
    with pytest.raises(WeightsError, match=r"d\.npz is not there"):
        read_pristine_model(tmp_path / "d.npz")
