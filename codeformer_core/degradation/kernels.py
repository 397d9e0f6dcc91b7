"""Blur kernels: the density of a rotated Gaussian on the pixel grid.

Shape legend: B faces, K side of the kernel (odd), 41 for a face of 512 pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .draw import Blur
from .ranges import REFERENCE_SIZE

HALF_SIDE = 20  # of a face of REFERENCE_SIZE pixels


def kernel_side(size: int) -> int:
    """Side of the kernel for faces of size x size pixels: 41 of 512, scaled, odd and never under 3."""
    return 2 * max(1, round(HALF_SIDE * size / REFERENCE_SIZE)) + 1


def gaussian_kernels(blurs: Sequence[Blur | None], side: int) -> np.ndarray:
    """(B, K, K) float32, each of sum 1; None gives a kernel that changes nothing.

    side: K, odd.
    """
    half = side // 2
    places_K = np.arange(-half, half + 1)
    y_K1, x_1K = places_K[:, None], places_K[None]
    numbers = [(1.0, 1.0, 0.0) if blur is None else (blur.sigma_x, blur.sigma_y, blur.angle) for blur in blurs]
    numbers_B3 = np.array(numbers, dtype=np.float64).reshape(-1, 3)
    sigma_x, sigma_y, angle = (numbers_B3[:, column, None, None] for column in range(3))
    along_BKK = (x_1K * np.cos(angle) + y_K1 * np.sin(angle)) / sigma_x
    across_BKK = (y_K1 * np.cos(angle) - x_1K * np.sin(angle)) / sigma_y
    density_BKK = np.exp(-0.5 * (along_BKK**2 + across_BKK**2))
    for density_KK, blur in zip(density_BKK, blurs, strict=True):
        if blur is None:
            density_KK[:] = 0
            density_KK[half, half] = 1
    return (density_BKK / density_BKK.sum((-2, -1), keepdims=True)).astype(np.float32)
