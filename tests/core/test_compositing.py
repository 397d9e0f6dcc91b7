"""Pasting: in the right place, softly, and nowhere but in the face's own rectangle."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from codeformer_core.faces.geometry import (
    CROP_SIZE,
    Rectangle,
    covered_rectangle,
    crop_coordinates,
    crop_face,
    estimate_alignment,
    invert,
)
from codeformer_core.faces.masks import FACE_CLASSES, face_shape_mask, gaussian_operator, soft_box
from codeformer_core.imaging.tensors import resize
from codeformer_core.pipeline import reference
from codeformer_core.pipeline.align import AlignedFace
from codeformer_core.pipeline.composite import NewFace, Target, blend_face, paste_matrix
from codeformer_core.pipeline.options import PasteOptions
from codeformer_core.pipeline.reference import published_paste_matrix, published_soft_box

from .conftest import placed_face
from .test_geometry import similarity, waves_picture

CPU = torch.device("cpu")
WHITE = torch.ones(3, CROP_SIZE, CROP_SIZE)


def matrix_of(x: float, y: float, eye_distance: float, degrees: float = 0) -> np.ndarray:
    matrix = estimate_alignment(placed_face(x, y, eye_distance, degrees))
    assert matrix is not None
    return matrix


def pasted(
    picture_HW3: Tensor, matrix: np.ndarray, face_3SS: Tensor = WHITE, shape_mask_SS=None, **options
) -> tuple[Tensor, Tensor, bool]:
    """The picture after pasting, the mask, and whether anything was pasted."""
    canvas_HW3 = picture_HW3.clone()
    mask_HW = torch.zeros(picture_HW3.shape[:2])
    done = paste(canvas_HW3, mask_HW, matrix, face_3SS, shape_mask_SS, **options)
    return canvas_HW3, mask_HW, done


def paste(
    canvas_HW3: Tensor,
    mask_HW: Tensor,
    matrix: np.ndarray,
    face_3SS: Tensor = WHITE,
    shape_mask_SS=None,
    upscale: float = 1.0,
    parity: bool = False,
    opacity: float = 1.0,
    **options,
) -> bool:
    target = Target(canvas_HW3, mask_HW, (upscale, upscale), options.pop("clip_mask_HW", None))
    new = NewFace(AlignedFace(0, placed_face(0, 0, 30), matrix), face_3SS, shape_mask_SS)
    if parity:
        return reference.paste(target, new, opacity, upscale)
    return blend_face(target, new, PasteOptions(opacity=opacity, **options))


def canvas_matrix(matrix: np.ndarray, upscale: float, face_size: int, parity: bool) -> np.ndarray:
    if parity:
        return published_paste_matrix(matrix, upscale, face_size)
    return paste_matrix(matrix, (upscale, upscale), face_size)


# --- only the rectangle ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parity", [False, True])
@pytest.mark.parametrize(("x", "y", "degrees"), [(150, 120, 0), (150.4, 119.7, 30), (5, 8, -15), (296, 236, 70)])
def test_pixels_outside_the_rectangle_keep_every_bit(x, y, degrees, parity):
    picture_HW3 = torch.rand((240, 300, 3), generator=torch.Generator().manual_seed(0))
    matrix = matrix_of(x, y, 22, degrees)
    canvas_HW3, mask_HW, done = pasted(picture_HW3, matrix, parity=parity)
    area = covered_rectangle(canvas_matrix(matrix, 1, CROP_SIZE, parity), CROP_SIZE, 240, 300)
    outside_HW = torch.ones(240, 300, dtype=torch.bool)
    area.of(outside_HW)[:] = False
    assert done and outside_HW.any() and area.width < 150
    assert torch.equal(canvas_HW3[outside_HW], picture_HW3[outside_HW])
    assert not mask_HW[outside_HW].any()
    assert mask_HW.max() > 0.9


class LargestResult(TorchDispatchMode):
    """Notes the size of the largest tensor that any operation makes; views of what is there do not count."""

    def __init__(self, *given: Tensor) -> None:
        super().__init__()
        self.given = {tensor.untyped_storage().data_ptr() for tensor in given}
        self.numel = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, Tensor) and tensor.untyped_storage().data_ptr() not in self.given:
                self.numel = max(self.numel, tensor.numel())
        return result


@pytest.mark.parametrize("parity", [False, True])
def test_the_cost_is_the_faces_not_the_pictures(parity):
    """The largest thing that is computed, in a small picture and in one of 30 times the area."""
    face_3SS = torch.ones(3, 128, 128)
    matrix = matrix_of(150, 150, 40)
    largest = []
    for side in (300, 1650):
        canvas_HW3, mask_HW = torch.zeros(side, side, 3), torch.zeros(side, side)
        with LargestResult(canvas_HW3, mask_HW) as watch:
            paste(canvas_HW3, mask_HW, matrix, face_3SS, parity=parity)
        largest.append(watch.numel)
    area = covered_rectangle(canvas_matrix(matrix, 1, 128, parity), 128, 300, 300)
    assert largest[0] == largest[1] <= 6 * area.width * area.height


@pytest.mark.parametrize(("x", "y"), [(-400, 100), (100, -400), (800, 100), (100, 700)])
@pytest.mark.parametrize("parity", [False, True])
def test_a_face_outside_the_picture_changes_nothing(x, y, parity):
    picture_HW3 = torch.rand(240, 300, 3)
    canvas_HW3, mask_HW, done = pasted(picture_HW3, matrix_of(x, y, 30), parity=parity)
    assert done is False
    assert torch.equal(canvas_HW3, picture_HW3) and not mask_HW.any()


@pytest.mark.parametrize("parity", [False, True])
@pytest.mark.parametrize(("x", "y"), [(0, 120), (299, 120), (150, 0), (150, 239), (0, 0), (299, 239)])
def test_a_face_half_outside_is_pasted_up_to_the_pictures_border(x, y, parity):
    picture_HW3 = torch.zeros(240, 300, 3)
    canvas_HW3, mask_HW, done = pasted(picture_HW3, matrix_of(x, y, 25), parity=parity)
    assert done
    assert canvas_HW3[y, x].min() > 0.99 and mask_HW[y, x] > 0.99
    assert canvas_HW3.min() >= 0 and canvas_HW3.max() <= 1


@pytest.mark.parametrize("offset", np.linspace(-104, -100, 9).tolist())
@pytest.mark.parametrize("parity", [False, True])
def test_a_face_that_just_touches_the_picture(offset, parity):
    """The rectangle is a few pixels wide, or one, or none."""
    matrix = similarity(5, 0, 5 * -offset - 511, 200)
    canvas_HW3, mask_HW, _ = pasted(torch.full((60, 60, 3), 0.5), matrix, parity=parity)
    assert canvas_HW3.isfinite().all() and mask_HW.isfinite().all()


@pytest.mark.parametrize("parity", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 80, 3), (80, 1, 3)])
def test_pictures_of_a_single_row_or_column(shape, parity):
    canvas_HW3, mask_HW, done = pasted(torch.zeros(shape), matrix_of(0, 0, 40), parity=parity)
    assert done and canvas_HW3.isfinite().all() and mask_HW.min() >= 0 and mask_HW.max() <= 1


# --- blending --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("opacity", [0.0, 0.5, 1.0])
def test_opacity_mixes_picture_and_face(opacity):
    picture_HW3 = waves_picture(240, 300)
    matrix = matrix_of(150, 120, 30, 10)
    whole_HW3, whole_mask_HW, _ = pasted(picture_HW3, matrix)
    canvas_HW3, mask_HW, _ = pasted(picture_HW3, matrix, opacity=opacity)
    assert torch.allclose(mask_HW, opacity * whole_mask_HW)
    assert torch.allclose(canvas_HW3, picture_HW3.lerp(whole_HW3, opacity), atol=1e-6)
    if opacity == 0:
        assert torch.equal(canvas_HW3, picture_HW3)


def test_what_was_given_is_not_written_to():
    face_3SS = torch.rand(3, CROP_SIZE, CROP_SIZE)
    shape_mask_SS = torch.rand(CROP_SIZE, CROP_SIZE)
    matrix = matrix_of(150, 120, 30)
    given = (face_3SS, shape_mask_SS, torch.from_numpy(matrix))
    before = [value.clone() for value in given]
    for parity in (False, True):
        pasted(torch.zeros(240, 300, 3), matrix, face_3SS, shape_mask_SS, opacity=0.5, parity=parity)
    assert all(torch.equal(value, copy) for value, copy in zip(given, before, strict=True))


def test_a_read_only_matrix_will_do():
    matrix = matrix_of(150, 120, 30)
    matrix.setflags(write=False)
    assert pasted(torch.zeros(240, 300, 3), matrix)[2]
    crop_face(torch.zeros(240, 300, 3), matrix)


def test_the_mask_keeps_the_stronger_of_two_faces():
    canvas_HW3, mask_HW = torch.zeros(240, 300, 3), torch.zeros(240, 300)
    single_masks = []
    for x in (130, 160):
        paste(canvas_HW3, mask_HW, matrix_of(x, 120, 25))
        single_masks.append(pasted(torch.zeros(240, 300, 3), matrix_of(x, 120, 25))[1])
    assert torch.equal(mask_HW, torch.maximum(*single_masks))


def test_a_shape_mask_only_takes_away():
    shape_mask_SS = torch.zeros(CROP_SIZE, CROP_SIZE)
    shape_mask_SS[:, : CROP_SIZE // 2] = 1
    matrix = matrix_of(150, 120, 40)
    box_mask_HW = pasted(torch.zeros(240, 300, 3), matrix)[1]
    mask_HW = pasted(torch.zeros(240, 300, 3), matrix, WHITE, shape_mask_SS)[1]
    assert (mask_HW <= box_mask_HW + 1e-6).all()
    assert mask_HW[120, 140] > 0.99 and mask_HW[120, 160] == 0


def test_faces_of_another_precision_are_pasted_in_the_pictures():
    canvas_HW3, _, _ = pasted(torch.zeros(240, 300, 3), matrix_of(150, 120, 30), WHITE.double())
    assert canvas_HW3.dtype == torch.float32 and canvas_HW3.max() > 0.99


# --- crop, then paste ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("degrees", [0, 25, -100])
@pytest.mark.parametrize("eye_distance", [5, 8, 15, 40, 100])
def test_an_untouched_crop_gives_the_picture_back(eye_distance, degrees):
    """Also at the rim of small faces, where the soft box is not quite 0 and a dark frame would show."""
    picture_HW3 = waves_picture(700, 760) * 0.5 + 0.5
    matrix = matrix_of(380.3, 351.8, eye_distance, degrees)
    canvas_HW3, mask_HW, _ = pasted(picture_HW3, matrix, crop_face(picture_HW3, matrix))
    assert mask_HW.max() > 0.99
    assert (canvas_HW3 - picture_HW3).abs().max() < 1 / 255


@pytest.mark.parametrize("upscale", [1.5, 2.0, 3.0])
@pytest.mark.parametrize("face_size", [512, 1024, 768])
def test_an_untouched_crop_fits_the_enlarged_picture(upscale, face_size):
    """Pixel centre on pixel centre: half a pixel off would show as a difference of the pattern's slope."""
    picture_HW3 = waves_picture(320, 360)
    enlarged_HW3 = resize(picture_HW3[None], round(320 * upscale), round(360 * upscale))[0]
    matrix = matrix_of(182.3, 161.8, 35, 20)
    face_3SS = crop_face(picture_HW3, matrix)
    face_3SS = F.interpolate(face_3SS[None], size=(face_size, face_size), mode="bilinear", align_corners=False)[0]
    canvas_HW3, mask_HW, _ = pasted(enlarged_HW3, matrix, face_3SS, upscale=upscale)
    assert mask_HW.sum() > 5000 * upscale**2
    assert (canvas_HW3 - enlarged_HW3).abs().max() < 1.5 / 255


