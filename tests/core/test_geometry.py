"""Alignment and sampling: similarities found exactly, crops with every pixel in its place, at any picture size."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from codeformer_core.faces.geometry import (
    CROP_SIZE,
    TEMPLATE_XY,
    Rectangle,
    covered_rectangle,
    crop_coordinates,
    crop_face,
    estimate_alignment,
    invert,
    sample,
    scale_of,
)
from codeformer_core.faces.types import Face
from codeformer_core.pipeline import reference

from .conftest import placed_face

WHOLE_CROP = Rectangle(0, 0, CROP_SIZE, CROP_SIZE)

# parity -> how a face is cropped
CROPS = {False: crop_face, True: reference.crop}


def similarity(scale: float, degrees: float, x: float, y: float) -> np.ndarray:
    cosine, sine = scale * math.cos(math.radians(degrees)), scale * math.sin(math.radians(degrees))
    return np.array([[cosine, -sine, x], [sine, cosine, y]])


def face_seen_through(matrix: np.ndarray, template_xy: np.ndarray = TEMPLATE_XY) -> Face:
    """The face whose landmarks `matrix` carries onto the template."""
    points = template_xy @ invert(matrix)[:, :2].T + invert(matrix)[:, 2]
    return Face((0, 0, 1, 1), tuple(map(tuple, points.tolist())), 0.9)


def waves(x: Tensor, y: Tensor) -> Tensor:
    """A smooth pattern, (3, *x.shape) in [0, 1], that can be computed at any place."""
    return torch.stack((x / 61 + y / 97, x / 83 - y / 71, x / 120)).sin() / 2.2 + 0.5


def waves_picture(height: int, width: int) -> Tensor:
    y_HW, x_HW = torch.meshgrid(torch.arange(float(height)), torch.arange(float(width)), indexing="ij")
    return waves(x_HW, y_HW).permute(1, 2, 0)


def places_in_picture(matrix: np.ndarray) -> tuple[Tensor, Tensor]:
    """Where each pixel of the crop lies in the picture, float64."""
    v, u = np.mgrid[:CROP_SIZE, :CROP_SIZE]
    places = np.stack((u, v, np.ones_like(u)), -1) @ invert(matrix).T
    return torch.from_numpy(places[..., 0]), torch.from_numpy(places[..., 1])


# --- alignment -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [0.02, 0.5, 1, 7.3])
@pytest.mark.parametrize("degrees", [0, 33, -90, 180])
def test_an_undistorted_face_is_found_exactly(scale, degrees):
    expected = similarity(scale, degrees, 40.5, -300.25)
    face = face_seen_through(expected)
    found = estimate_alignment(face)
    assert found.dtype == np.float64 and found.shape == (2, 3)
    assert np.allclose(face.landmarks_array() @ found[:, :2].T + found[:, 2], TEMPLATE_XY, atol=1e-3)
    assert np.allclose(found[:, :2], expected[:, :2], rtol=1e-5, atol=1e-5 * scale)


@pytest.mark.parametrize("outlier", range(5))
def test_one_misplaced_point_is_ignored(outlier):
    """Least squares would shift the crop's corners by tens of pixels."""
    expected = similarity(2.0, 12, 5, 9)
    template_xy = TEMPLATE_XY.copy()
    template_xy[outlier] += (60, -45)
    found = estimate_alignment(face_seen_through(expected, template_xy))
    assert np.allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize(
    "points",
    [((5.0, 5.0),) * 5, ((math.nan, 1.0),) * 5, ((math.inf, -math.inf),) * 5],
    ids=["one place", "no numbers", "infinite"],
)
def test_points_that_form_no_face_have_no_alignment(points):
    assert estimate_alignment(Face((0, 0, 9, 9), points, 0.9)) is None


def test_placed_face_stands_where_it_says():
    matrix = estimate_alignment(placed_face(300, 200, 60, degrees=20))
    assert np.allclose(invert(matrix) @ (255.5, 255.5, 1), (300, 200), atol=1e-6)
    assert math.isclose(scale_of(matrix) * 60, math.dist(TEMPLATE_XY[0], TEMPLATE_XY[1]), rel_tol=1e-6)


