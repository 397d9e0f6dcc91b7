"""The boxes of a face's parts: from 68 landmarks as published, from five near those, always usable."""

from __future__ import annotations

import numpy as np
import pytest

from codeformer_core.faces.components import MIN_SIDE, boxes_from_68, boxes_from_five, find_components
from codeformer_core.faces.geometry import TEMPLATE_XY

from .facts import facts

# The widespread mean of 68 annotated points, laid on the template by its eyes, nose and mouth corners: the five points
# (eyes as the means of six), and what the published rule makes of all 68.
MEAN_FIVE = np.array([(194.1, 240.6), (318.4, 240.0), (256.6, 310.6), (201.5, 373.1), (312.3, 372.5)])
MEAN_BOXES = np.array([(144, 178, 236, 269), (277, 177, 368, 268), (228, 294, 285, 350), (202, 323, 312, 433)])


@pytest.fixture
def landmarks_682() -> np.ndarray:
    """All points of a part on the ends of a cross, so that middles and reaches are known."""
    points = np.zeros((68, 2))
    cross = np.array([(-1, 0), (1, 0), (0, -0.5), (0, 0.5)])
    for indices, center, reach in (
        ([17, 18, 36, 37], (190, 220), 40),
        ([22, 23, 42, 43], (320, 220), 30),
        ([29, 30, 31, 32], (256, 310), 20),
        ([48, 49, 50, 51], (256, 380), 50),
    ):
        points[indices] = np.array(center) + reach * cross
    for rest, center in (
        ([19, 20, 21, 38, 39, 40, 41], (190, 220)),
        ([24, 25, 26, 44, 45, 46, 47], (320, 220)),
        ([33, 34, 35], (256, 310)),
        (list(range(52, 68)), (256, 380)),
    ):
        points[rest] = center
    return points


def overlap(first_4: np.ndarray, second_4: np.ndarray) -> float:
    """Intersection over union."""
    low_2, high_2 = np.maximum(first_4[:2], second_4[:2]), np.minimum(first_4[2:], second_4[2:])
    common = np.prod(np.maximum(high_2 - low_2, 0))
    areas = [np.prod(box_4[2:] - box_4[:2]) for box_4 in (first_4, second_4)]
    return float(common / (sum(areas) - common))


