"""Lens blur, grain, screen, fading, scratches and a scanner's blur on a batch of faces; both paths use these functions.

No step waits for the device, and none uses matrix products or convolutions, which a trainer's settings would round.

Shape legend: B faces, C channels, H W their size, T taps of a blur, G groups of N waves.
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
from .noise import bytes_batch

LUMA = (0.299, 0.587, 0.114)
WHITE = 255.0
MEAN_BYTE, BYTE_VARIANCE = 127.5, (256**2 - 1) / 12  # of a number that is 0..255 with equal chance
# Grain in black and white, as a share of that in the midtones.
LEAST_GRAIN = 0.2
HARDNESS = 2.5  # slope of the screen's threshold; 1 would only modulate, infinity would give black and white
FADING_SLOPE = 1.5


def wear(levels_B3HW: Tensor, drawn: Sequence[Drawn]) -> Tensor:
    """The worn faces, float32; faces without wear keep every bit.

    levels_B3HW: float32, around 0..255.
    drawn: one for each face.
    """
    steps: tuple[tuple[str, Callable[[Tensor, Any], Tensor]], ...] = (
        ("lens_sigma", _blurred),
        ("grain", _with_grain),
        ("halftone", _with_halftone),
        ("fading", _with_fading),
        ("marks", _with_marks),
        ("scan_sigma", _blurred),
    )
    for name, step in steps:
        numbers = [getattr(each, name) for each in drawn]
        worn = [place for place, each in enumerate(numbers) if each]
        if len(worn) == len(drawn):
            levels_B3HW = step(levels_B3HW, numbers)
        elif worn:
            index = torch.tensor(worn, device=levels_B3HW.device)
            chosen = [numbers[place] for place in worn]
            levels_B3HW = levels_B3HW.index_copy(0, index, step(levels_B3HW[index], chosen))
    return levels_B3HW


def _with_grain(levels_B3HW: Tensor, grains: list[DrawnGrain]) -> Tensor:
    """The noise is white before its blur; afterwards its deviation is known from the blur's taps."""
    device, side = levels_B3HW.device, levels_B3HW.shape[-1]
    bytes_B4N = bytes_batch([each.seed for each in grains], side * side, device)
    bytes_B4HW = torch.unflatten(bytes_B4N, -1, (side, side))
    taps_BT = gaussian_taps([each.sigma for each in grains], side)
    luma_B1HW = bytes_B4HW[:, :1].float() + bytes_B4HW[:, 1:2] - 2 * MEAN_BYTE
    chroma_B2HW = bytes_B4HW[:, 2:].float() - MEAN_BYTE
    blurred_B3HW = separable_blur(torch.cat([luma_B1HW, chroma_B2HW], dim=1), taps_BT)
    luma_B1HW, red_B1HW, blue_B1HW = torch.split(blurred_B3HW, 1, dim=1)
    strength_B = np.array([each.strength for each in grains]) / np.square(taps_BT).sum(1)
    chroma_B = strength_B * [each.chroma for each in grains] / math.sqrt(BYTE_VARIANCE)
    # Green balances the others, so that the brightness stays as it was.
    mix_33 = np.array([[1, 1, 0], [1, -LUMA[0] / LUMA[1], -LUMA[2] / LUMA[1]], [1, 0, 1]])
    mix_B33 = mix_33 * np.stack([strength_B / math.sqrt(2 * BYTE_VARIANCE), chroma_B, chroma_B], axis=-1)[:, None]
    mix_3B311 = torch.from_numpy(np.moveaxis(mix_B33, -1, 0).astype(np.float32)).to(device)[..., None, None]
    grain_B3HW = luma_B1HW * mix_3B311[0]
    grain_B3HW.addcmul_(red_B1HW, mix_3B311[1]).addcmul_(blue_B1HW, mix_3B311[2])
    brightness_B1HW = _luma(levels_B3HW) / WHITE
    weight_B1HW = (brightness_B1HW * (1 - brightness_B1HW)).mul_(4 * (1 - LEAST_GRAIN)).add_(LEAST_GRAIN)
    return grain_B3HW.mul_(weight_B1HW).add_(levels_B3HW)