def test_invert_and_scale():
    matrix = similarity(0.37, 71, -5, 800)
    there_and_back = invert(matrix)[:, :2] @ matrix[:, :2]
    assert np.allclose(there_and_back, np.eye(2))
    assert np.allclose(invert(invert(matrix)), matrix)
    assert math.isclose(scale_of(matrix), 0.37)
    assert math.isclose(scale_of(matrix * [[-1], [1]]), 0.37)


# --- the rectangle ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("degrees", [0, 30, 45, -120])
@pytest.mark.parametrize("scale", [0.3, 1, 4])
def test_the_rectangle_holds_every_pixel_the_crop_touches_and_few_others(degrees, scale):
    matrix = similarity(scale, degrees, 37.3, -21.9)
    huge = 100_000
    area = covered_rectangle(matrix, CROP_SIZE, huge, huge)
    matrix[:, 2] -= matrix[:, :2] @ (20_000, 20_000)
    area = covered_rectangle(matrix, CROP_SIZE, huge, huge)
    x_HW, y_HW = places_in_picture(matrix)
    assert area.left <= x_HW.min() - 1 / scale + 1 and x_HW.max() + 1 / scale - 1 <= area.right - 1
    assert area.top <= y_HW.min() - 1 / scale + 1 and y_HW.max() + 1 / scale - 1 <= area.bottom - 1
    side = (CROP_SIZE + 1) / scale * (abs(math.cos(math.radians(degrees))) + abs(math.sin(math.radians(degrees))))
    assert area.width <= side + 3 and area.height <= side + 3


def test_the_rectangle_ends_at_the_pictures_border():
    assert covered_rectangle(similarity(1, 0, 100, 50), CROP_SIZE, 60, 4000) == Rectangle(0, 0, 413, 60)
    beside = covered_rectangle(similarity(1, 0, -5000, 0), CROP_SIZE, 100, 100)
    assert beside.is_empty


def test_the_rectangles_size_does_not_depend_on_the_pictures():
    matrix = similarity(3.1, 17, -400, -900)
    small, large = (covered_rectangle(matrix, CROP_SIZE, side, side) for side in (700, 50_000))
    assert small == large and not small.is_empty


def test_the_view_inside_a_rectangle():
    image_HWC = torch.arange(5 * 6 * 3).view(5, 6, 3)
    view = Rectangle(1, 2, 4, 5).of(image_HWC)
    assert torch.equal(view, image_HWC[2:5, 1:4]) and view.data_ptr() == image_HWC[2, 1].data_ptr()
    assert (Rectangle(1, 2, 4, 7).width, Rectangle(1, 2, 4, 7).height) == (3, 5)


# --- coordinates -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parity", [False, True])
@pytest.mark.parametrize("degrees", [0, 12.5, -47])
def test_coordinates_stay_precise_in_a_20000_pixel_picture(degrees, parity):
    """Float32 alone would be off by 1/500 pixel of the picture here, times the crop's enlargement."""
    matrix = similarity(9.7, degrees, 0, 0)
    matrix[:, 2] = (256, 256) - matrix[:, :2] @ (19_871.3, 19_903.8)
    area = covered_rectangle(matrix, CROP_SIZE, 20_000, 20_000)
    assert area.width > 50
    rows, columns = np.mgrid[area.top : area.bottom, area.left : area.right]
    exact = np.stack((columns, rows, np.ones_like(rows)), -1) @ matrix.T
    x_HW, y_HW = (reference.coordinates if parity else crop_coordinates)(matrix, area, torch.device("cpu"))
    assert x_HW.dtype == y_HW.dtype == torch.float32
    # In parity mode OpenCV's rounding to 1/32 of a pixel is wanted.
    tolerance = 1 / 64 + 1e-3 if parity else 1e-4
    assert np.abs(x_HW.numpy() - exact[..., 0]).max() < tolerance
    assert np.abs(y_HW.numpy() - exact[..., 1]).max() < tolerance


