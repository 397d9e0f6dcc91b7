"""Outlines as masks of the pictures, and faces inside a given mask."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from codeformer_core.faces.batch import FaceBatch
from codeformer_core.faces.types import Face
from codeformer_core.pipeline.face_masks import face_masks, faces_in_mask

from .conftest import placed_face
from .facts import facts

SIZE = (120, 200)


def faces(*per_image, size=SIZE):
    return FaceBatch(tuple(map(tuple, per_image)), size, np.zeros((len(per_image), 8, 8), np.float32))


def boxed(left, top, right, bottom):
    return Face((left, top, right, bottom), placed_face(0, 0, 10).landmarks_xy, 0.9)


def kept(result):
    return [len(found) for found in result.faces.per_image]


def test_outlines_lie_on_the_faces():
    masks_BHW = face_masks(faces([placed_face(50, 60, 20), placed_face(150, 60, 20)], []))
    assert masks_BHW.shape == (2, *SIZE) and masks_BHW.dtype == torch.float32
    assert masks_BHW[0, 60, 50] == masks_BHW[0, 60, 150] == 1
    assert masks_BHW[0, 60, 100] == masks_BHW[0, 0, 0] == masks_BHW[1].max() == 0
    soft = (masks_BHW[0] > 0) & (masks_BHW[0] < 1)
    assert soft.float().mean() > 0.02 and masks_BHW.max() <= 1


def test_neighbours_do_not_add_up():
    one, other = placed_face(60, 60, 20), placed_face(70, 62, 20)
    (both_HW,) = face_masks(faces([one, other]))
    assert torch.equal(both_HW, torch.maximum(face_masks(faces([one]))[0], face_masks(faces([other]))[0]))


def test_an_outline_follows_size_and_tilt():
    small, large = (face_masks(faces([placed_face(100, 60, eyes)])).sum() for eyes in (10, 20))
    assert large / small == pytest.approx(4, rel=0.05)
    upright, tilted = (face_masks(faces([placed_face(100, 60, 16, degrees)]))[0] for degrees in (0, 90))
    # A clockwise quarter turn about the crop's middle.
    square_SS = upright[:, 40:161][:, :120]
    assert (torch.rot90(square_SS, -1) - tilted[:, 40:161][:, :120]).abs().mean() < 0.02


@pytest.mark.parametrize("place", [(0, 0), (200, 120), (-500, 60), (1e6, 1e6)])
def test_faces_at_the_rim_and_outside(place):
    masks_BHW = face_masks(faces([placed_face(*place, 20)]))
    assert masks_BHW.isfinite().all() and (masks_BHW.max() > 0.9) == (abs(place[0]) <= 200)


def test_a_face_that_can_not_be_aligned_has_no_outline():
    assert face_masks(faces([Face((0, 0, 9, 9), ((5.0, 5.0),) * 5, 0.9)])).max() == 0


def half_white(height, width):
    mask_HW = torch.zeros(height, width)
    mask_HW[:, : width // 2] = 1
    return mask_HW[None]


LEFT, RIGHT = boxed(10, 10, 60, 60), boxed(120, 10, 180, 60)
# A quarter of it in the left half.
ACROSS = boxed(90, 20, 130, 60)


def test_faces_inside_and_what_the_others_miss():
    result = faces_in_mask(faces([LEFT, ACROSS, RIGHT]), half_white(*SIZE))
    assert result.faces.per_image == ((LEFT,),)
    assert facts(result) == [
        ("outside_mask", 0, {"share": pytest.approx(0.25), "number": 2}),
        ("outside_mask", 0, {"share": 0, "number": 3}),
        ("faces", 0, {"given": 3, "inside": 1}),
    ]


@pytest.mark.parametrize(("share", "count"), [(0, 2), (0.25, 2), (0.26, 1), (1, 1)])
def test_share_says_how_much(share, count):
    assert kept(faces_in_mask(faces([LEFT, ACROSS, RIGHT]), half_white(*SIZE), share)) == [count]


@pytest.mark.parametrize("size", [(2, 2), (60, 100), (120, 200), (1000, 300), (1, 2)])
def test_a_mask_of_any_size_is_stretched(size):
    result = faces_in_mask(faces([LEFT, ACROSS, RIGHT]), half_white(*size), share=0.2)
    assert result.faces.per_image == ((LEFT, ACROSS),)
    assert kept(faces_in_mask(faces([ACROSS]), half_white(*size), share=0.3)) == [0]


def test_one_mask_for_all_or_one_each():
    given = faces([LEFT, RIGHT], [LEFT, RIGHT])
    mask_1HW = half_white(*SIZE)
    assert faces_in_mask(given, mask_1HW).faces.per_image == ((LEFT,), (LEFT,))
    each_2HW = torch.cat((mask_1HW, 1 - mask_1HW))
    assert faces_in_mask(given, each_2HW).faces.per_image == ((LEFT,), (RIGHT,))


def test_gray_counts_in_part_and_boxes_count_inside_the_picture():
    assert kept(faces_in_mask(faces([LEFT]), torch.full((1, *SIZE), 0.6))) == [1]
    assert kept(faces_in_mask(faces([LEFT]), torch.full((1, *SIZE), 0.4))) == [0]
    half_outside = boxed(-40, 10, 40, 60)
    white = torch.ones(1, *SIZE, dtype=torch.float16)
    assert kept(faces_in_mask(faces([half_outside]), white, share=1)) == [1]
    assert kept(faces_in_mask(faces([boxed(-90, -90, -10, -10), boxed(5, 5, 5, 5)]), white, share=0)) == [0]


def test_a_whole_box_stays_whole_in_float32():
    """Every box of whole and broken pixels inside a white mask is kept at share 1."""
    steps = [math.pi * step for step in range(1, 20)]
    given = [boxed(step, step / 2, 2 * step + 9, step + 9) for step in steps]
    assert kept(faces_in_mask(faces(given), torch.ones(1, 37, 53), share=1)) == [len(given)]


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (torch.zeros(3, 9, 9), r"shape \(1 or 2, height, width\), got \(3, 9, 9\).*Give one mask"),
        (torch.zeros(9), r"got \(9,\)"),
        (torch.zeros(1, 0, 9), r"got \(1, 0, 9\)"),
        (torch.full((1, 9, 9), torch.nan), r"NaN or infinite. Mend"),
    ],
)
def test_other_masks_are_refused(mask, words):
    with pytest.raises(ValueError, match=words):
        faces_in_mask(faces([], []), mask)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_share_must_be_a_part(share):
    with pytest.raises(ValueError, match="share must be from 0"):
        faces_in_mask(faces([]), torch.ones(1, 9, 9), share)
