"""Boxes for the host and the editor, and the pictures with numbered boxes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from codeformer_core.faces.batch import FaceBatch
from codeformer_core.faces.types import Face
from codeformer_core.faces.visualization import (
    DROPPED_RGB,
    KEPT_RGB,
    VIEW_SIDES,
    bounding_boxes,
    box_fractions,
    draw_faces,
)


def face(left, top, right, bottom, score=0.9):
    return Face((left, top, right, bottom), ((0.0, 0.0),) * 5, score)


def found_in(images_BHWC, *per_image):
    return FaceBatch.of(images_BHWC, per_image)


def is_colour(picture_HW3, rgb):
    return (picture_HW3 * 255).round().to(torch.uint8).eq(torch.tensor(rgb, dtype=torch.uint8)).all(-1)


def test_fractions_end_at_the_picture():
    assert box_fractions(face(20, 10, 40, 60), (100, 200)) == (0.1, 0.1, 0.2, 0.6)
    assert box_fractions(face(-20, 50, 100, 999), (100, 200)) == (0, 0.5, 0.5, 1)
    assert box_fractions(face(-20, -50, -10, -5), (100, 200)) == (0, 0, 0, 0)


def test_bounding_boxes_are_whole_pixels_inside_the_picture():
    given = found_in(torch.rand(2, 100, 200, 3), [face(20.4, 9.6, 40.6, 60, 0.7), face(-20, 50, 300, 400)], [])
    (first, second), none = bounding_boxes(given)
    assert first == {"x": 20, "y": 10, "width": 21, "height": 50, "label": "face", "score": 0.7}
    assert all(type(first[name]) is int for name in ("x", "y", "width", "height"))
    assert [second[name] for name in ("x", "y", "width", "height")] == [0, 50, 200, 50]
    assert none == []


@pytest.mark.parametrize("box", [(-50, -50, -10, -10), (500, 500, 600, 600), (7.1, 7.1, 7.2, 7.2)])
def test_every_bounding_box_has_a_pixel(box):
    (((entry,),)) = bounding_boxes(found_in(torch.rand(1, 100, 200, 3), [face(*box)]))
    assert 0 <= entry["x"] < entry["x"] + entry["width"] <= 200
    assert 0 <= entry["y"] < entry["y"] + entry["height"] <= 100


@pytest.mark.parametrize(
    ("size", "shown"),
    [((48, 64), (384, 512)), ((600, 800), (600, 800)), ((1500, 3000), (512, 1024)), ((1, 4000), (1, 1024))],
)
def test_views_have_a_readable_size(size, shown):
    images_BHW3 = torch.rand(2, *size, 3)
    drawn_Bhw3 = draw_faces(images_BHW3, found_in(images_BHW3, [], []), [[], []])
    assert drawn_Bhw3.shape == (2, *shown, 3)
    assert VIEW_SIDES[0] <= max(shown) <= VIEW_SIDES[1]


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_gray_and_transparent_pictures_are_shown_in_rgb(channels):
    images_BHWC = torch.rand(2, 64, 512, channels)
    drawn_Bhw3 = draw_faces(images_BHWC, found_in(images_BHWC, [], []), [[], []])
    expected = images_BHWC[..., :3] if channels > 2 else images_BHWC[..., :1].expand(-1, -1, -1, 3)
    assert (drawn_Bhw3 - expected).abs().max() <= 0.501 / 255


def test_kept_faces_are_boxed_and_dropped_ones_gray():
    images_BHW3 = torch.full((2, 256, 512, 3), 0.2)
    kept, dropped = face(100, 60, 200, 160), face(300, 60, 400, 160)
    drawn_Bhw3 = draw_faces(images_BHW3, found_in(images_BHW3, [kept], []), [[dropped], []])
    green, gray = is_colour(drawn_Bhw3[0], KEPT_RGB), is_colour(drawn_Bhw3[0], DROPPED_RGB)
    for pixels, box in ((green, kept), (gray, dropped)):
        left, top, right, bottom = map(round, box.box_xyxy)
        assert pixels[120, left - 3 : left + 4].any() and pixels[120, right - 4 : right + 4].any()
        assert pixels[top - 3 : top + 4, left + 50].any() and pixels[bottom - 4 : bottom + 4, left + 50].any()
    assert not green[:, 250:].any() and not gray[:, :250].any()
    assert green.sum() > 1.5 * gray.sum()
    assert not is_colour(drawn_Bhw3[1], KEPT_RGB).any() and (drawn_Bhw3[1] - 0.2).abs().max() < 0.5 / 255
    assert (images_BHW3 == 0.2).all()


@pytest.mark.parametrize("size", [(48, 64), (480, 640), (3000, 4000)])
def test_numbers_have_the_same_size_on_every_picture(size):
    """A tab with black figures on the corner of each box, the second one unlike the first."""
    images_1HW3 = torch.full((1, *size, 3), 0.5)
    width, height = size[1], size[0]
    given = [face(x * width, 0.4 * height, (x + 0.3) * width, 0.8 * height) for x in (0.1, 0.6)]
    (drawn_hw3,) = draw_faces(images_1HW3, found_in(images_1HW3, given), [[]])
    tabs = []
    for one in given:
        left, top, _, _ = box_fractions(one, size)
        x, y = round(left * (drawn_hw3.shape[1] - 1)), round(top * (drawn_hw3.shape[0] - 1))
        tabs.append(drawn_hw3[y - 18 : y - 2, x + 2 : x + 14])
    assert all(is_colour(tab, KEPT_RGB).any() and is_colour(tab, (0, 0, 0)).any() for tab in tabs)
    assert not torch.equal(*tabs)


@pytest.mark.parametrize("box", [(0, 0, 512, 256), (508, 250, 512, 256), (-900, -900, -800, -800), (5, 5, 5, 5)])
def test_boxes_at_the_rim_outside_and_without_size_are_drawn_somehow(box):
    images_1HW3 = torch.full((1, 256, 512, 3), 0.5)
    (drawn_hw3,) = draw_faces(images_1HW3, found_in(images_1HW3, [face(*box)]), [[face(*box)]])
    assert drawn_hw3.shape == (256, 512, 3) and is_colour(drawn_hw3, KEPT_RGB).any()


def test_a_batch_of_frames_is_drawn_apart():
    images_BHW3 = torch.from_numpy(np.linspace(0, 1, 3, dtype=np.float32)).view(3, 1, 1, 1).expand(3, 512, 512, 3)
    drawn_Bhw3 = draw_faces(images_BHW3, found_in(images_BHW3, [], [face(100, 100, 200, 200)], []), [[], [], []])
    assert [float(drawn_hw3[-1, -1, 0]) for drawn_hw3 in drawn_Bhw3] == pytest.approx([0, 0.5, 1], abs=1 / 255)
    assert [bool(is_colour(drawn_hw3, KEPT_RGB).any()) for drawn_hw3 in drawn_Bhw3] == [False, True, False]
