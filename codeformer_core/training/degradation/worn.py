"""Grain, screen, fading, scratches and a scanner's blur on a batch of faces; the same functions in both paths.

No step waits for the device, and none uses matrix products or convolutions, which a trainer's settings would round.

Shape legend: B faces, H W their size, T taps of a blur, N waves.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .draw import Drawn
from .draw_wear import DrawnFading, DrawnGrain, DrawnHalftone, Mark, Wave
from .marks import mark_layers
from .noise import hashes_batch

LUMA = (0.299, 0.587, 0.114)
WHITE = 255.0
BYTE_VARIANCE = (256**2 - 1) / 12  # of a number that is 0..255 with equal chance
# Grain in black and white, as a share of that in the midtones.
LEAST_GRAIN = 0.2
HARDNESS = 2.5  # slope of the screen's threshold; 1 would only modulate, infinity would give black and white
FADING_SLOPE = 1.5


def wear(levels_B3HW: Tensor, drawn: Sequence[Drawn]) -> Tensor:
    """float32 levels 0..255 -> the same; faces without wear keep every bit. The tensor may be changed in place."""
    steps: tuple[tuple[str, Callable[[Tensor, list[Any]], Tensor]], ...] = (
        ("grain", _with_grain),
        ("halftone", _with_halftone),
        ("fading", _with_fading),
        ("marks", _with_marks),
        ("scan_sigma", _scanned),
    )
    for name, step in steps:
        numbers = [getattr(each, name) for each in drawn]
        worn = [place for place, each in enumerate(numbers) if each]
        if len(worn) == len(drawn):
            levels_B3HW = step(levels_B3HW, numbers)
        elif worn:
            index = torch.tensor(worn, device=levels_B3HW.device)
            changed = step(levels_B3HW[index], [numbers[place] for place in worn])
            levels_B3HW = levels_B3HW.index_copy(0, index, changed)
    return levels_B3HW


def _with_grain(levels_B3HW: Tensor, grains: list[DrawnGrain]) -> Tensor:
    """The noise is white before its blur; afterwards its deviation is known from the blur's taps."""
    device, side = levels_B3HW.device, levels_B3HW.shape[-1]
    hashes_BHW = hashes_batch([each.seed for each in grains], side * side, device).view(-1, side, side)
    luma_BHW = (hashes_BHW & 255) + ((hashes_BHW >> 8) & 255) - 255
    red_BHW, blue_BHW = ((hashes_BHW >> 16) & 255) - 127.5, (hashes_BHW >> 24) - 127.5
    taps_BT = gaussian_taps([each.sigma for each in grains], side)
    scale_B = 1 / np.square(taps_BT).sum(1)
    chroma_B = np.array([each.chroma for each in grains]) * scale_B / math.sqrt(BYTE_VARIANCE)
    scale_B111 = _column(scale_B / math.sqrt(2 * BYTE_VARIANCE), device)
    chroma_B111 = _column(chroma_B, device)
    luma_B1HW = luma_BHW.float()[:, None] * scale_B111
    if any(each.chroma for each in grains):
        red_B1HW, blue_B1HW = red_BHW[:, None] * chroma_B111, blue_BHW[:, None] * chroma_B111
        # Green balances the others, so that the brightness stays as it was.
        green_B1HW = (red_B1HW * LUMA[0] + blue_B1HW * LUMA[2]) / -LUMA[1]
        noise_BcHW = torch.cat([red_B1HW, green_B1HW, blue_B1HW], dim=1) + luma_B1HW
    else:
        noise_BcHW = luma_B1HW
    noise_BcHW = separable_blur(noise_BcHW, taps_BT)
    brightness_B1HW = _luma(levels_B3HW) / WHITE
    midtone_B1HW = 4 * brightness_B1HW * (1 - brightness_B1HW)
    strength_B111 = _column(np.array([each.strength for each in grains]), device)
    return levels_B3HW + noise_BcHW * ((LEAST_GRAIN + (1 - LEAST_GRAIN) * midtone_B1HW) * strength_B111)


def _with_halftone(levels_B3HW: Tensor, halftones: list[DrawnHalftone]) -> Tensor:
    """A place is printed where its level is above the screen's; the threshold is soft."""
    waves = [[wave for pair in each.screens for wave in pair] for each in halftones]
    screens_B3HW = plane_waves(waves, levels_B3HW.shape[-1], levels_B3HW.device).unflatten(1, (3, 2)).mean(2)
    printed_B3HW = (levels_B3HW / WHITE - 0.5 + screens_B3HW / 2).mul_(HARDNESS).add_(0.5).clamp_(0, 1).mul_(WHITE)
    strength_B111 = _column(np.array([each.strength for each in halftones]), levels_B3HW.device)
    return levels_B3HW + (printed_B3HW - levels_B3HW) * strength_B111


