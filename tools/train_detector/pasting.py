"""Putting one face into a scene, through a mask of many shapes, so that no edge tells where a face is.

Shape legend: S side of the face's level, M side of the mask, H W scene, 5 2 landmarks, P points of the outline.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from codeformer_core.faces.geometry import CROP_SIZE
from codeformer_core.runtime.packages import import_for_faces

_MASK_SIDE = 96


@dataclass(frozen=True, eq=False)
class Paste:
    """A face that is ready to be pasted.

    source: uint8 (S, S, 3).
    mask_MM: float32 [0, 1] over the same square.
    matrix: 512 face -> scene.
    box: left, top, right, bottom of the face.
    covered: of all that is changed.
    landmarks_52: in the scene.
    """

    source: np.ndarray
    mask_MM: np.ndarray
    matrix: np.ndarray
    box: tuple[float, float, float, float]
    covered: tuple[float, float, float, float]
    landmarks_52: np.ndarray

    @classmethod
    def of(
        cls,
        rng: np.random.Generator,
        source: np.ndarray,
        matrix: np.ndarray,
        landmarks_52: np.ndarray,
        outline_P2: np.ndarray,
        mask_x: float,
        *,
        is_tile: bool,
    ) -> Paste:
        """A paste through a random mask.

        landmarks_52, outline_P2: in the 512 face.
        mask_x: the head's middle there.
        is_tile: the whole square.
        """
        mask_MM, reach = _mask(rng, mask_x, is_tile=is_tile)
        left, top, right, bottom = reach
        corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
        return cls(
            source,
            mask_MM,
            matrix,
            _bounds(_moved(outline_P2, matrix)),
            _bounds(_moved(corners, matrix)),
            _moved(landmarks_52, matrix),
        )


def paste(image: np.ndarray, new: Paste) -> None:
    """Changes `image` (uint8 (H, W, 3)) where the mask of `new` reaches."""
    cv2 = import_for_faces("cv2")
    height, width = image.shape[:2]
    left, top = (max(0, math.floor(value)) for value in new.covered[:2])
    right, bottom = min(width, math.ceil(new.covered[2]) + 1), min(height, math.ceil(new.covered[3]) + 1)
    if left >= right or top >= bottom:
        return
    size = (right - left, bottom - top)
    area = image[top:bottom, left:right]
    face = cv2.warpAffine(
        np.ascontiguousarray(new.source),
        _from_level(new.matrix, new.source.shape[0], left, top),
        size,
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    mask = cv2.warpAffine(new.mask_MM, _from_level(new.matrix, _MASK_SIDE, left, top), size, flags=cv2.INTER_LINEAR)
    area[:] = (area + (face.astype(np.float32) - area) * mask[..., None] + 0.5).astype(np.uint8)


def _mask(
    rng: np.random.Generator, middle_x: float, *, is_tile: bool
) -> tuple[np.ndarray, tuple[float, float, float, float]]:
    """mask_MM and the rectangle of the 512 face in which it isn't zero."""
    kind = rng.random()
    side = float(CROP_SIZE)
    if is_tile or kind < 0.3:  # the whole square, with sharp edges
        return np.ones((_MASK_SIDE, _MASK_SIDE), np.float32), (0.0, 0.0, side, side)
    steps_M = (np.arange(_MASK_SIDE, dtype=np.float32) + 0.5) * CROP_SIZE / _MASK_SIDE - 0.5
    if kind < 0.6:  # the face alone
        middle_y, half_x, half_y = 285.0, rng.uniform(135, 195), rng.uniform(185, 235)
    else:  # the head with its hair
        middle_y, half_x, half_y = 262.0, rng.uniform(190, 250), rng.uniform(240, 275)
    roundness = rng.uniform(2, 6)
    across_M = np.abs((steps_M - middle_x) / half_x)
    down_M = np.abs((steps_M - middle_y) / half_y)
    distance_MM = (across_M[None] ** roundness + down_M[:, None] ** roundness) ** (1 / roundness)
    softness = rng.uniform(0.02, 0.35)
    mask_MM = np.clip((1 + softness / 2 - distance_MM) / softness, 0, 1).astype(np.float32)
    reach = 1 + softness / 2
    return mask_MM, (
        max(0.0, middle_x - half_x * reach),
        max(0.0, middle_y - half_y * reach),
        min(side, middle_x + half_x * reach),
        min(side, middle_y + half_y * reach),
    )


def _moved(points_P2: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    return points_P2 @ matrix[:, :2].T + matrix[:, 2]


def _bounds(points_P2: np.ndarray) -> tuple[float, float, float, float]:
    (left, top), (right, bottom) = points_P2.min(axis=0), points_P2.max(axis=0)
    return float(left), float(top), float(right), float(bottom)


def _from_level(matrix: np.ndarray, side: int, left: int, top: int) -> np.ndarray:
    """The matrix from pixels of a level with that side to pixels of the area that begins at (left, top)."""
    factor = CROP_SIZE / side
    shift = matrix[:, :2] @ np.full(2, 0.5 * factor - 0.5) + matrix[:, 2] - (left, top)
    return np.hstack((matrix[:, :2] * factor, shift[:, None]))
