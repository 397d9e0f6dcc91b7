"""From the network's numbers to boxes and landmarks, and from many answers to one for each face.

Coordinates are pixels of the view, pixel centres at whole numbers.
Shape legend: B images, h w a grid's cells, A the cells of all grids, N candidates, 5 2 landmarks in x and y.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...geometry import box_iou
from .network import STRIDES

# Boxes and landmarks are counted in this many strides, so that a grid's usual faces give numbers around one.
UNIT_STRIDES = 4.0
# exp(4) units are 218 strides: no box is larger, and none infinite.
_MAX_LOG_SIZE = 4.0


@dataclass(frozen=True)
class Cells:
    """centers_A2: each cell's middle, in pixels of the view.
    units_A: the length in which a cell's numbers are given, in pixels of the view.
    """

    centers_A2: Tensor
    units_A: Tensor


@dataclass(frozen=True)
class Answers:
    """logits_BA: scores before the sigmoid.
    centers_BA2, sizes_BA2: of the boxes, in pixels of the view.
    points_BA52: landmarks, in pixels of the view.
    """

    logits_BA: Tensor
    centers_BA2: Tensor
    sizes_BA2: Tensor
    points_BA52: Tensor

    @property
    def boxes_BA4(self) -> Tensor:
        """Left, top, right, bottom."""
        half_BA2 = self.sizes_BA2 / 2
        return torch.cat((self.centers_BA2 - half_BA2, self.centers_BA2 + half_BA2), dim=-1)


def cells(height: int, width: int, device: torch.device | str = "cpu") -> Cells:
    """Of all grids on a view whose sides are divisible by the largest stride, row by row, fine to coarse."""
    centers: list[Tensor] = []
    units: list[Tensor] = []
    for stride in STRIDES:
        y = (torch.arange(height // stride, device=device) + 0.5) * stride - 0.5
        x = (torch.arange(width // stride, device=device) + 0.5) * stride - 0.5
        y, x = torch.meshgrid(y, x, indexing="ij")
        centers.append(torch.stack((x, y), dim=-1).view(-1, 2))
        units.append(torch.full((x.numel(),), UNIT_STRIDES * stride, device=device))
    return Cells(torch.cat(centers), torch.cat(units))


def decode(outputs: Sequence[Tensor], grid: Cells) -> Answers:
    """outputs: what the network gave, (B, 15, h, w) for each of STRIDES."""
    rows_BA15 = torch.cat([part.flatten(2) for part in outputs], dim=2).transpose(1, 2).float()
    units_A1 = grid.units_A[:, None]
    return Answers(
        rows_BA15[..., 0],
        grid.centers_A2 + rows_BA15[..., 1:3] * units_A1,
        torch.exp(rows_BA15[..., 3:5].clamp(max=_MAX_LOG_SIZE)) * units_A1,
        grid.centers_A2[:, None] + torch.unflatten(rows_BA15[..., 5:], -1, (5, 2)) * units_A1[:, None],
    )


# A smaller box with more of it than this inside another, and narrower by this, is a part of that face: nose and mouth.
_NESTED_SHARE = 0.8
_NESTED_WIDTH = 0.8


def is_nested(boxes_N4: np.ndarray) -> np.ndarray:
    """Whether each box is a part of another face, bool (N,)."""
    corners_1N4, corners_N14 = boxes_N4[None], boxes_N4[:, None]
    shared_NN2 = np.minimum(corners_N14[..., 2:], corners_1N4[..., 2:]) - np.maximum(
        corners_N14[..., :2], corners_1N4[..., :2]
    )
    sizes_N2 = boxes_N4[:, 2:] - boxes_N4[:, :2]
    share_NN = shared_NN2.clip(min=0).prod(-1) / sizes_N2.prod(-1).clip(min=1e-9)[:, None]
    is_narrower_NN = sizes_N2[:, None, 0] < _NESTED_WIDTH * sizes_N2[None, :, 0]
    return ((share_NN > _NESTED_SHARE) & is_narrower_NN).any(axis=1)


def merged(
    boxes_N4: np.ndarray, points_N52: np.ndarray, scores_N: np.ndarray, weights_N: np.ndarray, iou: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One box, five landmarks and a score for each face, best first.

    The best candidate takes all that overlap with it by more than `iou`. Its score stays; box and landmarks become the
    weighted mean over them: neighbouring cells err independently of each other.

    weights_N: how far to trust a candidate's coordinates.
    """
    order = np.argsort(-scores_N, kind="stable")
    boxes_N4, points_N52, scores_N, weights_N = boxes_N4[order], points_N52[order], scores_N[order], weights_N[order]
    candidates_N4 = torch.from_numpy(boxes_N4)
    is_left_N = np.ones(len(scores_N), dtype=bool)
    boxes: list[np.ndarray] = []
    points: list[np.ndarray] = []
    scores: list[float] = []
    for index in range(len(scores_N)):
        if not is_left_N[index]:
            continue
        members_N = is_left_N & (box_iou(candidates_N4[index], candidates_N4) > iou).numpy()
        members_N[index] = True
        is_left_N &= ~members_N
        shares = weights_N[members_N] / weights_N[members_N].sum()
        boxes.append(np.tensordot(shares, boxes_N4[members_N], 1))
        points.append(np.tensordot(shares, points_N52[members_N], 1))
        scores.append(scores_N[index])
    return np.array(boxes).reshape(-1, 4), np.array(points).reshape(-1, 5, 2), np.array(scores)
