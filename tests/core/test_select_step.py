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
    assert result.summary() == "3 faces selected of 3"


@pytest.mark.parametrize(
    ("options", "kept", "remark"),
    [
        ({"numbers": "1, 3"}, (LEFT, RIGHT), "picture 1, face 2: not one of the numbers"),
        ({"confidence": 0.75}, (MIDDLE, RIGHT), "picture 1, face 1: its score 0.70 is below 0.75"),
        ({"min_face_size": 60}, (LEFT, RIGHT), "picture 1, face 2: smaller than 60 px (it is 48 px)"),
        ({"keep": 1}, (LEFT,), "picture 1, face 3: not among the first 1 (as found)"),
        ({"keep": 7}, (LEFT, MIDDLE, RIGHT), None),
        ({"order": "surest first"}, (MIDDLE, RIGHT, LEFT), None),
        ({"order": "largest first", "keep": 2}, (RIGHT, LEFT), "picture 1, face 2: not among the first 2 (largest"),
        ({"picked": json.dumps({"1": [box_fractions(MIDDLE, SIZE)]})}, (MIDDLE,), "picture 1, face 1: not picked"),
    ],
)
def test_single_filters(options, kept, remark):
    result = select_faces(THREE, **options)
    assert result.faces.per_image == (kept,)
    assert result.kept == (tuple(face in kept for face in (LEFT, MIDDLE, RIGHT)),)
    assert any(line.startswith(remark) for line in result.remarks) if remark else result.remarks == ()


def test_turned_faces_are_left_out():
    result = select_faces(faces([LEFT, turned(MIDDLE, 15)]), max_yaw=30)
    assert result.faces.per_image == ((LEFT,),)
    assert result.remarks[0].startswith("picture 1, face 2: turned by about 5")


def test_filters_come_before_the_order_so_keep_counts_what_is_left():
    picked = json.dumps({"1": [box_fractions(face, SIZE) for face in (LEFT, MIDDLE)]})
    result = select_faces(THREE, order="largest first", keep=1, picked=picked)
    assert result.faces.per_image == ((LEFT,),)
    assert result.summary().splitlines() == [
        "1 face selected of 3",
        "picture 1, face 2: not among the first 1 (largest first)",
        "picture 1, face 3: not picked",
    ]


def test_numbers_count_in_each_picture_and_those_beyond_are_told():
    result = select_faces(faces([LEFT, MIDDLE], [RIGHT], []), numbers="2-3")
    assert result.faces.per_image == ((MIDDLE,), (), ())
    assert "picture 2: 1 face came, so higher numbers select nothing" in result.remarks
    assert "picture 3: no face came, so higher numbers select nothing" in result.remarks


def test_equal_faces_are_told_apart():
    result = select_faces(faces([LEFT, LEFT, LEFT]), numbers="2")
    assert result.kept == ((False, True, False),) and result.faces.count == 1


def test_an_empty_result_is_allowed_and_said():
    result = select_faces(THREE, min_face_size=4000)
    assert result.faces.per_image == ((),)
    assert result.summary().startswith("no face selected of 3\n")


def test_changed_pictures_are_handed_on():
    result = select_faces(THREE, picked='{"1": [[0, 0, 0.01, 0.01]]}')
    assert result.changed == (1,) and result.faces.count == 3
    assert result.remarks == ("picture 1 has changed since its faces were picked; all are kept",)


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
        ({"picked": "{"}, "Cure: clear the picker"),
    ],
)
def test_bad_input_is_refused_even_without_a_face(given, options, words):
    with pytest.raises(ValueError, match=words):
        select_faces(given, **options)