def _with_halftone(levels_B3HW: Tensor, halftones: list[DrawnHalftone]) -> Tensor:
    """A place is printed where its level is above the screen's; the threshold is soft."""
    screens = [each.screens for each in halftones]
    most = max(map(len, screens))
    screens_BGHW = plane_waves([each * (most // len(each)) for each in screens], levels_B3HW)
    # levels / 255 - 1/2 + screen / 2, times the slope, plus 1/2; the screen is half the sum of its two waves
    printed_B3HW = (levels_B3HW * (HARDNESS / WHITE)).add_(screens_BGHW, alpha=HARDNESS / 4)
    printed_B3HW = printed_B3HW.add_((1 - HARDNESS) / 2).clamp_(0, 1).mul_(WHITE)
    strength_B111 = _column(np.array([each.strength for each in halftones]), levels_B3HW.device)
    return levels_B3HW.lerp(printed_B3HW, strength_B111)


def _with_fading(levels_B3HW: Tensor, fadings: list[DrawnFading]) -> Tensor:
    waves_B1HW = plane_waves([[each.waves] for each in fadings], levels_B3HW)
    spread = math.sqrt(len(fadings[0].waves) / 2)  # deviation of a sum of waves
    strength_B111, toward_B111 = (
        _column(np.array([getattr(each, name) for each in fadings]), levels_B3HW.device)
        for name in ("strength", "toward")
    )
    faded_B1HW = torch.sigmoid_(waves_B1HW.mul_(FADING_SLOPE / spread)).mul_(strength_B111)
    return levels_B3HW.lerp(toward_B111, faded_B1HW)


def _with_marks(levels_B3HW: Tensor, marks: list[tuple[Mark, ...]]) -> Tensor:
    layers_B2HW = np.stack([mark_layers(each, levels_B3HW.shape[-1]) for each in marks])
    opacity_B1HW, light_B1HW = torch.split(torch.from_numpy(layers_B2HW).to(levels_B3HW.device).float(), 1, dim=1)
    return levels_B3HW * (1 - opacity_B1HW / 255) + light_B1HW


def _blurred(levels_B3HW: Tensor, sigmas: list[float]) -> Tensor:
    return separable_blur(levels_B3HW, gaussian_taps(sigmas, levels_B3HW.shape[-1]))


def plane_waves(waves: Sequence[Sequence[Sequence[Wave]]], like_BCHW: Tensor) -> Tensor:
    """Sums of waves on every pixel, (B, G, H, W) float32.

    Each wave is two outer products: cos(a + b) = cos a cos b - sin a sin b, with a of the column and b of the row. So
    the device computes no cosine, and tables are exact however many periods they run.

    waves: for each face the groups to sum, as many for all.
    like_BCHW: the batch whose size and device are meant.
    """
    size = like_BCHW.shape[-1]
    numbers_BGN3 = np.array(
        [[[(each.along_x, each.along_y, each.phase) for each in group] for group in face] for face in waves]
    )
    along_x, along_y, phase = np.moveaxis(numbers_BGN3, -1, 0)[..., None]
    places = 2 * math.pi * np.arange(size)
    columns, rows = along_x * places + phase, along_y * places
    tables = np.stack([np.cos(columns), -np.sin(columns), np.cos(rows), np.sin(rows)]).astype(np.float32)
    cos_x, minus_sin_x, cos_y, sin_y = torch.from_numpy(tables).to(like_BCHW.device)
    total_BGHW = like_BCHW.new_zeros((*cos_x.shape[:2], size, size))
    for wave in range(cos_x.shape[2]):
        total_BGHW.addcmul_(cos_y[:, :, wave, :, None], cos_x[:, :, wave, None])
        total_BGHW.addcmul_(sin_y[:, :, wave, :, None], minus_sin_x[:, :, wave, None])
    return total_BGHW


def gaussian_taps(sigmas: Sequence[float], size: int) -> np.ndarray:
    """(B, T) float64 of sum 1, T odd: three deviations of the widest to either side, where the face has as much.

    sigmas: pixels.
    size: side of the faces in pixels.
    """
    reach = min(max(1, math.ceil(3 * max(sigmas))), size - 1)
    places_T = np.arange(-reach, reach + 1)
    # Each face's own reach, or its neighbours in the batch would decide how much of its bell is kept.
    sigma_B1 = np.array(sigmas)[:, None]
    density_BT = np.exp(-0.5 * (places_T / sigma_B1) ** 2) * (np.abs(places_T) <= np.maximum(1, np.ceil(3 * sigma_B1)))
    return density_BT / density_BT.sum(1, keepdims=True)


def separable_blur(levels_BCHW: Tensor, taps_BT: np.ndarray) -> Tensor:
    """Each face with its own symmetric taps along both axes; borders are mirrored without repeating the outer pixel."""
    return _blur_by_opencv(levels_BCHW, taps_BT) if levels_BCHW.is_cpu else blur_by_sums(levels_BCHW, taps_BT)


def _blur_by_opencv(levels_BCHW: Tensor, taps_BT: np.ndarray) -> Tensor:
    """A third of the time of `blur_by_sums` on a CPU."""
    import cv2

    blurred_BCHW = torch.empty_like(levels_BCHW, memory_format=torch.contiguous_format)
    for face_CHW, into_CHW, taps_T in zip(levels_BCHW.numpy(), blurred_BCHW.numpy(), taps_BT, strict=True):
        for plane_HW, into_HW in zip(face_CHW, into_CHW, strict=True):
            cv2.sepFilter2D(plane_HW, -1, taps_T, taps_T, dst=into_HW, borderType=cv2.BORDER_REFLECT_101)
    return blurred_BCHW


def blur_by_sums(levels_BCHW: Tensor, taps_BT: np.ndarray) -> Tensor:
    """`separable_blur` on any device."""
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
    red, green, blue = torch.split(levels_B3HW, 1, dim=1)
    return red * LUMA[0] + green * LUMA[1] + blue * LUMA[2]


def _column(numbers_B: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(numbers_B.astype(np.float32)).to(device)[:, None, None, None]
