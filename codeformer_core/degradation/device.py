"""A batch of faces degraded by torch, on the device that trains.

Shape legend: B faces, H W their size, K side of the blur kernel, P side of the canvas that holds the shrunk faces.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .brush import WHITE, brush_mask
from .color import change_colors
from .draw import Drawn
from .jpeg import jpeg_round_trip
from .kernels import gaussian_kernels, kernel_side
from .noise import normals_batch
from .resize import resize_batch
from .worn import wear

MIDDLE = 127.5  # taken off before the Fourier transform, whose rounding grows with the numbers
ANY_QUALITY = 100  # for faces without JPEG, whose result isn't used


@torch.no_grad()
def degrade_batch(clean_B3HW: Tensor, drawn: Sequence[Drawn]) -> Tensor:
    """The degraded faces, uint8 RGB (B, 3, size, size), as `degrade_on_cpu` makes them.

    Differences come from the rounding of float32 alone: a value that lies within about 1e-4 of a rounding border can
    fall to the other side. Before JPEG that can change one coefficient of a block of 8x8 small pixels.

    clean_B3HW: uint8 RGB (B, 3, size, size) on any device.
    drawn: one for each face.
    Raises ValueError for other types and sizes, and when there aren't as many `drawn` as faces.
    """
    _check(clean_B3HW, drawn)
    degraded_B3HW = torch.empty_like(clean_B3HW)
    with torch.autocast(clean_B3HW.device.type, enabled=False):
        for group in _groups(drawn):
            index = torch.tensor(group, device=clean_B3HW.device)
            degraded_B3HW[index] = _degrade_group(clean_B3HW[index].float(), [drawn[place] for place in group])
    return degraded_B3HW


def _groups(drawn: Sequence[Drawn]) -> list[list[int]]:
    """Faces that share a canvas: those shrunk to a quarter or less, to a half or less, and the others.

    A canvas costs what its largest face costs. With the preset "small" and 16 to 32 faces, one canvas for all took
    three to four times as long on a CPU as canvases for similar sizes.
    """
    groups: dict[int, list[int]] = {}
    for place, each in enumerate(drawn):
        groups.setdefault(min(each.size // each.smallest, 4).bit_length(), []).append(place)
    return list(groups.values())


def _degrade_group(levels: Tensor, drawn: Sequence[Drawn]) -> Tensor:
    """float32 levels (B, 3, size, size) -> uint8."""
    if any(each.strokes for each in drawn):
        painted_BHW = torch.from_numpy(np.stack([brush_mask(each) for each in drawn])).to(levels.device)
        levels = levels.masked_fill(painted_BHW[:, None], WHITE)
    if any(each.blur for each in drawn):
        kernels_BKK = gaussian_kernels([each.blur for each in drawn], kernel_side(levels.shape[-1]))
        levels = blur_batch(levels, torch.from_numpy(kernels_BKK).to(levels.device))
    levels = wear(levels, drawn)
    low_sizes, sizes = [each.smallest for each in drawn], [each.size for each in drawn]
    if low_sizes != sizes:
        levels = resize_batch(levels, sizes, low_sizes)
    levels = _with_noise(levels, drawn).clamp_(0, 255)
    if any(each.jpeg_quality is not None for each in drawn):
        levels = _with_jpeg(levels, drawn)
    if low_sizes != sizes:
        levels = resize_batch(levels, low_sizes, sizes)
    if any(each.colors for each in drawn):
        changed = [
            face_3HW if each.colors is None else change_colors(face_3HW, each.colors)
            for face_3HW, each in zip(levels, drawn, strict=True)
        ]
        levels = torch.stack(changed)
    return levels.round().clamp_(0, 255).to(torch.uint8)


def blur_batch(levels_B3HW: Tensor, kernels_BKK: Tensor) -> Tensor:
    """Each face with its own kernel, by Fourier transforms; borders are mirrored without repeating the outer pixel."""
    size, reach = levels_B3HW.shape[-1], kernels_BKK.shape[-1] // 2
    padded = F.pad(levels_B3HW - MIDDLE, (reach,) * 4, mode="reflect")
    side = _quick_length(padded.shape[-1])
    spectrum = _spectrum(padded, side) * _spectrum(kernels_BKK, side)[:, None]
    # The kernel's middle lies at `reach`, the face's corner too; what wraps around lies before both.
    inner = slice(2 * reach, 2 * reach + size)
    blurred_B3SS = cast(Tensor, torch.fft.irfft2(spectrum, s=(side, side)))
    return blurred_B3SS[..., inner, inner] + MIDDLE


def _spectrum(values: Tensor, side: int) -> Tensor:
    return cast(Tensor, torch.fft.rfft2(values, s=(side, side)))


def _quick_length(least: int) -> int:
    """The next even number whose prime factors are 2, 3 and 5."""
    length = least + least % 2
    while True:
        rest = length
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return length
        length += 2


def _with_noise(levels_B3PP: Tensor, drawn: Sequence[Drawn]) -> Tensor:
    """Faces number their values row by row within their own size, whatever the canvas."""
    sigmas = [each.noise_sigma or 0.0 for each in drawn]
    if not any(sigmas):
        return levels_B3PP
    device, side = levels_B3PP.device, levels_B3PP.shape[-1]
    noise_BN = normals_batch([each.noise_seed for each in drawn], 3 * side * side, device)
    place_P = torch.arange(side, device=device)
    width_B111 = torch.tensor([each.smallest for each in drawn], device=device)[:, None, None, None]
    order_B3PP = (place_P[:, None] * width_B111 + place_P) * 3 + torch.arange(3, device=device)[:, None, None]
    # Beyond a face's own size the numbers mean nothing, but stay inside: places grow with the width.
    noise_B3PP = noise_BN.gather(1, order_B3PP.flatten(1)).view_as(levels_B3PP)
    return levels_B3PP + torch.tensor(sigmas, device=device)[:, None, None, None] * noise_B3PP


def _with_jpeg(levels_B3PP: Tensor, drawn: Sequence[Drawn]) -> Tensor:
    qualities = [ANY_QUALITY if each.jpeg_quality is None else each.jpeg_quality for each in drawn]
    compressed_B3PP = jpeg_round_trip(
        levels_B3PP.round().to(torch.uint8), [each.smallest for each in drawn], qualities
    ).float()
    if all(each.jpeg_quality is not None for each in drawn):
        return compressed_B3PP
    wanted_B = torch.tensor([each.jpeg_quality is not None for each in drawn], device=levels_B3PP.device)
    return torch.where(wanted_B[:, None, None, None], compressed_B3PP, levels_B3PP)


def _check(clean_B3HW: Tensor, drawn: Sequence[Drawn]) -> None:
    if clean_B3HW.dtype != torch.uint8 or clean_B3HW.ndim != 4 or clean_B3HW.shape[1] != 3:
        raise ValueError(
            f"faces to degrade must be uint8 of shape (n, 3, size, size), got {clean_B3HW.dtype} and "
            f"{tuple(clean_B3HW.shape)}"
        )
    if len(drawn) != len(clean_B3HW):
        raise ValueError(f"each of {len(clean_B3HW)} faces needs its own drawn numbers, got {len(drawn)}")
    for each in drawn:
        if clean_B3HW.shape[2:] != (each.size, each.size):
            raise ValueError(
                f"the numbers were drawn for faces of {each.size} x {each.size} pixels, got "
                f"{tuple(clean_B3HW.shape[2:])}: draw them for the faces' own size"
            )
