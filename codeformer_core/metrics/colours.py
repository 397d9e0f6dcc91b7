"""Colour shift in CIELAB, of regions and not of pixels. Needs no file.

Shape legend: B faces, 3 colours RGB or L a b, H W height and width, G cells of the grid per side.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .kinds import Better, check_pair

# Cells per side: each is an eighth of the face wide, 64 pixels of 512, so that edges which moved don't count as colour.
GRID = 8
# IEC 61966-2-1 (sRGB): linear RGB -> XYZ under D65. White is its row sums.
RGB_TO_XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
# CIE 15: where the cube root of CIELAB becomes a straight line, and that line.
LAB_EDGE, LAB_SLOPE, LAB_OFFSET = (6 / 29) ** 3, (29 / 6) ** 2 / 3, 4 / 29


class ColorShift:
    """Mean distance of (a, b) in CIELAB between restored and clean; lightness is ignored. 0 for equal faces.

    Both faces are first averaged over a grid of 8x8 cells, as sRGB values. About 2 is what an attentive eye sees.
    """

    name = "colour (a,b)"
    better: Better = "lower"

    @torch.no_grad()
    def measure(self, restored_B3HW: Tensor, clean_B3HW: Tensor) -> Tensor:
        check_pair(restored_B3HW, clean_B3HW)
        restored_B3GG, clean_B3GG = (
            lab(F.adaptive_avg_pool2d(faces_B3HW.float(), GRID)) for faces_B3HW in (restored_B3HW, clean_B3HW)
        )
        return (restored_B3GG - clean_B3GG)[:, 1:].square().sum(1).sqrt().mean((1, 2)).cpu().double()


def lab(faces_B3HW: Tensor) -> Tensor:
    """sRGB in [0, 1] -> CIELAB under D65: L in [0, 100], a and b about [-128, 127]."""
    faces_B3HW = faces_B3HW.float()
    linear_B3HW = torch.where(
        faces_B3HW <= 0.04045, faces_B3HW / 12.92, ((faces_B3HW.clamp_min(0) + 0.055) / 1.055) ** 2.4
    )
    matrix_33 = faces_B3HW.new_tensor(RGB_TO_XYZ)
    xyz_B3HW = torch.einsum("ij,bjhw->bihw", matrix_33 / matrix_33.sum(1, keepdim=True), linear_B3HW)
    rooted_B3HW = torch.where(
        xyz_B3HW > LAB_EDGE, xyz_B3HW.clamp_min(LAB_EDGE) ** (1 / 3), xyz_B3HW * LAB_SLOPE + LAB_OFFSET
    )
    x_BHW, y_BHW, z_BHW = rooted_B3HW.unbind(1)
    return torch.stack((116 * y_BHW - 16, 500 * (x_BHW - y_BHW), 200 * (y_BHW - z_BHW)), 1)
