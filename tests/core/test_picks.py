"""Picked faces found again, pictures that changed, and text that no picker wrote."""

from __future__ import annotations

import json

import numpy as np
import pytest

from codeformer_core.faces.batch import FaceBatch
from codeformer_core.faces.manual_selection import apply_picks
from codeformer_core.faces.types import Face
from codeformer_core.faces.visualization import box_fractions
from codeformer_core.runtime.errors import problem_of

from .facts import facts, kinds, steps

SIZE = (200, 400)


def face(left, top, size=40):
    return Face((left, top, left + size, top + size), ((0.0, 0.0),) * 5, 0.9)


def faces(*per_image):
    return FaceBatch(tuple(map(tuple, per_image)), SIZE, np.zeros((len(per_image), 8, 8), np.float32))


def picked(**per_image):
    """Faces of pictures p1, p2, ... as the picker writes them."""
    return json.dumps({name[1:]: [box_fractions(face, SIZE) for face in kept] for name, kept in per_image.items()})


LEFT, MIDDLE, RIGHT = face(10, 20), face(150, 30), face(300, 100)


def test_nothing_picked_keeps_all():
    given = faces([LEFT, RIGHT], [])
    for text in ("", "  \n", "{}"):
        result = apply_picks(given, text)
        assert result.faces.per_image == given.per_image
        assert (result.kept, result.changed, result.events) == (((True, True), ()), (), ())


def test_picked_faces_stay_in_their_order_and_other_pictures_keep_all():
    result = apply_picks(faces([LEFT, MIDDLE, RIGHT], [LEFT, RIGHT]), picked(p1=[RIGHT, LEFT]))
    assert result.faces.per_image == ((LEFT, RIGHT), (LEFT, RIGHT))
    assert result.kept == ((True, False, True), (True, True))
    assert facts(result) == [("faces", 0, {"picked": 2}), ("faces", 1, {"picked": 2})]


def test_what_comes_in_is_not_changed_and_the_pictures_stay_known():
    given = faces([LEFT, RIGHT])
    result = apply_picks(given, picked(p1=[LEFT]))
    assert given.per_image == ((LEFT, RIGHT),)
    assert result.faces.image_size_hw == SIZE and result.faces.thumbnails_B88 is given.thumbnails_B88


def test_a_face_that_moved_a_little_is_found_again_and_one_that_moved_far_is_not():
    result = apply_picks(faces([face(14, 24), RIGHT]), picked(p1=[LEFT, RIGHT]))
    assert result.kept == ((True, True),) and kinds(result) == {"faces"}
    result = apply_picks(faces([face(40, 50), RIGHT]), picked(p1=[LEFT, RIGHT]))
    assert result.kept == ((False, True),)
    assert facts(result, "picks_gone") == [("picks_gone", 0, {"gone": 1, "picked": 2})]


def test_the_best_overlap_decides_between_neighbours():
    near, nearer = face(16, 20), face(12, 20)
    assert apply_picks(faces([near, nearer]), picked(p1=[LEFT])).kept == ((False, True),)
    assert apply_picks(faces([near, nearer]), picked(p1=[LEFT, LEFT])).kept == ((True, True),)


def test_a_picture_that_changed_keeps_all_and_says_so():
    result = apply_picks(faces([LEFT], [LEFT, MIDDLE], []), picked(p1=[LEFT], p2=[RIGHT], p3=[RIGHT]))
    assert result.faces.per_image == ((LEFT,), (LEFT, MIDDLE), ())
    assert result.changed == (2, 3)
    assert facts(result, "images_changed") == [("images_changed", 1, {}), ("images_changed", 2, {})]


def test_an_empty_list_keeps_none_and_says_so():
    result = apply_picks(faces([LEFT], [RIGHT]), picked(p1=[]))
    assert result.faces.per_image == ((), (RIGHT,))
    assert result.changed == () and steps(result) == {0: {"picked": 0}, 1: {"picked": 1}}


def test_picks_of_pictures_that_did_not_come_are_told():
    result = apply_picks(faces([LEFT]), picked(p1=[LEFT], p4=[LEFT], p3=[]))
    values = {"numbers": ("3", "4"), "count": 1}
    assert facts(result, "picks_without_image") == [("picks_without_image", None, values)]


def test_a_face_that_reaches_outside_its_picture_is_found_again():
    outside = face(-30, -10, 60)
    assert apply_picks(faces([outside, LEFT]), picked(p1=[outside])).kept == ((True, False),)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not JSON"),
        ("picked", "not JSON"),
        ("[1]", "got a list"),
        ('{"0": []}', "'0' is not an image number"),
        ('{"first": []}', "'first' is not an image number"),
        ('{"²": []}', "is not an image number"),
        ('{"1": null}', "image 1 has no list of boxes"),
        ('{"1": [[0, 0, 1]]}', "not four numbers"),
        ('{"1": [[0, 0, 1, "1"]]}', "not four numbers"),
        ('{"1": [[0, 0, 1, true]]}', "not four numbers"),
        ('{"1": [[0, 0, 1, NaN]]}', "not four numbers"),
        ('{"1": [{"box": 1}]}', "not four numbers"),
    ],
)
def test_other_text_is_refused_with_a_cure(text, words):
    with pytest.raises(ValueError, match=rf"picked faces: .*{words}.*Leave it empty") as caught:
        apply_picks(faces([LEFT]), text)
    assert problem_of(caught.value) == "unreadable_picks"


@pytest.mark.parametrize("text", ["[" * 100_000, '{"1": [[' + "9" * 400 + ", 0, 1, 1]]}"])
def test_text_that_would_break_a_reader(text):
    with pytest.raises(ValueError, match="Leave it empty to keep every face"):
        apply_picks(faces([]), text)
