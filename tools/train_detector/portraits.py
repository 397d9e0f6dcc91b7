"""The aligned faces from which scenes are composed, kept in memory in four sizes, and turned to the side.

Coordinates without a level are those of the 512 face, pixel centres at whole numbers.
Shape legend: S side of a level, N faces, P points, 5 2 landmarks in x and y, C channels (BGR).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from codeformer_core.faces.geometry import CROP_SIZE
from codeformer_core.imaging.files import read_image
from codeformer_core.runtime.memory import NotEnoughMemory, free_bytes
from codeformer_core.runtime.packages import import_for_faces

from .labels import FACE_BOX, Labels

# Sides in which a face is kept: it is never shrunk by more than about a half when it is put into a scene.
LEVEL_SIDES = (384, 192, 96, 48)
FACE_WIDTH = FACE_BOX[2] - FACE_BOX[0]
# The head is turned as a cylinder: its axis and radius, and how far the nose stands out of it.
_AXIS = 256.0
_RADIUS = 165.0
_NOSE_HEIGHT = 45.0
_NOSE_SPREAD = (32.0, 26.0)
_NOSE = 2
# Farther round the cylinder there is no image: the last column is drawn out.
_LAST_ANGLE = math.radians(85)


@dataclass(frozen=True, eq=False)
class Portrait:
    """A face at several sizes.

    levels: uint8 (S, S, 3) for each of LEVEL_SIDES.
    outline_P2: the contour of the face in its box.
    """

    levels: tuple[np.ndarray, ...]
    landmarks_52: np.ndarray
    outline_P2: np.ndarray

    @property
    def yaw_ratio(self) -> float:
        """How far the nose lies beside the middle of the eyes, as a part of the eye distance."""
        eye_left, eye_right, nose = self.landmarks_52[:3]
        return float(((nose - (eye_left + eye_right) / 2) / math.dist(eye_left, eye_right))[0])

    def level_for(self, scale: float) -> int:
        """The index of the smallest level that holds as many pixels as the face shown `scale` times as large."""
        fitting = [index for index, side in enumerate(LEVEL_SIDES) if side >= 0.9 * scale * CROP_SIZE]
        return fitting[-1] if fitting else 0


def require_memory(faces: int) -> None:
    """Raise NotEnoughMemory when so many portraits don't fit into it. All are held: scenes draw any of them."""
    needed = faces * 3 * sum(side * side for side in LEVEL_SIDES)
    free = free_bytes("cpu")
    if free is not None and needed > free:
        raise NotEnoughMemory(
            f"{faces} faces take {needed / 2**30:.1f} GiB of memory, and {free / 2**30:.1f} are free. Name a "
            "folder with fewer faces; a few thousand are enough"
        )


def read_portraits(paths: Sequence[Path], labels: Labels) -> list[Portrait]:
    """Raises ValueError and OSError naming the file."""
    portraits = []
    for path, landmarks_52, box_4 in zip(paths, labels.landmarks_N52, labels.boxes_N4, strict=True):
        levels_SSC = (read_image(path, strict=True).image_HWC[..., :3].numpy() * 255 + 0.5).astype(np.uint8)
        portraits.append(portrait_of(levels_SSC[..., ::-1], landmarks_52, box_4))
    return portraits


def portrait_of(face_SSC: np.ndarray, landmarks_52: np.ndarray, box_4: np.ndarray) -> Portrait:
    """The portrait of an aligned face.

    face_SSC: uint8 BGR, 512x512.
    """
    cv2 = import_for_faces("cv2")
    levels: list[np.ndarray] = []
    for side in LEVEL_SIDES:
        source = levels[-1] if levels else np.ascontiguousarray(face_SSC)
        levels.append(cv2.resize(source, (side, side), interpolation=cv2.INTER_AREA))
    return Portrait(tuple(levels), np.asarray(landmarks_52, dtype=np.float64), _outline(box_4))


def turned(portrait: Portrait, level: int, angle: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The face at one level as if its head looked `angle` radians to the right of the image.

    Returns image (S, S, 3), landmarks_52, outline_P2. The texture of a cylinder with a nose on it is a rough head, but
    its far side vanishes, its near side stretches and the nose moves, which no squeezing does.
    """
    cv2 = import_for_faces("cv2")
    landmarks_52 = _turned_points(portrait.landmarks_52, angle)
    landmarks_52[_NOSE, 0] += _NOSE_HEIGHT * math.sin(angle)
    side = LEVEL_SIDES[level]
    steps_S = ((np.arange(side) + 0.5) * CROP_SIZE / side - 0.5).astype(np.float32)
    x_1S, y_S1 = steps_S[None], steps_S[:, None]
    nose_x, nose_y = landmarks_52[_NOSE]
    wide, high = _NOSE_SPREAD
    bump_SS = np.exp(-((x_1S - nose_x) ** 2) / (2 * wide**2)) * np.exp(-((y_S1 - nose_y) ** 2) / (2 * high**2))
    offset_SS = x_1S - _NOSE_HEIGHT * math.sin(angle) * bump_SS - _AXIS
    around_SS = np.arcsin(np.clip(offset_SS / _RADIUS, -1, 1)) - angle
    on_head_SS = _RADIUS * np.sin(np.clip(around_SS, -_LAST_ANGLE, _LAST_ANGLE))
    beside_SS = offset_SS - np.clip(offset_SS, -_RADIUS, _RADIUS)
    to_level = side / CROP_SIZE
    map_x_SS = ((_AXIS + on_head_SS + beside_SS + 0.5) * to_level - 0.5).astype(np.float32)
    map_y_SS = np.ascontiguousarray(np.broadcast_to((y_S1 + 0.5) * to_level - 0.5, map_x_SS.shape), np.float32)
    image = cv2.remap(portrait.levels[level], map_x_SS, map_y_SS, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return image, landmarks_52, _turned_points(portrait.outline_P2, angle)


def _turned_points(points_P2: np.ndarray, angle: float) -> np.ndarray:
    around_P = np.arcsin(np.clip((points_P2[:, 0] - _AXIS) / _RADIUS, -1, 1)) + angle
    x_P = _AXIS + _RADIUS * np.sin(np.clip(around_P, -math.pi / 2, math.pi / 2))
    return np.stack((x_P, points_P2[:, 1]), axis=1)


def _outline(box_4: np.ndarray) -> np.ndarray:
    """The ellipse in the box; the box of a rotated face is the box of its rotated outline."""
    left, top, right, bottom = (float(value) for value in box_4)
    angles_P = np.linspace(0, 2 * math.pi, 24, endpoint=False)
    x_P = (left + right) / 2 + (right - left) / 2 * np.cos(angles_P)
    y_P = (top + bottom) / 2 + (bottom - top) / 2 * np.sin(angles_P)
    return np.stack((x_P, y_P), axis=1)
