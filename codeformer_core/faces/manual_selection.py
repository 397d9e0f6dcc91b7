"""The faces that the user picked in the editor, found again among the faces of this run.

The picker returns text: "" for no choice, or JSON {"1": [[left, top, right, bottom], ...]}: per image number, from 1,
the boxes of the faces to keep, as parts (0..1) of the image's width and height. An image that is not named keeps all
its faces; an empty list keeps none.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeGuard

import numpy as np
import torch

from ..runtime.errors import InputError
from ..runtime.foreign import is_array, is_object
from .batch import FaceBatch
from .events import Event
from .geometry import box_iou
from .types import Face
from .visualization import Box, box_fractions

# A face found now is the picked one when their boxes overlap by more than this.
SAME_FACE_IOU = 0.5
FIX = "Leave it empty to keep every face"
MAX_FRACTION = 1000


@dataclass(frozen=True, eq=False)
class PickedFaces:
    """faces: the kept ones.
    kept: per image, for each of its faces, whether it is kept.
    changed: numbers of the images, from 1, in which none of the picks was found again.
    events: how many faces of each image are picked, if any are, and warnings.
    """

    faces: FaceBatch
    kept: tuple[tuple[bool, ...], ...]
    changed: tuple[int, ...]
    events: tuple[Event, ...]


def apply_picks(faces: FaceBatch, picked: str) -> PickedFaces:
    """Keeps the picked faces, in their order.

    An image in which no pick is found again has changed: it keeps all its faces, and an event says so.

    picked: the picker's text, see the module.
    Raises ValueError for text that is not a picker's.
    """
    picks = _read(picked)
    kept: list[tuple[bool, ...]] = []
    changed: list[int] = []
    events: list[Event] = []
    for number, found in enumerate(faces.per_image, 1):
        boxes = picks.get(number)
        chosen = set(range(len(found)))
        if boxes is not None:
            chosen = _found_again(found, boxes, faces.image_size_hw)
            if boxes and not chosen:
                events.append(Event("images_changed", number - 1))
                changed.append(number)
                chosen = set(range(len(found)))
            elif len(chosen) < len(boxes):
                gone = {"gone": len(boxes) - len(chosen), "picked": len(boxes)}
                events.append(Event("picks_gone", number - 1, values=gone))
        kept.append(tuple(index in chosen for index in range(len(found))))
        if picks:
            events.append(Event("faces", number - 1, values={"picked": len(chosen)}))
    if left_over := [number for number in sorted(picks) if number > len(kept)]:
        values = {"numbers": tuple(map(str, left_over)), "count": len(kept)}
        events.append(Event("picks_without_image", values=values))
    chosen_faces = [
        [face for face, keep in zip(found, flags, strict=True) if keep]
        for found, flags in zip(faces.per_image, kept, strict=True)
    ]
    return PickedFaces(faces.with_faces(chosen_faces), tuple(kept), tuple(changed), tuple(events))


def _found_again(found: Sequence[Face], boxes: Sequence[Box], image_size_hw: tuple[int, int]) -> set[int]:
    """Indices of the faces that are picked; a pick finds one face, the best overlaps first."""
    if not found:
        return set()
    shown_F4 = torch.tensor([box_fractions(face, image_size_hw) for face in found], dtype=torch.float64)
    picked_P4 = torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4)
    overlaps_FP = box_iou(shown_F4[:, None], picked_P4).numpy()
    chosen: dict[int, int] = {}
    for place in np.argsort(-overlaps_FP, axis=None, kind="stable"):
        index, pick = divmod(int(place), len(picked_P4))
        if overlaps_FP[index, pick] > SAME_FACE_IOU and index not in chosen and pick not in chosen.values():
            chosen[index] = pick
    return set(chosen)


def _refusal(problem: str) -> InputError:
    return InputError(f"{problem}. {FIX}", "unreadable_picks")


def _read(picked: str) -> dict[int, list[Box]]:
    if not picked.strip():
        return {}
    try:
        read = json.loads(picked)
    except (ValueError, RecursionError) as error:
        raise _refusal(f"picked faces: this is not JSON ({error})") from error
    if not is_object(read):
        raise _refusal(f"picked faces: expected boxes for each image number, got a {type(read).__name__}")
    picks: dict[int, list[Box]] = {}
    for key, boxes in read.items():
        if not (key.isdecimal() and len(key) < 10 and int(key) >= 1):
            raise _refusal(f"picked faces: {key!r} is not an image number from 1 on")
        if not is_array(boxes):
            raise _refusal(f"picked faces: image {key} has no list of boxes")
        picks[int(key)] = [_box(box, key) for box in boxes]
    return picks


def _box(box: object, key: str) -> Box:
    if not is_array(box) or len(box) != 4 or not all(_is_part(side) for side in box):
        raise _refusal(f"picked faces: image {key} has a box that is not four numbers: {str(box)[:60]}")
    left, top, right, bottom = (float(side) for side in box if _is_part(side))
    return left, top, right, bottom


def _is_part(side: object) -> TypeGuard[float]:
    """A part of an image's side may be a little outside 0..1, but not so large that it overflows."""
    return isinstance(side, int | float) and not isinstance(side, bool) and -MAX_FRACTION <= side <= MAX_FRACTION