@pytest.mark.parametrize(
    ("upscale", "face_size"), [((1, 1), 512), ((2, 2), 512), ((2.5, 2.5), 1024), ((1.52, 1.49), 512)]
)
def test_the_default_matrix_maps_pixel_centres(upscale, face_size):
    """x_enlarged + 0.5 = upscale * (x_picture + 0.5), and the same on the enlarged face."""
    matrix = similarity(1.9, 33, 12, -45)
    to_face = paste_matrix(matrix, upscale, face_size)
    for picture_xy in ((0.0, 0.0), (100.0, 7.0), (33.3, 250.0)):
        crop_xy = matrix @ (*picture_xy, 1)
        canvas_xy = (np.array(picture_xy) + 0.5) * upscale - 0.5
        assert np.allclose(to_face @ (*canvas_xy, 1), (crop_xy + 0.5) * face_size / CROP_SIZE - 0.5)


@pytest.mark.parametrize("upscale", [1, 2])
def test_the_published_matrix_has_the_published_offset(upscale):
    matrix = similarity(1.9, 33, 12, -45)
    inverse = invert(matrix) * upscale
    inverse[:, 2] += 0.5 * upscale if upscale > 1 else 0
    assert np.allclose(invert(published_paste_matrix(matrix, upscale, CROP_SIZE)), inverse)
    enlarged = invert(matrix) * upscale
    enlarged[:, :2] /= 2
    assert np.allclose(invert(published_paste_matrix(matrix, upscale, 2 * CROP_SIZE)), enlarged)


