"""Faces by their numbers, and in another order than they were found in."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Literal, get_args

from .selection import area_inside
from .types import Face

Order = Literal["as found", "left to right", "top to bottom", "largest first", "surest first", "nearest to the center"]
# First and last number of a range, both included.
Range = tuple[int, int]

# Also those of a Chinese keyboard.
SEPARATORS = str.maketrans(dict.fromkeys(",;\uff0c\u3001\uff1b", " "))

_RANGE = re.compile(r"(\d{1,9})(?:-(\d{1,9}))?")


def parse_numbers(text: str) -> tuple[Range, ...]:
    """ "1, 3-5" -> ((1, 1), (3, 5)); nothing for an empty text, which stands for all.

    Raises ValueError for anything but numbers from 1 on and ranges of them.
    """
    parts = re.sub(r" ?- ?", "-", " ".join(text.translate(SEPARATORS).split())).split()
    ranges: list[tuple[int, int]] = []
    for part in parts:
        match = _RANGE.fullmatch(part)
        first = int(match[1]) if match else 0
        last = int(match[2]) if match and match[2] else first
        if not 1 <= first <= last:
            raise ValueError(
                f"face numbers: can't read {part[:60]!r}. Give numbers from 1 on and ranges of them, such as "
                "1, 3-5; leave it empty for all faces"
            )
        ranges.append((first, last))
    return tuple(ranges)


def has_number(ranges: Sequence[Range], number: int) -> bool:
    """Whether a face of this number is meant; without any range every face is."""
    return not ranges or any(first <= number <= last for first, last in ranges)


def check_order(order: str, keep: int) -> None:
    """Raise ValueError for a word that is not an `Order`, or a negative number to keep."""
    if order not in get_args(Order):
        raise ValueError(f"order must be one of {', '.join(get_args(Order))}, got {order!r}")
    if keep < 0:
        raise ValueError(f"keep must be 0 (all) or more faces, got {keep}. Use 0 to keep every face")


def order_faces(faces: Sequence[Face], order: Order, image_size_hw: tuple[int, int]) -> list[int]:
    """The faces' indices in this order; equals stay in detection order.

    Sides and distances go by the box's centre, size by the box's part inside the image.

    image_size_hw: height and width in pixels.
    Raises ValueError, see `check_order`.
    """
    check_order(order, 0)
    middle_xy = (image_size_hw[1] / 2, image_size_hw[0] / 2)
    ranks: dict[str, Callable[[Face], float]] = {
        "left to right": lambda face: face.center_xy[0],
        "top to bottom": lambda face: face.center_xy[1],
        "largest first": lambda face: -area_inside(face, image_size_hw),
        "surest first": lambda face: -face.score,
        "nearest to the center": lambda face: math.dist(face.center_xy, middle_xy),
    }
    indices = list(range(len(faces)))
    return indices if order == "as found" else sorted(indices, key=lambda index: ranks[order](faces[index]))


def reading_order(faces: Sequence[Face]) -> list[Face]:
    """Rows from top to bottom, each from left to right.

    A face is in a row while its centre lies less than half a face, the tallest of them, below that of the row's first.
    """
    rows: list[list[Face]] = []
    for face in sorted(faces, key=lambda face: face.center_xy[::-1]):
        row = rows[-1] if rows else []
        tallest = max(member.height for member in (*row, face))
        if row and face.center_xy[1] < row[0].center_xy[1] + tallest / 2:
            row.append(face)
        else:
            rows.append([face])
    return [face for row in rows for face in sorted(row, key=lambda face: face.center_xy)]
