"""What the network is to answer in each cell of a scene.

A face belongs to the grid whose cells fit its size, and there to the few cells at its middle.
Shape legend: A cells of all grids, N faces, 5 2 landmarks in x and y.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codeformer_core.faces.detectors.starter.decode import cells
from codeformer_core.faces.detectors.starter.network import STRIDES

from .scenes import Scene

# For each stride the sizes (square root of the box's area, in pixels) of the faces that its grid finds. They overlap,
# so that a face near a limit is found by two.
SIZES = {8: (0.0, 44.0), 16: (32.0, 104.0), 32: (76.0, 1e9)}
# A grid neither has to find nor to deny faces of sizes beyond its limits by up to this factor.
_TOLERANCE = 1.5
# Half the side of the square of cells at a face's middle, in strides or as a part of the face's size.
_MIN_STRIDES, _MAX_STRIDES, _PART = 0.75, 1.5, 0.18
# Around it, cells for which either answer is right.
_RING_STRIDES = 1.0

FACE, NOTHING, EITHER = 1, 0, -1


@dataclass(frozen=True, eq=False)
class Targets:
    """What the network should answer for a scene.

    kind_A: FACE, NOTHING or EITHER, int8.
    boxes_A4, points_A52: float32, of the face where kind is FACE, else 0.
    """

    kind_A: np.ndarray
    boxes_A4: np.ndarray
    points_A52: np.ndarray


def targets_of(scene: Scene) -> Targets:
    """The scene's sides are divisible by the largest stride."""
    height, width = scene.image_SSC.shape[:2]
    grid = cells(height, width)
    centers_A2 = grid.centers_A2.numpy()
    strides_A = np.concatenate([np.full((height // stride) * (width // stride), stride) for stride in STRIDES])
    kind_A = np.full(len(strides_A), NOTHING, np.int8)
    boxes_A4 = np.zeros((len(strides_A), 4), np.float32)
    points_A52 = np.zeros((len(strides_A), 5, 2), np.float32)
    low_A = np.array([SIZES[stride][0] for stride in STRIDES])[np.searchsorted(STRIDES, strides_A)]
    high_A = np.array([SIZES[stride][1] for stride in STRIDES])[np.searchsorted(STRIDES, strides_A)]
    sides_N2 = scene.boxes_N4[:, 2:] - scene.boxes_N4[:, :2]
    sizes_N = np.sqrt(sides_N2.prod(axis=1))
    # Large faces first: a small one before a large one keeps its cells.
    for face in np.argsort(-sizes_N):
        box_4, size = scene.boxes_N4[face], sizes_N[face]
        away_A = np.abs(centers_A2 - (box_4[:2] + box_4[2:]) / 2).max(axis=1)
        if not scene.is_wanted_N[face]:
            inside_A = ((centers_A2 >= box_4[:2]) & (centers_A2 <= box_4[2:])).all(axis=1)
            kind_A[(inside_A | (away_A <= strides_A)) & (kind_A == NOTHING)] = EITHER
            continue
        radius_A = np.clip(_PART * size, _MIN_STRIDES * strides_A, _MAX_STRIDES * strides_A)
        fits_A = (low_A <= size) & (size < high_A)
        nearly_fits_A = (low_A <= size * _TOLERANCE) & (size < high_A * _TOLERANCE)
        around_A = (away_A <= radius_A + _RING_STRIDES * strides_A) & nearly_fits_A
        kind_A[around_A & (kind_A == NOTHING)] = EITHER
        core_A = (away_A <= radius_A) & fits_A
        kind_A[core_A] = FACE
        boxes_A4[core_A] = box_4
        points_A52[core_A] = scene.landmarks_N52[face]
    return Targets(kind_A, boxes_A4, points_A52)