# --- masks -----------------------------------------------------------------------------------------------------------


def places(matrix: np.ndarray, side: int) -> tuple[Tensor, Tensor]:
    return crop_coordinates(matrix, Rectangle(0, 0, side, side), CPU)


@pytest.mark.parametrize("degrees", [0, 20, 45, -75])
@pytest.mark.parametrize("edge", [4, 12])
def test_the_soft_box_is_a_blurred_eroded_square(degrees, edge):
    """OpenCV's way, pixel by pixel, on a square whose side makes the published edge a whole number."""
    matrix = similarity(CROP_SIZE / (20 * edge), degrees, 0, 0)
    side = 36 * edge
    matrix[:, 2] = 255.5 - matrix[:, :2] @ ((side - 1) / 2, (side - 1) / 2)
    square = cv2.warpAffine(
        np.ones((CROP_SIZE, CROP_SIZE), np.float32), invert(matrix), (side, side), flags=cv2.INTER_LINEAR
    )
    eroded = cv2.erode(cv2.erode(square, np.ones((2, 2), np.uint8)), np.ones((2 * edge, 2 * edge), np.uint8))
    blurred = cv2.GaussianBlur(eroded, (2 * edge + 1, 2 * edge + 1), 0)
    # OpenCV's even windows, which can't be centred, shift what they erode by half a pixel to the lower right each.
    mask_HW = soft_box(*places(matrix, side), matrix, CROP_SIZE).roll((1, 1), (0, 1)).numpy()
    assert np.abs(mask_HW - blurred).max() < 0.04
    assert np.abs(mask_HW - blurred).mean() < 0.005


