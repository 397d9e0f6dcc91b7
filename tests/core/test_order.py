"""Numbers as people write them, and faces in the order that is asked for."""

from __future__ import annotations

from typing import get_args

import pytest

from codeformer_core.faces.order import Order, check_order, has_number, order_faces, parse_numbers, reading_order
from codeformer_core.faces.types import Face

PICTURE = (400, 600)


def face(left, top, size, score):
    """A square box; landmarks play no part in the order."""
    return Face((left, top, left + size, top + size), ((0.0, 0.0),) * 5, score)


# Low on the right and sure; in the middle and small; large, on the upper left, half of it outside.
FACES = [face(480, 280, 90, 0.99), face(290, 190, 30, 0.7), face(-100, -20, 180, 0.8)]
EXPECTED = {
    "as found": [0, 1, 2],
    "left to right": [2, 1, 0],
    "top to bottom": [2, 1, 0],
    "largest first": [2, 0, 1],
    "surest first": [0, 2, 1],
    "nearest to the center": [1, 0, 2],
}


def test_every_order_is_tested():
    assert set(EXPECTED) == set(get_args(Order))


@pytest.mark.parametrize("order", EXPECTED)
def test_order(order):
    assert order_faces(FACES, order, PICTURE) == EXPECTED[order]
    assert order_faces([], order, PICTURE) == []


def test_largest_counts_what_lies_inside():
    outside, inside = face(550, 0, 300, 0.9), face(0, 0, 200, 0.9)
    assert order_faces([outside, inside], "largest first", PICTURE) == [1, 0]


@pytest.mark.parametrize("order", EXPECTED)
def test_equals_stay_as_they_were_found(order):
    assert order_faces([FACES[1]] * 4, order, PICTURE) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("text", "ranges"),
    [
        ("", ()),
        ("  ", ()),
        ("2", ((2, 2),)),
        ("1, 3-5", ((1, 1), (3, 5))),
        ("3 - 5;1 1", ((3, 5), (1, 1), (1, 1))),
        ("1-999999999", ((1, 999999999),)),
    ],
)
def test_numbers_are_read(text, ranges):
    assert parse_numbers(text) == ranges


@pytest.mark.parametrize("text", ["0", "5-3", "-2", "1-", "two", "1.5", "1--3", "9" * 5000, "1, x"])
def test_other_text_is_refused(text):
    with pytest.raises(ValueError, match=r"face numbers: can't read .* Give numbers from 1 on"):
        parse_numbers(text)


def test_which_numbers_are_meant():
    ranges = parse_numbers("1, 3-5")
    assert [number for number in range(1, 8) if has_number(ranges, number)] == [1, 3, 4, 5]
    assert all(has_number((), number) for number in (1, 7, 1000))


def test_unknown_order_and_negative_keep_are_refused():
    with pytest.raises(ValueError, match=r"order must be one of as found, .*got 'random'"):
        order_faces([], "random", PICTURE)
    with pytest.raises(ValueError, match=r"keep must be 0 \(all\) or more faces, got -1"):
        check_order("as found", -1)


def test_reading_order_goes_by_rows():
    """Two rows of a group photo, whose heads are not quite level."""
    places = [(40, 50), (120, 42), (200, 58), (30, 150), (110, 141), (190, 155)]
    faces = [face(x - 25, y - 25, 50, 0.9) for x, y in places]
    shuffled = [faces[index] for index in (4, 2, 0, 5, 1, 3)]
    assert reading_order(shuffled) == faces and reading_order([]) == []


def test_numbers_from_a_chinese_keyboard_and_long_nonsense():
    assert parse_numbers("1\uff0c3\u30015 - 6") == ((1, 1), (3, 3), (5, 6))
    with pytest.raises(ValueError, match="can't read") as refused:
        parse_numbers(" " * 30_000 + "x" * 30_000)
    assert len(str(refused.value)) < 300
