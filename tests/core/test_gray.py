"""Gray photographs are recognised and stay gray."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from codeformer_core.imaging.gray import is_gray, match_gray


@pytest.fixture
def gray_HW3() -> Tensor:
    return torch.rand((40, 50, 1), generator=torch.Generator().manual_seed(0)).expand(-1, -1, 3)


@pytest.fixture
def faces_B3HW() -> Tensor:
    return torch.rand((2, 3, 32, 32), generator=torch.Generator().manual_seed(1))


def test_gray_is_gray_and_colour_is_not(gray_HW3, astronaut):
    assert is_gray(gray_HW3)
    assert not is_gray(astronaut)
    assert is_gray(astronaut.mean(-1, keepdim=True).expand(-1, -1, 3))


def test_the_noise_of_a_scan_and_a_tint_are_no_colour(gray_HW3):
    noise_HW3 = torch.randn(gray_HW3.shape, generator=torch.Generator().manual_seed(2)) / 255
    assert is_gray(gray_HW3 + noise_HW3)
    # A uniform sepia tint moves the channels apart without making the difference vary.
    assert is_gray(gray_HW3 + torch.tensor([0.1, 0.05, 0.0]))
    assert not is_gray(gray_HW3 + 4 * noise_HW3)


def test_the_threshold_is_10_squared_levels():
    """Red alone alternates by +-d levels: of the three differences two have variance d * d."""
    for amplitude, expected in ((3.8, True), (3.9, False)):
        picture_HW3 = torch.full((8, 8, 3), 0.5)
        picture_HW3[::2, :, 0] += amplitude / 255
        picture_HW3[1::2, :, 0] -= amplitude / 255
        assert is_gray(picture_HW3) == expected


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_other_precisions(gray_HW3, astronaut, dtype):
    assert is_gray(gray_HW3.to(dtype)) and not is_gray(astronaut.to(dtype))


def test_one_pixel_is_gray():
    assert is_gray(torch.tensor([[[0.9, 0.1, 0.4]]]))


def test_matched_faces_have_no_colour_and_the_inputs_tones(faces_B3HW):
    original_B3HW = (faces_B3HW.mean(1, keepdim=True) * 0.3 + 0.35).expand(-1, 3, -1, -1).flip(-1)
    matched_B3HW = match_gray(faces_B3HW, original_B3HW)
    assert torch.equal(matched_B3HW[:, 0], matched_B3HW[:, 1]) and torch.equal(matched_B3HW[:, 0], matched_B3HW[:, 2])
    for dims in ((1, 2, 3),):
        assert torch.allclose(matched_B3HW.mean(dims), original_B3HW.mean(dims), atol=1e-4)
        assert torch.allclose(matched_B3HW.std(dims), original_B3HW.std(dims), rtol=1e-2)


def test_each_face_is_matched_to_its_own_input(faces_B3HW):
    original_B3HW = faces_B3HW.flip(0) * torch.tensor([0.2, 0.9]).view(2, 1, 1, 1)
    together = match_gray(faces_B3HW, original_B3HW)
    for index in range(2):
        one = slice(index, index + 1)
        assert torch.allclose(together[one], match_gray(faces_B3HW[one], original_B3HW[one]), atol=1e-6)


def test_a_sepia_inputs_tint_is_kept(faces_B3HW):
    sepia_B3HW = faces_B3HW.mean(1, keepdim=True) * 0.2 + torch.tensor([0.6, 0.5, 0.4]).view(1, 3, 1, 1)
    matched_B3HW = match_gray(faces_B3HW, sepia_B3HW)
    assert torch.allclose(matched_B3HW.mean((2, 3)), sepia_B3HW.mean((2, 3)), atol=1e-4)


def test_clipping_is_only_left_out_on_request(faces_B3HW):
    contrast_B3HW = ((faces_B3HW > 0.5).float().mean(1, keepdim=True) > 0.5).float().expand(-1, 3, -1, -1)
    wide = match_gray(faces_B3HW, contrast_B3HW, clip=False)
    assert wide.min() < 0 and wide.max() > 1
    assert torch.equal(match_gray(faces_B3HW, contrast_B3HW), wide.clamp(0, 1))


def test_a_flat_face_divides_by_nothing(faces_B3HW):
    flat_B3HW = torch.full_like(faces_B3HW, 0.3)
    assert torch.allclose(match_gray(flat_B3HW, faces_B3HW).mean((2, 3)), faces_B3HW.mean((2, 3)), atol=1e-4)
    assert torch.allclose(match_gray(faces_B3HW, flat_B3HW), torch.tensor(0.3), atol=1e-3)


def test_nothing_is_written_into_what_was_given(faces_B3HW):
    original_B3HW, before = faces_B3HW.flip(0), faces_B3HW.clone()
    match_gray(faces_B3HW, original_B3HW)
    assert torch.equal(faces_B3HW, before) and torch.equal(original_B3HW, before.flip(0))
