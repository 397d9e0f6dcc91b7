"""The published paste, faults included: what parity mode does differently from `compositing` and `masks`.

Source: the official face helper's numbers as recorded in tests/golden/pipeline.
Shape legend: H W area of the picture that the crop covers.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ..faces.geometry import CROP_SIZE, Rectangle, invert
from ..faces.masks import gaussian_operator, opencv_sigma


def published_paste_matrix(matrix: np.ndarray, upscale: float, face_size: int) -> np.ndarray:
    """Enlarged picture -> restored face of `face_size` pixels, from the picture -> 512 crop matrix.

    Half a pixel too far to the right and below when the picture is enlarged; not so with an enlarged face.
    """
    to_picture = invert(matrix) * upscale
    if face_size == CROP_SIZE:
        to_picture[:, 2] += 0.5 * upscale if upscale > 1 else 0
    else:
        to_picture[:, :2] *= CROP_SIZE / face_size
    return invert(to_picture)


def published_soft_box(
    x_HW: Tensor,
    y_HW: Tensor,
    matrix: np.ndarray,
    crop_size: int,
    upscale: float,
    area: Rectangle,
    picture_size: tuple[int, int],
) -> tuple[Tensor, Tensor]:
    """-> coverage_HW, mask_HW: the published box, pixel by pixel, the picture's own border included.

    Warp a square of ones, erode it by int(2 * upscale) pixels (the face is multiplied by this coverage), take its
    area, erode by 2 * edge pixels with edge = int(sqrt(area)) // 20, blur by 2 * edge + 1 taps. Erosion stops at the
    picture's border and the blur is mirrored there. picture_size: height, width.
    """
    first = int(2 * upscale)
    coverage_HW = _eroded_square(x_HW, y_HW, matrix, crop_size, area, picture_size, (first,))
    edge = int(math.sqrt(float(coverage_HW.sum()))) // 20
    if edge == 0:
        return coverage_HW, coverage_HW
    mask_HW = _eroded_square(x_HW, y_HW, matrix, crop_size, area, picture_size, (first, 2 * edge))
    # Mirroring at the rectangle is mirroring at the picture's border, or of zeros where the rectangle ends inside it.
    for _ in range(2):
        operator = gaussian_operator(mask_HW.shape[0], 2 * edge + 1, opencv_sigma(edge)).to(mask_HW.device)
        mask_HW = (operator @ mask_HW).T
    return coverage_HW, mask_HW


def _eroded_square(
    x_HW: Tensor,
    y_HW: Tensor,
    matrix: np.ndarray,
    crop_size: int,
    area: Rectangle,
    picture_size: tuple[int, int],
    kernels: tuple[int, ...],
) -> Tensor:
    """A warped square of ones, eroded by squares of `kernels` pixels one after the other.

    The smallest value within a window is that at the window's smallest or largest crop coordinate, because ones
    with zeros around them only rise and then fall. OpenCV's window of k reaches k // 2 back and k - 1 - k // 2 ahead.
    """
    behind = sum(kernel // 2 for kernel in kernels)
    ahead = sum(kernel - 1 - kernel // 2 for kernel in kernels)
    columns_W = torch.arange(area.left, area.right, device=x_HW.device)
    rows_H1 = torch.arange(area.top, area.bottom, device=x_HW.device)[:, None]
    windows = [
        (-position.clamp(max=behind).float(), (size - 1 - position).clamp(max=ahead).float())
        for position, size in ((columns_W, picture_size[1]), (rows_H1, picture_size[0]))
    ]
    square_HW = torch.ones_like(x_HW)
    for coordinate_HW, gradients in zip((x_HW, y_HW), matrix[:, :2].tolist(), strict=True):
        low_HW, high_HW = coordinate_HW, coordinate_HW
        for gradient, (back, forth) in zip(gradients, windows, strict=True):
            low_HW = low_HW + torch.minimum(gradient * back, gradient * forth)
            high_HW = high_HW + torch.maximum(gradient * back, gradient * forth)
        # Bilinear samples of a row of ones with zeros outside: ramps from -1 to 0 and from size - 1 to size.
        square_HW = square_HW * (low_HW + 1).clamp(0, 1) * (crop_size - high_HW).clamp(0, 1)
    return square_HW
