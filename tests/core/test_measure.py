"""Numbers of pictures beside their references: the evaluation's own, for pictures of any size and number."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from codeformer_core.imaging.tensors import resize
from codeformer_core.metrics import pixels
from codeformer_core.metrics.similarity import psnr, ssim
from codeformer_core.study.measure import GRADIENTS, IDENTITY, L1, MEASURING, PSNR, SSIM, measure_images
from codeformer_core.weights.reading import WeightsError

from .facts import facts, kinds


@pytest.fixture
def recognition_file(tmp_path) -> Path:
    """A tiny network that takes the place of ArcFace."""
    from .training.test_metrics_identity import write_network

    write_network(tmp_path / "arc.onnx")
    return tmp_path / "arc.onnx"


def pictures(batch: int = 2, height: int = 48, width: int = 64, seed: int = 0) -> Tensor:
    return torch.rand((batch, height, width, 3), generator=torch.Generator().manual_seed(seed))


def noisy(images: Tensor, strength: float = 0.1) -> Tensor:
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(9))
    return (images + strength * noise).clamp(0, 1)


@pytest.mark.parametrize("strength", [0.0, 1e-3, 0.1, 0.5])
def test_psnr_and_ssim_are_those_of_torchmetrics(strength):
    from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

    reference, made = pictures(3), noisy(pictures(3), strength)
    pair = made.permute(0, 3, 1, 2), reference.permute(0, 3, 1, 2)
    # Equal pictures: the other program's variances are a rounding apart from each other.
    expected_B = structural_similarity_index_measure(*pair, sigma=1.5, kernel_size=11, data_range=1.0, reduction="none")
    assert isinstance(expected_B, Tensor)
    assert torch.allclose(ssim(*pair), expected_B.double(), atol=2e-6)
    expected_B = peak_signal_noise_ratio(*pair, data_range=1.0, reduction="none", dim=(1, 2, 3))
    assert torch.allclose(psnr(*pair), expected_B.double(), atol=1e-4)


def test_a_table_of_all_pictures_and_the_means():
    reference, made = pictures(2), noisy(pictures(2))
    measured = measure_images(made, reference)
    assert measured.names == (PSNR, SSIM, GRADIENTS, L1) and len(measured.rows) == 2
    pair = made.permute(0, 3, 1, 2), reference.permute(0, 3, 1, 2)
    values = zip(
        psnr(*pair),
        ssim(*pair),
        pixels.GradientSimilarity().measure(*pair),
        (made - reference).abs().mean((1, 2, 3)) * 255,
        strict=True,
    )
    for row, expected in zip(measured.rows, values, strict=True):
        assert row == pytest.approx([float(value) for value in expected], rel=1e-5)
    assert measured.mean(PSNR) == pytest.approx(sum(row[0] for row in measured.rows) / 2)
    assert facts(measured) == [
        ("measured", image, dict(zip((PSNR, SSIM, GRADIENTS, L1), row, strict=True)))
        for image, row in enumerate(measured.rows)
    ]


def test_equal_pictures():
    measured = measure_images(pictures(), pictures())
    assert measured.mean(PSNR) == math.inf
    assert measured.mean(SSIM) == measured.mean(GRADIENTS) == pytest.approx(1) and measured.mean(L1) == 0


def test_one_for_all():
    images, one = pictures(3), pictures(1, seed=5)
    to_one, from_one = measure_images(images, one), measure_images(one, images)
    assert len(to_one.rows) == len(from_one.rows) == 3
    assert [row[0] for row in to_one.rows] == pytest.approx([row[0] for row in from_one.rows])
    assert "one_reference" in kinds(to_one) and "one_image" in kinds(from_one)


def test_other_sizes_are_brought_to_the_references():
    images, reference = pictures(1, 96, 128), pictures(1, 48, 64, seed=3)
    measured = measure_images(images, reference)
    assert measured.rows == measure_images(resize(images, 48, 64), reference).rows
    sizes = {"width": 128, "height": 96, "to_width": 64, "to_height": 48}
    assert facts(measured.notes) == [("measured_resized", None, sizes)]
    other = measure_images(pictures(1, 64, 64), reference)
    assert "proportions_differ" in kinds(other)


def test_alpha_and_gray():
    reference = pictures(1)
    with_alpha = torch.cat((reference, torch.zeros(1, 48, 64, 1)), dim=-1)
    measured = measure_images(with_alpha, reference)
    assert measured.mean(PSNR) == math.inf and kinds(measured.notes) == {"alpha_ignored"}
    gray = measure_images(reference[..., :1], reference[..., :1].expand(-1, -1, -1, 3))
    assert gray.mean(PSNR) == math.inf and gray.notes == ()


def test_values_outside_are_clipped_as_a_saved_picture_is():
    reference = pictures(1).round()
    assert measure_images(reference * 3 - 1, reference).mean(PSNR) == math.inf


def test_progress():
    told = []
    measure_images(pictures(), pictures(), on_progress=lambda *said: told.append(said))
    assert told == [(MEASURING, 0, 2), (MEASURING, 1, 2), (MEASURING, 2, 2)]


def test_identity(recognition_file):
    faces = pictures(2, 64, 64)
    measured = measure_images(faces, faces, identity=recognition_file)
    assert measured.names[-1] == IDENTITY and measured.mean(IDENTITY) == pytest.approx(1)
    others = measure_images(faces, 1 - faces, identity=recognition_file)
    assert others.mean(IDENTITY) < 0.9


def test_identity_is_refused_where_it_means_nothing(tmp_path):
    with pytest.raises(ValueError, match=r"square, but the reference has 64x48 pixels.*leave identity out"):
        measure_images(pictures(), pictures(), identity=tmp_path / "arc.onnx")
    faces = pictures(1, 64, 64)
    with pytest.raises(WeightsError, match=r"arc\.onnx is not there"):
        measure_images(faces, faces, identity=tmp_path / "arc.onnx")


def test_numbers_that_do_not_go_together_are_refused():
    with pytest.raises(ValueError, match="3 images can't be compared with 2 references"):
        measure_images(pictures(3), pictures(2))


def test_references_smaller_than_the_window_are_refused():
    with pytest.raises(ValueError, match="at least 11x11 pixels, got 64x8"):
        measure_images(pictures(), pictures(2, 8, 64))


@pytest.mark.parametrize("which", ["images", "references"])
def test_images_that_are_not_are_named(which):
    spoiled = torch.full((1, 16, 16, 3), torch.nan)
    given = (spoiled, pictures(1, 16, 16)) if which == "images" else (pictures(1, 16, 16), spoiled)
    with pytest.raises(ValueError, match=f"{which}: number 1 holds 768 values"):
        measure_images(*given)