# --- sampling and cropping -------------------------------------------------------------------------------------------


def test_samples_are_bilinear_and_zero_outside():
    image_1HW = torch.tensor([[[1.0, 2.0], [3.0, 5.0]]])
    x = torch.tensor([[0.0, 1.0, 0.5, 0.5, -0.5, -1.0, 1.25, 9.0]])
    y = torch.tensor([[0.0, 1.0, 0.0, 0.5, 0.0, 0.0, 1.0, 9.0]])
    expected = torch.tensor([[[1.0, 5.0, 1.5, 2.75, 0.5, 0.0, 3.75, 0.0]]])
    assert torch.allclose(sample(image_1HW, x, y), expected, atol=1e-5)


@pytest.mark.parametrize(("x", "y"), [(100, 60), (0, 0), (88, 31)])
def test_a_crop_by_whole_pixels_is_the_picture_itself(x, y):
    picture_HW3 = torch.rand((600, 640, 3), generator=torch.Generator().manual_seed(0))
    crop_3HW = crop_face(picture_HW3, similarity(1, 0, -x, -y))
    expected_HW3 = picture_HW3[y : y + CROP_SIZE, x : x + CROP_SIZE]
    assert (crop_3HW.permute(1, 2, 0) - expected_HW3).abs().max() < 1e-4


@pytest.mark.parametrize("quarter", [1, 2, 3])
def test_a_crop_turned_by_quarters_is_the_picture_turned(quarter):
    picture_HW3 = torch.rand((CROP_SIZE, CROP_SIZE, 3), generator=torch.Generator().manual_seed(0))
    matrix = similarity(1, 90 * quarter, 0, 0)
    matrix[:, 2] = 255.5 - matrix[:, :2] @ (255.5, 255.5)
    crop_3HW = crop_face(picture_HW3, matrix)
    expected_HW3 = torch.rot90(picture_HW3, -quarter, (0, 1))
    assert (crop_3HW.permute(1, 2, 0) - expected_HW3).abs().max() < 1e-3


@pytest.mark.parametrize(("scale", "degrees"), [(1, 0), (1.7, 25), (6.3, -70), (0.8, 160)])
def test_a_smooth_pattern_lands_where_the_matrix_says(scale, degrees):
    matrix = similarity(scale, degrees, 0, 0)
    matrix[:, 2] = 255.5 - matrix[:, :2] @ (512.2, 498.9)
    crop_3HW = crop_face(waves_picture(1000, 1040), matrix)
    assert (crop_3HW - waves(*places_in_picture(matrix))).abs().max() < 2e-4


@pytest.mark.parametrize(("scale", "degrees"), [(0.45, 0), (0.3, 20)])
def test_a_large_face_is_averaged_in_place(scale, degrees):
    """Averaging in blocks must not shift the face: half a block would show as a gradient of differences."""
    matrix = similarity(scale, degrees, 0, 0)
    matrix[:, 2] = 255.5 - matrix[:, :2] @ (1301, 1277)
    crop_3HW = crop_face(waves_picture(2560, 2600), matrix)
    difference = crop_3HW - waves(*places_in_picture(matrix))
    assert difference.abs().max() < 6e-3
    assert difference.mean(dim=(1, 2)).abs().max() < 2e-4


def test_only_shrinking_is_averaged():
    """A fine checkerboard: gray when shrunk by two or more, kept as it is at full size and in parity mode."""
    checkers_HW3 = ((torch.arange(1200)[:, None] + torch.arange(1200)) % 2).float()[..., None].expand(-1, -1, 3)
    middle = (slice(None), slice(100, 400), slice(100, 400))
    shrunk = similarity(0.47, 0, -20.3, -20.3)
    assert (crop_face(checkers_HW3, shrunk)[middle] - 0.5).abs().max() < 0.01
    assert reference.crop(checkers_HW3, shrunk)[middle].std() > 0.1
    same_size = crop_face(checkers_HW3, similarity(1, 0, -20, -20))[middle]
    assert torch.allclose(same_size, checkers_HW3[120:420, 120:420].permute(2, 0, 1), atol=1e-3)


