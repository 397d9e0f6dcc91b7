"""Where the parts of an aligned face lie: the boxes that a restorer with a dictionary for each part asks for.

Boxes are int64 rows x0, y0, x1, y1 (the last two not included) in pixels of the crop: left eye with its brow, right eye
with its brow, nose, mouth, as seen in the image. Every box lies within the crop and is MIN_SIDE pixels or more wide
and high, so that at a sixteenth of its size there is something left of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .events import Event
from .geometry import CROP_SIZE, TEMPLATE_XY

PARTS = ("left eye", "right eye", "nose", "mouth")
FIVE = ("left eye", "right eye", "nose", "left mouth corner", "right mouth corner")
# The two sources of boxes.
FROM_68, FROM_FIVE = "68 landmarks", "five landmarks"
# The published half size that no box falls below, and what it makes of a box: x - 15 to x + 16.
MIN_HALF = 16
MIN_SIDE = 2 * MIN_HALF - 1

# Points of the usual 68 that make up a part (published rule).
_POINTS_OF_68 = (
    (*range(17, 22), *range(36, 42)),
    (*range(22, 27), *range(42, 48)),
    tuple(range(29, 36)),
    tuple(range(48, 68)),
)

# What the 68-point rule makes of the mean annotated face, laid on the template; in units of the face, its eye distance
# when it looks straight ahead.
EYE_OUT = 0.03
EYE_UP = 0.135
EYE_HALF = 0.363
NOSE_HALF = 0.227
MOUTH_DOWN = 0.044
# Of the way from the nose's tip to the mouth. A turned nose's tip leads; its wings, which count more, stay behind.
NOSE_TO_MOUTH = 0.2


@dataclass(frozen=True, eq=False)
class ComponentBoxes:
    """boxes_44: int64, pixels of the crop, see the module.
    source: FROM_68 or FROM_FIVE.
    events: what was wrong with the landmarks.
    """

    boxes_44: np.ndarray
    source: str
    events: tuple[Event, ...] = ()


def find_components(
    landmarks_52: np.ndarray, landmarks_682: np.ndarray | None, size: int = CROP_SIZE
) -> ComponentBoxes:
    """The boxes from the 68 landmarks, or from the five where there are none or a part is lost among them.

    landmarks_52: the detector's five points, in pixels of an aligned crop.
    landmarks_682: the 68 points, in pixels of the same crop.
    size: side of the crop in pixels.
    Raises ValueError for five points that are NaN or infinite.
    """
    lost = () if landmarks_682 is None else _lost_parts(landmarks_682, size)
    if landmarks_682 is not None and not lost:
        return ComponentBoxes(boxes_from_68(landmarks_682, size), FROM_68)
    outside = tuple(name for name, inside in zip(FIVE, _are_inside(landmarks_52, size), strict=True) if not inside)
    events: list[Event] = [Event("landmarks_lost", values={"components": lost})] if lost else []
    events += [Event("points_outside", values={"points": outside})] if outside else []
    return ComponentBoxes(boxes_from_five(landmarks_52, size), FROM_FIVE, tuple(events))


def boxes_from_68(landmarks_682: np.ndarray, size: int = CROP_SIZE) -> np.ndarray:
    """The boxes by the published rule, boxes_44.

    Each lies around the mean of a part's points and reaches as far as half their larger extent, 16 pixels at least.
    What leaves the crop is cut off or moved back in.

    landmarks_682: in pixels of an aligned crop.
    size: side of the crop in pixels.
    Raises ValueError where points of a part are NaN or infinite, or their mean lies outside the crop: a detector that
    lost the part. `boxes_from_five` still tells where it should be.
    """
    if lost := _lost_parts(landmarks_682, size):
        raise ValueError(
            f"the 68 landmarks have no {' and no '.join(lost)} within the crop of {size} pixels. "
            "Take the boxes from the five points of the detector, or detect again in the aligned crop"
        )
    parts = [np.asarray(landmarks_682, dtype=np.float64)[list(indices)] for indices in _POINTS_OF_68]
    halves_4 = np.array([(points_N2.max(0) - points_N2.min(0)).max() / 2 for points_N2 in parts])
    return _boxes(np.array([points_N2.mean(0) for points_N2 in parts]), halves_4, size)


def boxes_from_five(landmarks_52: np.ndarray, size: int = CROP_SIZE) -> np.ndarray:
    """Boxes near those of 68 points, from the detector's five: boxes_44.

    The unit is the eye distance of a face looking straight ahead, from the longer of eye distance and the way from eyes
    to mouth. Eyes: a square of 0.363 units to each side, 0.135 above the eye and 0.03 outwards, with the brow in it.
    Nose: 0.227 units to each side, a fifth of the way from its tip to the mouth. Mouth: half the distance of its
    corners to each side, 0.044 below their middle.

    landmarks_52: in pixels of an aligned crop. A point outside the crop was badly placed: the template's point replaces
    it.
    size: side of the crop in pixels.
    Raises ValueError for points that are NaN or infinite.
    """
    landmarks_52 = np.asarray(landmarks_52, dtype=np.float64)
    if landmarks_52.shape != (5, 2):
        raise ValueError(f"landmarks must be 5 points (x, y), got the shape {landmarks_52.shape}")
    if not np.isfinite(landmarks_52).all():
        raise ValueError("the five landmarks hold NaN or infinity. Detect the face again, or leave it out")
    is_inside_51 = _are_inside(landmarks_52, size)[:, None]
    left_2, right_2, nose_2, *mouth = np.where(is_inside_51, landmarks_52, TEMPLATE_XY * (size / CROP_SIZE))
    mouth_2 = np.mean(mouth, axis=0)
    unit = _unit(left_2, right_2, mouth_2)
    centers_42 = np.array(
        (
            left_2 - np.array((EYE_OUT, EYE_UP)) * unit,
            right_2 + np.array((EYE_OUT, -EYE_UP)) * unit,
            nose_2 + NOSE_TO_MOUTH * (mouth_2 - nose_2),
            mouth_2 + np.array((0, MOUTH_DOWN)) * unit,
        )
    )
    mouth_half = np.abs(mouth[1] - mouth[0]).max() / 2
    return _boxes(centers_42, np.array((EYE_HALF * unit, EYE_HALF * unit, NOSE_HALF * unit, mouth_half)), size)


def _lost_parts(landmarks_682: np.ndarray, size: int) -> tuple[str, ...]:
    """The parts with points that are NaN, or whose mean lies outside the crop."""
    landmarks_682 = np.asarray(landmarks_682, dtype=np.float64)
    if landmarks_682.shape != (68, 2):
        raise ValueError(f"landmarks must be 68 points (x, y), got the shape {landmarks_682.shape}")
    centers_42 = np.array([landmarks_682[list(indices)].mean(0) for indices in _POINTS_OF_68])
    return tuple(part for part, inside in zip(PARTS, _are_inside(centers_42, size), strict=True) if not inside)


def _are_inside(points_N2: np.ndarray, size: int) -> np.ndarray:
    """For each point whether it lies in the crop; NaN lies nowhere."""
    return np.asarray(((points_N2 >= 0) & (points_N2 < size)).all(1))


def _unit(left_2: np.ndarray, right_2: np.ndarray, mouth_2: np.ndarray) -> float:
    """Turning shortens the eye distance, nodding the way to the mouth; never both in full."""
    template_across = np.linalg.norm(TEMPLATE_XY[1] - TEMPLATE_XY[0])
    template_down = np.linalg.norm(TEMPLATE_XY[3:].mean(0) - TEMPLATE_XY[:2].mean(0))
    down = np.linalg.norm(mouth_2 - (left_2 + right_2) / 2)
    return max(float(np.linalg.norm(right_2 - left_2)), float(down * template_across / template_down))


def _boxes(centers_42: np.ndarray, halves_4: np.ndarray, size: int) -> np.ndarray:
    """Middle and reach -> boxes as published, fractions cut off; then clamped to the crop."""
    halves_41 = np.maximum(halves_4, MIN_HALF)[:, None]
    low_42, high_42 = np.trunc(centers_42 - halves_41 + 1), np.trunc(centers_42 + halves_41)
    boxes_44 = np.hstack((np.clip(low_42, 0, size - MIN_SIDE), np.clip(high_42, MIN_SIDE, size)))
    return boxes_44.astype(np.int64)
