"""Images beside each other, with a word above each column.

Shape legend: B faces (rows of the grid), H W their side; grids are uint8 RGB.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

_GAP = 4
_HEADER = 18
_PAPER = 255
# Smaller faces are shown enlarged, so that one can see them and the words fit.
_MIN_TILE = 128


def image_grid(columns: Mapping[str, Tensor]) -> np.ndarray:
    """grid_HW3 uint8, one row for each face.

    columns: title -> faces_B3HW in [-1, 1], all of one shape.
    """
    from PIL import Image, ImageDraw

    first = next(iter(columns.values()))
    enlarged = max(1, _MIN_TILE // first.shape[-1])
    rows, side = len(first), first.shape[-1] * enlarged
    step = side + _GAP
    grid_HW3 = np.full((_HEADER + rows * step, len(columns) * step, 3), _PAPER, np.uint8)
    for column, faces_B3HW in enumerate(columns.values()):
        for row, face_HW3 in enumerate(to_levels(faces_B3HW).permute(0, 2, 3, 1).cpu().numpy()):
            top, left = _HEADER + row * step, column * step
            grid_HW3[top : top + side, left : left + side] = face_HW3.repeat(enlarged, 0).repeat(enlarged, 1)
    image = Image.fromarray(grid_HW3)
    pen = ImageDraw.Draw(image)
    for column, title in enumerate(columns):
        pen.text((column * step + 2, 3), title, fill=(0, 0, 0))
    return np.asarray(image)


def to_levels(faces_B3HW: Tensor) -> Tensor:
    """[-1, 1] -> uint8."""
    return ((faces_B3HW.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def from_levels(faces_B3HW: Tensor) -> Tensor:
    """uint8 -> float32 [-1, 1]."""
    return faces_B3HW.float() / 127.5 - 1