def test_outside_the_picture_the_official_crop_is_the_published_gray():
    crop_3HW = reference.crop(torch.full((300, 300, 3), 0.9), similarity(1, 0, 100, 50))
    border_311 = torch.tensor((132.0, 133.0, 135.0)).view(3, 1, 1) / 255  # published as BGR 135, 133, 132
    assert (crop_3HW[:, :49] - border_311).abs().max() < 1e-6
    assert (crop_3HW[:, :, :99] - border_311).abs().max() < 1e-6
    assert (crop_3HW[:, 351:] - border_311).abs().max() < 1e-6
    assert (crop_3HW[:, 51:349, 101:399] - 0.9).abs().max() < 1 / 255


@pytest.mark.parametrize(("scale", "degrees"), [(1, 0), (2.2, 20), (0.3, -30)])
def test_outside_the_picture_its_outermost_pixels_go_on(scale, degrees):
    picture_HW3 = waves_picture(300, 400)
    matrix = similarity(scale, degrees, 0, 0)
    matrix[:, 2] = 255.5 - matrix[:, :2] @ (30, 270)  # its lower left corner in the middle of the crop
    further = 900
    padded_HW3 = np.pad(picture_HW3.numpy(), ((further, further), (further, further), (0, 0)), mode="edge")
    moved = matrix.copy()
    moved[:, 2] -= matrix[:, :2] @ (further, further)
    expected_3HW = crop_face(torch.from_numpy(padded_HW3), moved)
    difference_3HW = (crop_face(picture_HW3, matrix) - expected_3HW).abs()
    # Where a face is averaged in blocks, those at the edge hold fewer pixels.
    assert difference_3HW.mean() < 1e-4 if scale >= 0.5 else difference_3HW.mean() < 4e-3


@pytest.mark.parametrize("scale", [0.2, 1, 3])
@pytest.mark.parametrize("parity", [False, True])
def test_a_crop_wholly_outside_is_gray(scale, parity):
    crop_3HW = CROPS[parity](torch.rand(40, 40, 3), similarity(scale, 10, 90_000, 0))
    assert crop_3HW.shape == (3, CROP_SIZE, CROP_SIZE)
    assert (crop_3HW - 0.52).abs().max() < 0.03
    crop_3HW.zero_()  # a tensor of its own, not one colour seen many times


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 40, 3), (40, 1, 3)])
def test_pictures_of_a_single_row_or_column(shape):
    crop_3HW = crop_face(torch.ones(shape), similarity(4, 0, 250, 250))
    assert crop_3HW.isfinite().all() and crop_3HW.max() > 0.9 and crop_3HW.min() > 0.5


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_crops_are_float32(dtype):
    picture_HW3 = waves_picture(100, 100)
    matrix = similarity(5.1, 5, 2, 3)
    crop_3HW = crop_face(picture_HW3.to(dtype), matrix)
    assert crop_3HW.dtype == torch.float32
    assert (crop_3HW - crop_face(picture_HW3, matrix)).abs().max() < 1e-3


def test_expanded_pictures_are_read_and_nothing_is_written():
    gray_HW3 = waves_picture(100, 100)[..., :1].expand(-1, -1, 3)
    before = gray_HW3.clone()
    for scale in (5.0, 0.3):
        crop_3HW = crop_face(gray_HW3, similarity(scale, 5, 2, 3))
        assert (crop_3HW[0] - crop_3HW[1])[100:300, 50:200].abs().max() < 1e-6 or scale < 1
    assert torch.equal(gray_HW3, before)


def test_parity_crops_are_whole_8bit_levels():
    crop_3HW = reference.crop(waves_picture(300, 300), similarity(2.3, 5, 2, 3))
    assert torch.allclose(crop_3HW * 255, (crop_3HW * 255).round(), atol=1e-3)
