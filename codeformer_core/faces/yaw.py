"""How far a head is turned to the side, estimated from the five landmarks alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .events import SkippedFace
from .selection import Selection
from .types import Face

# By how much the tip of the nose lies in front of the plane of eyes and mouth corners, in distances between the eyes:
# 3.57 cm and 6.30 cm in MediaPipe's canonical face model (eyes: the middle between their corners 33, 133 and 362, 263;
# mouth 61 and 291; nose 1).
NOSE_DEPTH = 0.566
MAX_YAW = 90.0


def yaw_of(face: Face) -> float:
    """Degrees by which the head is turned to either side.

    0 straight ahead, 90 a profile, more when only the back of the cheek shows. Seen from afar, a head turned by t shows
    its eyes cos(t) as far apart as they are, and its nose sin(t) times its depth beside the line from the middle of the
    eyes to the middle of the mouth. So t = atan2(nose beside the line / NOSE_DEPTH, eyes across the line). Tilting the
    head changes nothing, nodding little. A nose 15 % longer or shorter than the canonical one makes 4 degrees at 45.
    The hidden landmarks of a profile are the detector's guesses, and the estimate is not better than these.
    """
    return yaw_of_landmarks(face.landmarks_array())


def yaw_of_landmarks(landmarks_52: np.ndarray) -> float:
    """`yaw_of` for the five landmarks alone, in pixels of any image."""
    eyes_2, mouth_2 = landmarks_52[:2].mean(0), landmarks_52[3:].mean(0)
    down_2 = mouth_2 - eyes_2
    length = float(np.linalg.norm(down_2))
    if length == 0:
        return 0.0
    across_2 = np.array((down_2[1], -down_2[0])) / length
    beside = abs(float((landmarks_52[2] - eyes_2) @ across_2))
    apart = float((landmarks_52[1] - landmarks_52[0]) @ across_2)
    return math.degrees(math.atan2(beside / NOSE_DEPTH, apart))


def skip_by_yaw(faces: Sequence[Face], max_yaw: float) -> Selection:
    """Skips faces turned further to the side than `max_yaw`.

    max_yaw: degrees, 0 to 90; 90 keeps all.
    Raises ValueError outside 0 to 90.
    """
    if not 0 <= max_yaw <= MAX_YAW:
        raise ValueError(f"largest turn must be from 0 to 90 degrees, got {max_yaw}. Use 90 to keep every face")
    if max_yaw == MAX_YAW:
        return Selection(tuple(faces), ())
    turns = [(face, yaw_of(face)) for face in faces]
    return Selection(
        tuple(face for face, turn in turns if turn <= max_yaw),
        tuple(SkippedFace(face, "turned", {"yaw": turn, "limit": max_yaw}) for face, turn in turns if turn > max_yaw),
    )
