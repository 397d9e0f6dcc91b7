"""Which faces the user picked in the editor, found again among the faces of this run.

The picker hands back text: "" for no choice, or JSON {"1": [[left, top, right, bottom], ...]}: per picture number, from
1, the boxes of the faces to keep, as parts (0..1) of the picture's width and height. A picture that is not named keeps
all its faces; an empty list keeps none.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeGuard

import numpy as np
import torch

from ..runtime.foreign import is_array, is_object
from .batch import FaceBatch, image_count
from .geometry import box_iou
from .types import Face
from .visualization import Box, box_fractions

# A face found now is the picked one when their boxes overlap by more than this.
SAME_FACE_IOU = 0.5
CURE = "Cure: clear the picker"
LARGEST_PART = 1000


@dataclass(frozen=True, eq=False)
class PickedFaces:
    """faces: the kept ones. kept: per picture, for each face that came in, whether it is kept.

    changed: numbers of the pictures in which none of the picks was found again. remarks: what the user should know.
    """

    faces: FaceBatch
    kept: tuple[tuple[bool, ...], ...]
    changed: tuple[int, ...]
    remarks: tuple[str, ...]

    def summary(self) -> str:
        """Of each picture in which faces were dropped how many are kept, then the remarks."""
        counts = [
            f"picture {number}: {sum(flags)} of {len(flags)} faces picked"
            for number, flags in enumerate(self.kept, 1)
            if not all(flags)
        ]
        return "\n".join((*counts, *self.remarks))


def apply_picks(faces: FaceBatch, picked: str) -> PickedFaces:
    """Keeps the picked faces, in the order in which they came.

    A picture in which no pick is found again has changed: it keeps all its faces, and a remark says so.
    Raises ValueError for text that no picker wrote.
    """
    picks = _read(picked)
    kept: list[tuple[bool, ...]] = []
    changed: list[int] = []
    remarks: list[str] = []
    for number, found in enumerate(faces.per_image, 1):
        boxes = picks.get(number)
        chosen = set(range(len(found)))
        if boxes is not None:
            chosen = _found_again(found, boxes, faces.image_size_hw)
            if boxes and not chosen:
                remarks.append(f"picture {number} has changed since its faces were picked; all are kept")
                changed.append(number)
                chosen = set(range(len(found)))
            elif len(chosen) < len(boxes):
                remarks.append(f"picture {number}: {len(boxes) - len(chosen)} of {len(boxes)} picked faces are gone")
        kept.append(tuple(index in chosen for index in range(len(found))))
    if left_over := [number for number in sorted(picks) if number > len(kept)]:
        numbers = ", ".join(map(str, left_over))
        remarks.append(f"faces were picked in picture {numbers}, but only {image_count(len(kept))} came")
    chosen_faces = [
        [face for face, keep in zip(found, flags, strict=True) if keep]
        for found, flags in zip(faces.per_image, kept, strict=True)
    ]
    return PickedFaces(faces.with_faces(chosen_faces), tuple(kept), tuple(changed), tuple(remarks))


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


def _read(picked: str) -> dict[int, list[Box]]:
    if not picked.strip():
        return {}
    try:
        read = json.loads(picked)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"picked faces: this is no JSON ({error}). {CURE}") from error
    if not is_object(read):
        raise ValueError(f"picked faces: expected boxes for each picture number, got a {type(read).__name__}. {CURE}")
    picks: dict[int, list[Box]] = {}
    for key, boxes in read.items():
        if not (key.isdecimal() and len(key) < 10 and int(key) >= 1):
            raise ValueError(f"picked faces: {key!r} is no picture number from 1 on. {CURE}")
        if not is_array(boxes):
            raise ValueError(f"picked faces: picture {key} has no list of boxes. {CURE}")
        picks[int(key)] = [_box(box, key) for box in boxes]
    return picks


def _box(box: object, key: str) -> Box:
    if not is_array(box) or len(box) != 4 or not all(_is_part(side) for side in box):
        raise ValueError(f"picked faces: picture {key} has a box that is not four numbers: {str(box)[:60]}. {CURE}")
    left, top, right, bottom = (float(side) for side in box if _is_part(side))
    return left, top, right, bottom


def _is_part(side: object) -> TypeGuard[float]:
    """Beyond 1 by any amount is no part of a picture's side, and no number too large for a float."""
    return isinstance(side, int | float) and not isinstance(side, bool) and -LARGEST_PART <= side <= LARGEST_PART