def _with_fading(levels_B3HW: Tensor, fadings: list[DrawnFading]) -> Tensor:
    device = levels_B3HW.device
    waves_BNHW = plane_waves([each.waves for each in fadings], levels_B3HW.shape[-1], device)
    spread = math.sqrt(waves_BNHW.shape[1] / 2)  # deviation of a sum of waves
    faded_B1HW = torch.sigmoid(waves_BNHW.sum(1, keepdim=True) * (FADING_SLOPE / spread))
    strength_B111 = _column(np.array([each.strength for each in fadings]), device)
    toward_B111 = _column(np.array([each.toward for each in fadings]), device)
    return levels_B3HW + (toward_B111 - levels_B3HW) * (faded_B1HW * strength_B111)


def _with_marks(levels_B3HW: Tensor, marks: list[tuple[Mark, ...]]) -> Tensor:
    layers_B2HW = np.stack([mark_layers(each, levels_B3HW.shape[-1]) for each in marks])
    opacity_B1HW, light_B1HW = torch.from_numpy(layers_B2HW).to(levels_B3HW.device).float().split(1, dim=1)
    return levels_B3HW * (1 - opacity_B1HW / 255) + light_B1HW


def _scanned(levels_B3HW: Tensor, sigmas: list[float]) -> Tensor:
    return separable_blur(levels_B3HW, gaussian_taps(sigmas, levels_B3HW.shape[-1]))


def plane_waves(waves: Sequence[Sequence[Wave]], size: int, device: torch.device) -> Tensor:
    """-> (B, N, size, size). Each wave is made of two outer products, so the device computes no cosine.

    cos(a + b) = cos a cos b - sin a sin b, with a of the column and b of the row. Tables are in double precision first.
    """
    numbers_BN3 = np.array([[(each.along_x, each.along_y, each.phase) for each in row] for row in waves])
    along_x, along_y, phase = np.moveaxis(numbers_BN3, -1, 0)[..., None]
    places = 2 * math.pi * np.arange(size)
    columns_BNW, rows_BNH = along_x * places + phase, along_y * places
    tables = np.stack([np.cos(columns_BNW), np.sin(columns_BNW), np.cos(rows_BNH), np.sin(rows_BNH)])
    cos_x, sin_x, cos_y, sin_y = torch.from_numpy(tables.astype(np.float32)).to(device)
    return cos_y[..., None] * cos_x[..., None, :] - sin_y[..., None] * sin_x[..., None, :]


def gaussian_taps(sigmas: Sequence[float], size: int) -> np.ndarray:
    """-> (B, T) float64 of sum 1, T odd: three deviations of the widest to either side, where the face has as much."""
    reach = min(max(1, math.ceil(3 * max(sigmas))), size - 1)
    places_T = np.arange(-reach, reach + 1)
    # Each face's own reach, or its neighbours in the batch would decide how much of its bell is kept.
    sigma_B1 = np.array(sigmas)[:, None]
    density_BT = np.exp(-0.5 * (places_T / sigma_B1) ** 2) * (np.abs(places_T) <= np.maximum(1, np.ceil(3 * sigma_B1)))
    return density_BT / density_BT.sum(1, keepdims=True)


def separable_blur(levels_BCHW: Tensor, taps_BT: np.ndarray) -> Tensor:
    """Each face with its own symmetric taps, along both axes; borders are mirrored without repeating the outer pixel."""
    reach = taps_BT.shape[1] // 2
    weights_TB111 = torch.from_numpy(taps_BT.T.astype(np.float32)).to(levels_BCHW.device)[..., None, None, None]
    for axis, around in ((3, (reach, reach, 0, 0)), (2, (0, 0, reach, reach))):
        size = levels_BCHW.shape[axis]
        padded = F.pad(levels_BCHW, around, mode="reflect")
        total = padded.narrow(axis, reach, size) * weights_TB111[reach]
        for step in range(1, reach + 1):
            both = padded.narrow(axis, reach - step, size) + padded.narrow(axis, reach + step, size)
            total.addcmul_(both, weights_TB111[reach + step])
        levels_BCHW = total
    return levels_BCHW


def _luma(levels_B3HW: Tensor) -> Tensor:
    red, green, blue = levels_B3HW.split(1, dim=1)
    return red * LUMA[0] + green * LUMA[1] + blue * LUMA[2]


def _column(numbers_B: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(numbers_B.astype(np.float32)).to(device)[:, None, None, None]
