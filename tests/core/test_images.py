"""Conversions between pictures, the networks' faces and the detectors' view; and what bad pictures get to hear."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from codeformer_core.imaging import tensors as images
from codeformer_core.imaging.tensors import check_images, detector_view, merge_alpha, resize, split_alpha


@pytest.fixture
def rgba_BHWC() -> Tensor:
    return torch.rand((2, 5, 7, 4), generator=torch.Generator().manual_seed(0))


# --- taking apart and putting together -------------------------------------------------------------------------------


@pytest.mark.parametrize(("channels", "has_alpha"), [(1, False), (2, True), (3, False), (4, True)])
def test_colour_and_alpha(rgba_BHWC, channels, has_alpha):
    given = rgba_BHWC[..., :channels]
    parts = split_alpha(given)
    assert parts.rgb_BHW3.shape == (2, 5, 7, 3)
    for index in range(3):
        assert torch.equal(parts.rgb_BHW3[..., index], given[..., index if channels >= 3 else 0])
    assert (parts.alpha_BHW1 is not None) == has_alpha
    if has_alpha:
        assert torch.equal(parts.alpha_BHW1[..., 0], given[..., -1])
    together = merge_alpha(parts.rgb_BHW3, parts.alpha_BHW1)
    assert together.shape == (2, 5, 7, 4 if has_alpha else 3)
    if channels >= 3:
        assert torch.equal(together, given)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_become_float32(rgba_BHWC, dtype):
    parts = split_alpha(rgba_BHWC.to(dtype))
    assert parts.rgb_BHW3.dtype == parts.alpha_BHW1.dtype == torch.float32
    assert torch.equal(parts.rgb_BHW3, rgba_BHWC.to(dtype).float()[..., :3])


def test_taking_apart_copies_nothing(rgba_BHWC):
    assert split_alpha(rgba_BHWC).rgb_BHW3.data_ptr() == rgba_BHWC.data_ptr()
    gray_BHWC = rgba_BHWC[..., :1]
    assert split_alpha(gray_BHWC).rgb_BHW3.data_ptr() == gray_BHWC.data_ptr()


def test_alpha_follows_the_colours_size(rgba_BHWC):
    alpha_BHW1 = torch.full((2, 5, 7, 1), 0.25)
    together = merge_alpha(torch.zeros(2, 10, 14, 3), alpha_BHW1)
    assert together.shape == (2, 10, 14, 4) and torch.allclose(together[..., 3], torch.tensor(0.25))


# --- bad pictures ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        (None, "images must be a tensor .*got NoneType"),
        (np.zeros((1, 4, 4, 3), np.float32), "got ndarray"),
        (torch.zeros(4, 4, 3), r"\(batch, height, width, channels\), got \(4, 4, 3\)"),
        (torch.zeros(1, 4, 4, 3, 1), r"got \(1, 4, 4, 3, 1\)"),
        (torch.zeros((1, 4, 4, 3), dtype=torch.uint8), r"floats in \[0, 1\], got torch.uint8; divide .* by 255"),
        (torch.zeros((1, 4, 4, 3), dtype=torch.bool), "got torch.bool"),
        (torch.zeros(0, 4, 4, 3), "nothing to work on, 0 of 4x4 pixels"),
        (torch.zeros(1, 0, 4, 3), "nothing to work on, 1 of 4x0 pixels"),
        (torch.zeros(1, 4, 0, 3), "nothing to work on, 1 of 0x4 pixels"),
        (torch.zeros(1, 4, 4, 0), "1 to 4 channels .*got 0"),
        (torch.zeros(1, 3, 4, 5), "1 to 4 channels .*got 5"),
    ],
)
def test_what_is_no_batch_of_pictures(bad, complaint):
    with pytest.raises(ValueError, match=complaint):
        split_alpha(bad)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_values_that_are_no_numbers(value, dtype):
    pictures = torch.zeros((3, 4, 4, 4), dtype=dtype)
    pictures[1, 2, 3, 3] = value  # in the alpha, which counts as well
    with pytest.raises(ValueError, match=r"images: number 2 holds 1 values that are NaN or .*decode in float32"):
        check_images(pictures)


def test_values_far_outside_are_named_with_the_fix():
    check_images(torch.full((1, 2, 2, 3), 12.0))  # a light in an HDR image
    with pytest.raises(ValueError, match=r"number 2: its values reach from 0 to 255, .*divide 8-bit values by 255"):
        check_images(torch.stack((torch.zeros(2, 2, 3), torch.tensor([0.0, 255.0, 9.0]).expand(2, 2, 3))))
    # Values whose sum overflows are numbers.
    with pytest.raises(ValueError, match="its values reach from"):
        check_images(torch.full((1, 2, 2, 3), 3e38))


def test_infinities_that_cancel_are_found():
    pictures = torch.zeros(1, 1, 2, 3)
    pictures[0, 0, 0, 0], pictures[0, 0, 1, 1] = torch.inf, -torch.inf
    with pytest.raises(ValueError, match="number 1 holds 2 values"):
        check_images(pictures)


def test_messages_name_the_input():
    with pytest.raises(ValueError, match=r"^backgrounds must be a tensor"):
        split_alpha(torch.zeros(3), "backgrounds")


@pytest.mark.parametrize("shape", [(1, 1, 1, 3), (1, 1, 9, 1), (2, 9, 1, 4)])
def test_the_smallest_pictures_are_pictures(shape):
    check_images(torch.zeros(shape))


def test_values_outside_0_to_1_are_kept():
    """Hosts hand on what a network gave them; a picture without faces goes through as it came."""
    wide = torch.tensor([[[[-0.25, 0.5, 1.75]]]])
    assert torch.equal(split_alpha(wide).rgb_BHW3, wide)


# --- resizing --------------------------------------------------------------------------------------------------------


def test_resizing_to_the_same_size_is_free(rgba_BHWC):
    assert resize(rgba_BHWC, 5, 7) is rgba_BHWC


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(3, 4), (9, 20), (3, 20), (1, 1)])
def test_a_constant_stays_constant(size, mode):
    resized = resize(torch.full((1, 5, 7, 3), 0.4), *size, mode=mode)
    assert resized.shape == (1, *size, 3) and resized.is_contiguous()
    assert torch.allclose(resized, torch.tensor(0.4), atol=1e-6)


def test_shrinking_averages_instead_of_picking():
    checkers_1HW1 = ((torch.arange(64)[:, None] + torch.arange(64)) % 2).float()[None, ..., None]
    shrunk = resize(checkers_1HW1, 9, 9)
    assert (shrunk - 0.5).abs().max() < 0.03


def test_doubling_interpolates_between_pixel_centres():
    doubled = resize(torch.tensor([0.0, 1.0]).view(1, 1, 2, 1), 1, 4)
    assert torch.allclose(doubled.flatten(), torch.tensor([0.0, 0.25, 0.75, 1.0]))


@pytest.mark.parametrize("lanczos", [False, True])
def test_opencvs_8bit_resize(rgba_BHWC, lanczos):
    import cv2

    interpolation = cv2.INTER_LANCZOS4 if lanczos else cv2.INTER_LINEAR
    rgb_BHW3 = rgba_BHWC[..., :3]
    resized = images.resize_8bit(rgb_BHW3, 11, 13, lanczos=lanczos)
    for ours, picture in zip(resized, rgb_BHW3, strict=True):
        levels = np.round(picture.numpy() * 255).astype(np.uint8)
        assert np.array_equal((ours * 255).round().numpy(), cv2.resize(levels, (13, 11), interpolation=interpolation))


# --- values ----------------------------------------------------------------------------------------------------------


def test_to_the_network_and_back(rgba_BHWC):
    rgb_BHW3 = rgba_BHWC[..., :3]
    faces_B3HW = images.to_network(rgb_BHW3)
    assert faces_B3HW.shape == (2, 3, 5, 7)
    assert torch.equal(images.to_network(torch.tensor([[[[0.0, 0.5, 1.0]]]])).flatten(), torch.tensor([-1.0, 0.0, 1.0]))
    assert torch.allclose(images.from_network(faces_B3HW), rgb_BHW3, atol=1e-6)


def test_8bit_steps_are_whole_levels_and_round_half_up():
    levels = torch.arange(256) / 255
    assert torch.equal(images.quantize_8bit(levels), levels)
    halves = (torch.arange(255) + 0.5) / 255
    assert torch.equal((images.quantize_8bit(halves) * 255).round(), torch.arange(1.0, 256.0))
    assert torch.equal(images.quantize_8bit(torch.tensor([-0.5, 1.5])), torch.tensor([0.0, 1.0]))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_the_detectors_view(rgba_BHWC, channels):
    image_HWC = rgba_BHWC[0, ..., :channels]
    view = detector_view(image_HWC)
    assert view.dtype == np.uint8 and view.shape == (5, 7, 3) and view.flags.c_contiguous
    rgb_HW3 = image_HWC[..., :3] if channels >= 3 else image_HWC[..., :1].expand(5, 7, 3)
    assert np.array_equal(view[..., ::-1], (rgb_HW3 * 255).round().numpy())


def test_the_detectors_view_is_clipped_and_its_own():
    image_HWC = torch.tensor([[[-1.0, 0.5, 2.0]]])
    view = detector_view(image_HWC)
    assert view.tolist() == [[[255, 128, 0]]]
    view[:] = 9
    assert torch.equal(image_HWC, torch.tensor([[[-1.0, 0.5, 2.0]]]))


def test_nothing_is_written_into_what_was_given(rgba_BHWC):
    before = rgba_BHWC.clone()
    rgb_BHW3 = rgba_BHWC[..., :3]
    for convert in (
        lambda: split_alpha(rgba_BHWC),
        lambda: images.quantize_8bit(rgba_BHWC),
        lambda: images.to_network(rgb_BHW3),
        lambda: images.resize_8bit(rgb_BHW3, 9, 9),
        lambda: resize(rgba_BHWC, 9, 9, mode="bicubic"),
        lambda: detector_view(rgba_BHWC[0]),
    ):
        convert()
        assert torch.equal(rgba_BHWC, before)


def test_pictures_of_stride_0_are_read_as_they_are():
    """A batch made by `expand` has one pixel in memory and must not be written to or misread."""
    expanded = torch.tensor([0.1, 0.2, 0.3]).expand(2, 4, 5, 3)
    check_images(expanded)
    assert detector_view(expanded[0])[3, 4].tolist() == [76, 51, 26]
    assert torch.allclose(resize(expanded, 8, 10)[1, 7, 9], torch.tensor([0.1, 0.2, 0.3]))
