"""The face's shape from its landmarks: where it is 1 and 0, convex, soft, and following the face."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from codeformer_core.faces.contour import contour_masks
from codeformer_core.faces.geometry import CROP_SIZE, TEMPLATE_XY

MIDDLE = (CROP_SIZE - 1) / 2


def turned(landmarks: np.ndarray, degrees: float, scale: float = 1.0) -> np.ndarray:
    """About the crop's middle, clockwise in the picture."""
    cosine, sine = scale * math.cos(math.radians(degrees)), scale * math.sin(math.radians(degrees))
    return (landmarks - MIDDLE) @ np.array([(cosine, sine), (-sine, cosine)]) + MIDDLE


def half_profile(offset: float) -> np.ndarray:
    """The template with its nose `offset` pixels further to the right."""
    landmarks = TEMPLATE_XY.copy()
    landmarks[2, 0] += offset
    return landmarks


# The eyes of the last are where a profile's are: close together, off the middle.
SHAPES = {
    "template": TEMPLATE_XY,
    "tilted": turned(TEMPLATE_XY, 25),
    "small": turned(TEMPLATE_XY, -10, 0.5),
    "left": half_profile(-60),
    "profile": np.array([(210, 240), (250, 236), (180, 310), (215, 372), (250, 368)], float),
}


def outline(landmarks: np.ndarray) -> Tensor:
    return contour_masks(landmarks[None])[0]


def center_of(mask_SS: Tensor) -> tuple[float, float]:
    pixels_S = torch.arange(len(mask_SS), dtype=torch.float32)
    return float((mask_SS.sum(0) * pixels_S).sum() / mask_SS.sum()), float(
        (mask_SS.sum(1) * pixels_S).sum() / mask_SS.sum()
    )


@pytest.mark.parametrize("name", SHAPES)
def test_whole_on_the_face_nothing_at_the_rim_and_soft_between(name):
    mask_SS = outline(SHAPES[name])
    assert mask_SS.dtype == torch.float32 and mask_SS.shape == (CROP_SIZE, CROP_SIZE)
    assert mask_SS.min() >= 0 and mask_SS.max() == 1
    for x, y in SHAPES[name].round().astype(int):
        assert mask_SS[y, x] == 1
    rim_SS = torch.ones_like(mask_SS, dtype=torch.bool)
    rim_SS[10:-10, 10:-10] = False
    assert mask_SS[rim_SS].max() == 0
    steepest = max(float(mask_SS.diff(dim=axis).abs().max()) for axis in (0, 1))
    assert steepest < (0.06 if name == "small" else 0.04)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("level", [0.1, 0.5, 0.9])
def test_every_level_is_one_convex_shape(name, level):
    (contour,), _ = cv2.findContours((outline(SHAPES[name]) > level).numpy().astype(np.uint8), 0, 1)
    hull = cv2.convexHull(contour)
    assert cv2.contourArea(contour) > 0.985 * cv2.contourArea(hull)


def test_from_ear_to_ear_and_from_forehead_to_chin():
    """In the template an ear lies at about 105 and 407, the hairline at 110 and the chin at 460."""
    mask_SS = outline(TEMPLATE_XY)
    for x, y in ((130, 270), (382, 270), (256, 150), (256, 440)):
        assert mask_SS[y, x] > 0.75, (x, y)
    for x, y in ((60, 270), (452, 270), (256, 60), (256, 500), (90, 90), (420, 440)):
        assert mask_SS[y, x] < 0.02, (x, y)


@pytest.mark.parametrize(("degrees", "scale"), [(0, 0.5), (30, 0.7), (-75, 0.6)])
def test_follows_size_and_tilt(degrees, scale):
    """Turning the landmarks turns the mask; away from the rim nothing else changes."""
    base = turned(TEMPLATE_XY, 0, 0.7)
    to_turned = cv2.getRotationMatrix2D((MIDDLE, MIDDLE), -degrees, scale / 0.7)
    expected = cv2.warpAffine(outline(base).numpy(), to_turned, (CROP_SIZE, CROP_SIZE))
    assert np.abs(outline(turned(TEMPLATE_XY, degrees, scale)).numpy() - expected).max() < 0.02


@pytest.mark.parametrize("offset", [-50, 50])
def test_a_turned_head_reaches_to_where_its_nose_does_not_point(offset):
    shift = center_of(outline(half_profile(offset)))[0] - center_of(outline(TEMPLATE_XY))[0]
    assert 0.5 < -shift / offset < 1.2


def test_a_landmark_far_out_is_not_cut_off():
    landmarks = TEMPLATE_XY.copy()
    landmarks[0] = (90, 200)
    mask_SS = outline(landmarks)
    assert mask_SS[200, 90] == 1


def test_a_smaller_crop_and_several_faces():
    half = (TEMPLATE_XY + 0.5) / 2 - 0.5
    (small_SS,) = contour_masks(half[None], 256)
    whole_SS = outline(TEMPLATE_XY)
    averaged_SS = whole_SS.unfold(0, 2, 2).unfold(1, 2, 2).mean((2, 3))
    assert (small_SS - averaged_SS).abs().max() < 0.03
    both = contour_masks(np.stack([TEMPLATE_XY, SHAPES["tilted"]]))
    assert torch.equal(both[0], whole_SS) and torch.equal(both[1], outline(SHAPES["tilted"]))
    assert contour_masks(np.zeros((0, 5, 2))).shape == (0, CROP_SIZE, CROP_SIZE)


@pytest.mark.parametrize("landmarks", [np.full((5, 2), 256.0), np.full((5, 2), -9000.0), TEMPLATE_XY * 40])
def test_landmarks_that_are_no_face_give_numbers(landmarks):
    mask_SS = outline(landmarks)
    assert mask_SS.isfinite().all() and mask_SS.min() >= 0 and mask_SS.max() <= 1