def assert_usable(boxes_44: np.ndarray, size: int = 512) -> None:
    assert boxes_44.shape == (4, 4) and boxes_44.dtype == np.int64
    assert boxes_44.min() >= 0 and boxes_44.max() <= size
    assert (boxes_44[:, 2:] - boxes_44[:, :2]).min() >= MIN_SIDE
    assert (boxes_44[:, 2:] // 16 > boxes_44[:, :2] // 16).all()


def test_68_points_give_the_published_boxes(landmarks_682):
    """Mean of the points, half their larger extent; +1 on the low side, fractions cut off."""
    boxes_44 = boxes_from_68(landmarks_682)
    assert boxes_44.tolist() == [[151, 181, 230, 260], [291, 191, 350, 250], [237, 291, 276, 330], [207, 331, 306, 430]]
    assert_usable(boxes_44)


def test_a_small_part_reaches_16_pixels(landmarks_682):
    landmarks_682[29:36] = 256.5, 310.5
    assert boxes_from_68(landmarks_682)[2].tolist() == [241, 295, 272, 326]


def test_five_points_give_nearly_what_68_give():
    boxes_44 = boxes_from_five(MEAN_FIVE)
    assert_usable(boxes_44)
    assert min(map(overlap, boxes_44, MEAN_BOXES)) > 0.9
    # Noses of the template are a little longer than the mean one.
    assert min(map(overlap, boxes_from_five(TEMPLATE_XY), MEAN_BOXES)) > 0.8


def test_eyes_of_a_turned_head_keep_their_size():
    turned_52 = TEMPLATE_XY.copy()
    turned_52[:, 0] = 256 + (turned_52[:, 0] - 256) * 0.6
    straight_44, turned_44 = boxes_from_five(TEMPLATE_XY), boxes_from_five(turned_52)
    assert np.abs((turned_44 - straight_44)[:2, 2:] - (turned_44 - straight_44)[:2, :2]).max() <= 2
    assert turned_44[3, 2] - turned_44[3, 0] < 0.7 * (straight_44[3, 2] - straight_44[3, 0])


def test_boxes_follow_the_size_of_the_crop():
    half_44 = boxes_from_five(TEMPLATE_XY / 2, size=256)
    assert_usable(half_44, 256)
    assert np.abs(2 * half_44 - boxes_from_five(TEMPLATE_XY)).max() <= 4


@pytest.mark.parametrize("corner", [(0, 0), (511, 0), (0, 511), (511, 511), (511.9, 255)])
def test_boxes_at_the_border_stay_inside(landmarks_682, corner):
    assert_usable(boxes_from_five(np.tile(np.array(corner, dtype=float), (5, 1))))
    landmarks_682[:] = corner
    assert_usable(boxes_from_68(landmarks_682))
    landmarks_682[29:36] += np.linspace(-600, 600, 7)[:, None]
    assert_usable(boxes_from_68(landmarks_682))


def test_a_badly_placed_point_gives_way_to_the_template():
    broken_52 = TEMPLATE_XY.copy()
    broken_52[4] = 313, 900
    assert np.array_equal(boxes_from_five(broken_52), boxes_from_five(TEMPLATE_XY))


def test_lost_parts_are_named_with_the_cure(landmarks_682):
    lost_682 = landmarks_682.copy()
    lost_682[50] = np.nan
    with pytest.raises(ValueError, match=r"no mouth within the crop of 512 pixels.*Take the boxes from the five"):
        boxes_from_68(lost_682)
    landmarks_682[29:36] += 300
    with pytest.raises(ValueError, match="no nose within the crop"):
        boxes_from_68(landmarks_682)
    with pytest.raises(ValueError, match=r"five landmarks hold NaN.*Detect the face again"):
        boxes_from_five(np.full((5, 2), np.nan))


def test_68_landmarks_go_before_five(landmarks_682):
    found = find_components(TEMPLATE_XY, landmarks_682)
    assert (found.source, found.events) == ("68 landmarks", ())
    assert np.array_equal(found.boxes_44, boxes_from_68(landmarks_682))
    # Five points that lie badly don't matter then.
    assert find_components(TEMPLATE_XY + 900, landmarks_682).events == ()
    found = find_components(TEMPLATE_XY, None)
    assert (found.source, found.events) == ("five landmarks", ())
    assert np.array_equal(found.boxes_44, boxes_from_five(TEMPLATE_XY))


@pytest.mark.parametrize("lost", [np.nan, np.inf, -4000.0])
def test_where_68_lose_a_part_the_five_stand_in_and_it_is_told(landmarks_682, lost):
    landmarks_682[48:] = lost
    found = find_components(TEMPLATE_XY, landmarks_682)
    assert found.source == "five landmarks" and np.array_equal(found.boxes_44, boxes_from_five(TEMPLATE_XY))
    assert facts(found) == [("landmarks_lost", None, {"components": ("mouth",)})]
    landmarks_682[30] = np.nan
    found = find_components(TEMPLATE_XY, landmarks_682)
    assert facts(found) == [("landmarks_lost", None, {"components": ("nose", "mouth")})]


def test_of_the_jaw_nothing_is_asked(landmarks_682):
    landmarks_682[:17] = np.nan
    assert find_components(TEMPLATE_XY, landmarks_682).source == "68 landmarks"


def test_five_points_that_miss_the_mouth_are_told():
    missed_52 = TEMPLATE_XY.copy()
    missed_52[3:] = [(201, 700), (313, 700)]
    found = find_components(missed_52, None)
    assert np.array_equal(found.boxes_44, boxes_from_five(TEMPLATE_XY))
    assert facts(found) == [("points_outside", None, {"points": ("left mouth corner", "right mouth corner")})]
    missed_52[3] = TEMPLATE_XY[3]
    found = find_components(missed_52, None)
    assert facts(found) == [("points_outside", None, {"points": ("right mouth corner",)})]


@pytest.mark.parametrize("boxes", [boxes_from_68, boxes_from_five])
def test_other_numbers_of_points_are_refused(boxes):
    with pytest.raises(ValueError, match=r"points \(x, y\), got the shape \(98, 2\)"):
        boxes(np.zeros((98, 2)))
