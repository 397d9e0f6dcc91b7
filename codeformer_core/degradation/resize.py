"""Bilinear resizing of a batch whose faces have different sizes, on one canvas; two samples per axis, no antialias.

Gathering two samples is exact under every precision setting; matrix products would be rounded to TF32 or bfloat16 where
a trainer asks for those.

Shape legend: B faces, C channels, H W the canvas, T places along an axis of the answer.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def resize_batch(canvas_BCHW: Tensor, sizes: Sequence[int], new_sizes: Sequence[int]) -> Tensor:
    """The squares at their new sizes, on a canvas as large as the largest of these.

    canvas_BCHW: float32, squares in its upper left corners. The rest of the result repeats each face's last row and
    column.
    sizes, new_sizes: sides of the squares, in pixels.
    """
    before_BT, after_BT, share_BT = _places(sizes, new_sizes)
    device = canvas_BCHW.device
    before_BT, after_BT = torch.from_numpy(before_BT).to(device), torch.from_numpy(after_BT).to(device)
    share_B11T = torch.from_numpy(share_BT).to(device)[:, None, None]
    rows = torch.lerp(take_rows(canvas_BCHW, before_BT), take_rows(canvas_BCHW, after_BT), share_B11T.transpose(-1, -2))
    return torch.lerp(take_columns(rows, before_BT), take_columns(rows, after_BT), share_B11T)


def _places(sizes: Sequence[int], new_sizes: Sequence[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """-> (B, T) int64 sample before and after each place, and float32 share of the latter.

    Pixels are squares: the middle of pixel t lies at t + 0.5. Places are computed in double precision, as OpenCV does
    with Intel's library; its other builds round them to float32, which moves a value by up to 1e-3 levels.
    """
    size_B1, new_B1 = np.array(sizes)[:, None], np.array(new_sizes)[:, None]
    target_BT = np.minimum(np.arange(max(new_sizes)), new_B1 - 1)
    place_BT = (target_BT + 0.5) * (size_B1 / new_B1) - 0.5
    before_BT = np.floor(place_BT).astype(np.int64)
    share_BT = (place_BT - before_BT).astype(np.float32)
    last_B1 = size_B1 - 1
    return before_BT.clip(0, last_B1), (before_BT + 1).clip(0, last_B1), share_BT


def take_rows(planes_BCHW: Tensor, rows_BT: Tensor) -> Tensor:
    """(B, C, T, W): of each batch entry its own rows."""
    batch, channels, _, width = planes_BCHW.shape
    return planes_BCHW.gather(2, rows_BT[:, None, :, None].expand(batch, channels, -1, width))


def take_columns(planes_BCHW: Tensor, columns_BT: Tensor) -> Tensor:
    """(B, C, H, T): of each batch entry its own columns."""
    batch, channels, height, _ = planes_BCHW.shape
    return planes_BCHW.gather(3, columns_BT[:, None, None, :].expand(batch, channels, height, -1))
