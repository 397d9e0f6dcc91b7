"""Which faces are kept, which are skipped, and the reason given."""

import pytest

from codeformer_core.faces.geometry import box_iou, boxes_of
from codeformer_core.faces.selection import (
    choose_faces,
    select_faces,
    skip_duplicates,
    skip_near_eyes,
    skip_small_faces,
)
from codeformer_core.faces.types import Face
from codeformer_core.pipeline import reference
from codeformer_core.pipeline.options import RestoreOptions

from .facts import why

PICTURE = (100, 200)


def face(left, top, size, score=0.9, **points):
    """A square box with landmarks in their usual places, some of them moved by name."""
    places = {"eye_left": (0.3, 0.4), "eye_right": (0.7, 0.4), "nose": (0.5, 0.6)}
    places |= {"mouth_left": (0.35, 0.8), "mouth_right": (0.65, 0.8)}
    landmarks = {name: (left + x * size, top + y * size) for name, (x, y) in places.items()} | points
    return Face((left, top, left + size, top + size), tuple(landmarks.values()), score)


def iou(first: Face, second: Face) -> float:
    return float(box_iou(*boxes_of([first, second])))


def reasons(selection):
    return why(selection.skipped)


def test_all_faces_in_their_order():
    faces = [face(0, 0, 20), face(50, 0, 40), face(100, 50, 30)]
    assert select_faces(faces, "all", PICTURE).kept == tuple(faces)
    assert select_faces([], "largest", PICTURE).kept == ()


def test_largest_counts_only_what_lies_inside_the_picture():
    inside, half_outside = face(50, 30, 40), face(180, 0, 50)
    selection = select_faces([half_outside, inside], "largest", PICTURE)
    assert selection.kept == (inside,)
    assert selection.skipped[0].face is half_outside
    assert reasons(selection) == [("not_largest", {})]


def test_center_is_nearest_to_the_pictures_centre():
    corner, middle = face(0, 0, 60, score=0.99), face(90, 45, 10)
    selection = select_faces([corner, middle], "center", PICTURE)
    assert selection.kept == (middle,)
    assert reasons(selection) == [("not_center", {})]


@pytest.mark.parametrize("which", ["largest", "center"])
def test_of_equals_the_first_wins(which):
    twins = [face(80, 40, 20, score=0.8), face(100, 40, 20, score=0.9)]
    assert select_faces(twins, which, PICTURE).kept == (twins[0],)
    assert select_faces(twins[::-1], which, PICTURE).kept == (twins[1],)


def test_smallest_face_goes_by_the_shorter_side():
    narrow = Face((0, 0, 20, 90), face(0, 0, 20).landmarks_xy, 0.9)
    wide = face(0, 0, 21)
    selection = skip_small_faces([narrow, wide], 20.5)
    assert selection.kept == (wide,)
    assert reasons(selection) == [("too_small", {"size": 20, "limit": 20.5})]
    assert skip_small_faces([narrow], 20).kept == skip_small_faces([narrow], 0).kept == (narrow,)


@pytest.mark.parametrize("wrong", [-1, float("nan")])
def test_smallest_face_must_be_a_size(wrong):
    with pytest.raises(ValueError, match="smallest face must be 0 or more pixels"):
        skip_small_faces([], wrong)


def test_eyes_less_than_five_pixels_apart():
    near = face(0, 0, 50, eye_left=(10, 20), eye_right=(13, 23.9))  # hypot(3, 3.9) = 4.92
    far_enough = face(0, 0, 50, eye_left=(10, 20), eye_right=(13, 24))  # exactly 5
    selection = skip_near_eyes([near, far_enough])
    assert selection.kept == (far_enough,)
    assert reasons(selection) == [("eyes_close", {"distance": pytest.approx(4.92, abs=0.01), "limit": 5})]


def test_the_official_eye_distance_is_another_one():
    """The official row: x0 y0 x1 y1 score, then left eye x y, right eye x y, nose x y. It takes items 6-8 and
    7-9."""
    profile = face(0, 0, 100, eye_left=(10, 50), eye_right=(40, 52), nose=(38, 60))
    assert skip_near_eyes([profile]).kept == (profile,)
    assert reasons(reference.skip_near_eyes([profile])) == [
        ("eyes_close", {"distance": pytest.approx(8**0.5), "limit": 5})
    ]
    near = face(0, 0, 100, eye_left=(40, 50), eye_right=(42, 50), nose=(30, 60))
    assert skip_near_eyes([near]).kept == ()
    assert reference.skip_near_eyes([near]).kept == (near,)

    row = [*profile.box_xyxy, profile.score, *sum(profile.landmarks_xy, ())]
    official = ((row[6] - row[8]) ** 2 + (row[7] - row[9]) ** 2) ** 0.5
    assert reasons(reference.skip_near_eyes([profile], official + 1))
    assert not reasons(reference.skip_near_eyes([profile], official - 1e-9))


def test_duplicates_keep_the_better_score_and_the_order():
    other = face(120, 0, 40, score=0.95)
    worse, better = face(0, 0, 40, score=0.81), face(2, 1, 40, score=0.92)
    selection = skip_duplicates([other, worse, better])
    assert iou(worse, better) > 0.6
    assert selection.kept == (other, better)
    assert selection.skipped[0].face is worse
    assert reasons(selection) == [("duplicate", {})]


def test_identical_boxes_leave_one():
    twins = [face(10, 10, 30), face(10, 10, 30)]
    selection = skip_duplicates(twins)
    assert len(selection.kept) == len(selection.skipped) == 1
    assert selection.kept[0] is twins[0]


def test_same_landmarks_in_another_box_are_the_same_face():
    small = face(20, 20, 40, score=0.9)
    large = Face((0, 0, 100, 100), small.landmarks_xy, 0.8)
    assert iou(small, large) < 0.2
    assert skip_duplicates([large, small]).kept == (small,)


def test_neighbours_are_two_faces():
    cheek_to_cheek = [face(0, 0, 40), face(20, 0, 40)]
    assert skip_duplicates(cheek_to_cheek).kept == tuple(cheek_to_cheek)


def test_boxes_without_area_overlap_by_nothing():
    point = Face((5, 5, 5, 5), face(0, 0, 40).landmarks_xy, 0.9)
    assert iou(point, point) == 0.0


def test_choose_faces_applies_all_rules_in_turn():
    twin, best = face(60, 20, 40, score=0.85), face(60, 20, 40, score=0.95)
    near_eyes = face(90, 40, 20, eye_left=(95, 45), eye_right=(96, 45))
    small, corner = face(90, 70, 14), face(0, 0, 30)
    faces = [twin, best, near_eyes, small, corner]
    selection = choose_faces(faces, PICTURE, which="center", min_face_size=15)
    assert selection.kept == (best,)
    assert [skipped.face for skipped in selection.skipped] == [near_eyes, small, twin, corner]
    assert choose_faces(faces, PICTURE).kept == (best, small, corner)


def test_parity_keeps_duplicates_and_measures_eyes_the_official_way():
    twins = [face(60, 20, 40, score=0.85), face(60, 20, 40, score=0.95)]
    profile = face(0, 0, 90, eye_left=(10, 50), eye_right=(40, 52), nose=(38, 60))
    selection = reference.OFFICIAL.choose([*twins, profile], PICTURE, RestoreOptions(), 1.0)
    assert selection.kept == tuple(twins)
    assert [skipped.face for skipped in selection.skipped] == [profile]
