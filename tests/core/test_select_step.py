"""Choosing among found faces: every filter, the order, new numbers, and what the report says."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from codeformer_core.faces.batch import FaceBatch
from codeformer_core.faces.visualization import box_fractions
from codeformer_core.pipeline.select import select_faces

from .conftest import placed_face
from .facts import facts, kinds, steps

SIZE = (300, 600)
LEFT, MIDDLE, RIGHT = (
    placed_face(80, 100, 30, score=0.7),
    placed_face(300, 150, 20, score=0.95),
    placed_face(500, 200, 50, score=0.8),
)


def turned(face, pixels):
    """With its nose moved to the side."""
    eye_left, eye_right, (x, y), *mouth = face.landmarks_xy
    return dataclasses.replace(face, landmarks_xy=(eye_left, eye_right, (x + pixels, y), *mouth))


def faces(*per_image):
    return FaceBatch(tuple(map(tuple, per_image)), SIZE, np.zeros((len(per_image), 8, 8), np.float32))


THREE = faces([LEFT, MIDDLE, RIGHT])


def test_everything_passes_by_default():
    result = select_faces(THREE)
    assert result.faces.per_image == THREE.per_image
    assert result.kept == ((True, True, True),)
    assert facts(result) == [("faces", 0, {"given": 3, "selected": 3})]


@pytest.mark.parametrize(
    ("options", "kept", "reason"),
    [
        ({"numbers": "1, 3"}, (LEFT, RIGHT), ("not_numbered", 0, {"number": 2})),
        ({"confidence": 0.75}, (MIDDLE, RIGHT), ("low_score", 0, {"score": 0.7, "limit": 0.75, "number": 1})),
        ({"min_face_size": 60}, (LEFT, RIGHT), ("too_small", 0, {"size": pytest.approx(48), "limit": 60, "number": 2})),
        ({"keep": 1}, (LEFT,), ("not_first", 0, {"keep": 1, "order": "as found", "number": 3})),
        ({"keep": 7}, (LEFT, MIDDLE, RIGHT), None),
        ({"order": "surest first"}, (MIDDLE, RIGHT, LEFT), None),
        (
            {"order": "largest first", "keep": 2},
            (RIGHT, LEFT),
            ("not_first", 0, {"keep": 2, "order": "largest first", "number": 2}),
        ),
        ({"picked": json.dumps({"1": [box_fractions(MIDDLE, SIZE)]})}, (MIDDLE,), ("not_picked", 0, {"number": 1})),
    ],
)
def test_single_filters(options, kept, reason):
    result = select_faces(THREE, **options)
    assert result.faces.per_image == (kept,)
    assert result.kept == (tuple(face in kept for face in (LEFT, MIDDLE, RIGHT)),)
    assert reason in facts(result) if reason else kinds(result) == {"faces"}


def test_turned_faces_are_left_out():
    result = select_faces(faces([LEFT, turned(MIDDLE, 15)]), max_yaw=30)
    assert result.faces.per_image == ((LEFT,),)
    (_, _, values), _ = facts(result, "turned", "faces")
    assert values["limit"] == 30 and values["number"] == 2 and 50 <= values["yaw"] < 60


def test_filters_come_before_the_order_so_keep_counts_what_is_left():
    picked = json.dumps({"1": [box_fractions(face, SIZE) for face in (LEFT, MIDDLE)]})
    result = select_faces(THREE, order="largest first", keep=1, picked=picked)
    assert result.faces.per_image == ((LEFT,),)
    assert facts(result) == [
        ("not_first", 0, {"keep": 1, "order": "largest first", "number": 2}),
        ("not_picked", 0, {"number": 3}),
        ("faces", 0, {"given": 3, "selected": 1}),
    ]


def test_numbers_count_in_each_picture_and_those_beyond_are_told():
    result = select_faces(faces([LEFT, MIDDLE], [RIGHT], []), numbers="2-3")
    assert result.faces.per_image == ((MIDDLE,), (), ())
    beyond = [("numbers_beyond", 0, {"count": 2}), ("numbers_beyond", 1, {"count": 1})]
    assert facts(result, "numbers_beyond") == [*beyond, ("numbers_beyond", 2, {"count": 0})]


def test_equal_faces_are_told_apart():
    result = select_faces(faces([LEFT, LEFT, LEFT]), numbers="2")
    assert result.kept == ((False, True, False),) and result.faces.count == 1


def test_an_empty_result_is_allowed_and_said():
    result = select_faces(THREE, min_face_size=4000)
    assert result.faces.per_image == ((),)
    assert steps(result) == {0: {"given": 3, "selected": 0}}


def test_changed_pictures_are_handed_on():
    result = select_faces(THREE, picked='{"1": [[0, 0, 0.01, 0.01]]}')
    assert result.changed == (1,) and result.faces.count == 3
    assert facts(result) == [("images_changed", 0, {}), ("faces", 0, {"given": 3, "selected": 3})]


@pytest.mark.parametrize("given", [THREE, faces([], [])])
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"numbers": "one"}, "can't read 'one'"),
        ({"order": "random"}, "order must be one of"),
        ({"keep": -1}, "keep must be 0"),
        ({"confidence": 1.5}, "confidence must be from 0 to 1"),
        ({"confidence": float("nan")}, "confidence must be from 0 to 1"),
        ({"min_face_size": -1}, "smallest face must be 0 or more"),
        ({"max_yaw": 100}, "largest turn must be from 0 to 90"),
        ({"picked": "{"}, "Leave it empty to keep every face"),
    ],
)
def test_bad_input_is_refused_even_without_a_face(given, options, words):
    with pytest.raises(ValueError, match=words):
        select_faces(given, **options)
