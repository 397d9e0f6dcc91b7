"""Fine detail beside the clean face's: edges, and luma energy by frequency band. Needs no file.

Shape legend: B faces, 3 colours RGB, H W height and width, V bins of the half spectrum along W.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from .kinds import Better, ReferenceMetric
from .pixels import FLAT, luma, mask_magnitude

# Rows and columns of an aligned 512 face that hold the face itself: no hair, no background.
FACE_SIDE = 512
FACE_ROWS, FACE_COLUMNS = (60, 480), (90, 430)
# Energy of a windowed [0, 1] luma, per pixel, that is nothing but float32's rounding.
NO_ENERGY = 1e-12
# The bands that are reported, in cycles per face width.
MIDDLE_BAND, FINE_BAND = (32, 64), (64, 128)


class Edges(ReferenceMetric):
    """Mean Sobel magnitude of the luma, restored / clean, in the middle of the face.

    The region is rows 60-480 and columns 90-430 of a 512 face, scaled for other sizes. 1 for equal faces; below, the
    face is smoother, above, it is sharper or noisier. NaN where the clean face has no edges.
    """

    name = "edges"
    better: Better = "neither"

    @torch.no_grad()
    def reference(self, clean_B3HW: Tensor) -> Tensor:
        return _edges(clean_B3HW)

    @torch.no_grad()
    def measure_to(self, restored_B3HW: Tensor, reference: Tensor) -> Tensor:
        return torch.where(reference > FLAT, _edges(restored_B3HW) / reference, torch.nan).cpu().double()


class BandEnergy(ReferenceMetric):
    """Luma energy between two frequencies, restored / clean, of the Hann-windowed face.

    1 for equal faces, 0 where the band is lost; noise counts too. NaN where the face is too small to hold the band or
    the clean face has nothing in it.

    low, high: cycles per face width, low <= f < high.
    """

    better: Better = "neither"

    def __init__(self, low: float, high: float) -> None:
        """Raises ValueError unless 0 < low < high."""
        if not 0 < low < high:
            raise ValueError(f"a frequency band needs 0 < low < high, got {low:g} and {high:g}")
        self.name = f"{low:g}-{high:g}"
        self._low = low
        self._high = high

    @torch.no_grad()
    def reference(self, clean_B3HW: Tensor) -> Tensor:
        return self._energy(clean_B3HW)

    @torch.no_grad()
    def measure_to(self, restored_B3HW: Tensor, reference: Tensor) -> Tensor:
        restored_B = self._energy(restored_B3HW)
        return torch.where(reference > NO_ENERGY, restored_B / reference, torch.nan).cpu().double()

    def _energy(self, faces_B3HW: Tensor) -> Tensor:
        """-> energy_B, mean over pixels (Parseval); 0 where the face's pixels can't hold the whole band."""
        height, width = faces_B3HW.shape[2:]
        if self._high > width / 2:
            return faces_B3HW.new_zeros(len(faces_B3HW), dtype=torch.float32)
        down_H, across_W = (torch.hann_window(side, device=faces_B3HW.device) for side in (height, width))
        # Without the mean: its leakage would reach the lowest bins only, its rounding all of them.
        luma_BHW = luma(faces_B3HW)
        luma_BHW = (luma_BHW - luma_BHW.mean((1, 2), keepdim=True)) * down_H[:, None] * across_W
        spectrum_BHV = cast(Tensor, torch.fft.rfft2(luma_BHW, norm="ortho"))
        power_BHV = spectrum_BHV.abs().square() / (height * width)
        cycles_H = cast(Tensor, torch.fft.fftfreq(height, 1 / width, device=faces_B3HW.device))
        cycles_V = cast(Tensor, torch.fft.rfftfreq(width, 1 / width, device=faces_B3HW.device))
        cycles_HV = torch.hypot(cycles_H[:, None], cycles_V)
        # The other half of the spectrum is the mirror image of this one, but for the column of zero frequency.
        weight_V = torch.where(cycles_V == 0, 1.0, 2.0)
        wanted_HV = ((cycles_HV >= self._low) & (cycles_HV < self._high)) * weight_V
        return (power_BHV * wanted_HV).sum((1, 2))


def _edges(faces_B3HW: Tensor) -> Tensor:
    """-> mean Sobel magnitude_B of the luma in the middle of the face."""
    height, width = faces_B3HW.shape[2:]
    across_33 = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]], device=faces_B3HW.device)
    magnitude_BHW = mask_magnitude(luma(faces_B3HW), across_33)
    rows, columns = _scaled(FACE_ROWS, height), _scaled(FACE_COLUMNS, width)
    return magnitude_BHW[:, rows, columns].mean((1, 2))


def _scaled(ends: tuple[int, int], side: int) -> slice:
    """Rows or columns of a 512 face -> the same part of a face of `side` pixels, at least one pixel."""
    start = ends[0] * side // FACE_SIDE
    return slice(start, max(start + 1, round(ends[1] * side / FACE_SIDE)))