def test_the_soft_box_fades_out_before_the_rim():
    matrix = similarity(2, 0, 0.5, 0.5)
    mask_HW = soft_box(*places(matrix, 256), matrix, CROP_SIZE)
    assert mask_HW[128, 128] == 1 and mask_HW.max() <= 1 and mask_HW.min() >= 0
    assert mask_HW[0].max() < 0.003 and mask_HW[:, 0].max() < 0.003
    row_W = mask_HW[128, :128]
    assert (row_W.diff() >= 0).all()
    assert torch.allclose(mask_HW, mask_HW.flip(0), atol=1e-5) and torch.allclose(mask_HW, mask_HW.T, atol=1e-5)


def test_the_published_soft_box_knows_the_pictures_border():
    """Where the face reaches outside, erosion stops at the border and the mask is full up to it."""
    matrix = similarity(2, 0, 200, 0)
    area = covered_rectangle(matrix, CROP_SIZE, 256, 256)
    x_HW, y_HW = crop_coordinates(matrix, area, CPU)
    coverage_HW, mask_HW = published_soft_box(x_HW, y_HW, matrix, CROP_SIZE, 1, area, (256, 256))
    assert coverage_HW[128, 0] == 1 and mask_HW[128, 0] > 0.999
    assert coverage_HW[128, -1] == 0 and mask_HW[128, -2:].max() < 0.01


@pytest.mark.parametrize(
    ("size", "taps", "sigma"), [(40, 11, 2.0), (512, 101, 11.0), (3, 11, 2.0), (1, 3, 0.8), (2, 5, 1)]
)
def test_the_gaussian_operator_is_opencvs_blur(size, taps, sigma):
    line = np.random.default_rng(0).random((size, 1), dtype=np.float32)
    blurred = gaussian_operator(size, taps, sigma) @ torch.from_numpy(line)
    if size > taps // 2:  # OpenCV mirrors only once
        expected = cv2.GaussianBlur(line, (1, taps), sigmaX=1, sigmaY=sigma, borderType=cv2.BORDER_REFLECT_101)
        assert np.abs(blurred.numpy() - expected).max() < 1e-5
    assert torch.allclose(gaussian_operator(size, taps, sigma).sum(1), torch.ones(size), atol=1e-5)


def test_the_shape_mask_is_the_published_recipe():
    labels_BSS = torch.zeros((2, CROP_SIZE, CROP_SIZE), dtype=torch.uint8)
    labels_BSS[0, 100:400, 120:380] = 1
    labels_BSS[0, 200:220, 200:260] = 4
    labels_BSS[1] = 13
    masks_BSS = face_shape_mask(labels_BSS)
    for labels_SS, mask_SS in zip(labels_BSS.numpy(), masks_BSS.numpy(), strict=True):
        expected = np.isin(labels_SS, FACE_CLASSES).astype(np.float32) * 255
        for _ in range(2):
            expected = cv2.GaussianBlur(expected, (101, 101), 11)
        expected[:10] = expected[-10:] = 0
        expected[:, :10] = expected[:, -10:] = 0
        assert np.abs(mask_SS - expected / 255).max() < 1e-4


@pytest.mark.parametrize("label", range(19))
def test_which_classes_are_the_face(label):
    mask_BSS = face_shape_mask(torch.full((1, 64, 64), label, dtype=torch.uint8))
    is_face = label in range(1, 14) or label == 15
    assert math.isclose(float(mask_BSS[0, 32, 32]), float(is_face), abs_tol=1e-5)
