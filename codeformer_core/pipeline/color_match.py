"""Giving a new face the colours of the image it goes into.

Shape legend: S side of the aligned crop, s that of the reduced one; RGB in [0, 1].
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..faces.regions import blurred
from .options import ColorMatch

# Pixels of a 512 crop: skin tone and light lie above it, features below.
LOW_FREQUENCY_SIGMA = 32.0
# What is so much blurred looks the same at a quarter of its size, and costs a fiftieth.
_REDUCED = 4


def match_color(face_3SS: Tensor, original_3SS: Tensor, mask_SS: Tensor | None, kind: ColorMatch) -> Tensor:
    """face_3SS with the colours of original_3SS: two views of one face, in the same place.

    mask_SS: [0, 1], where the face is.
    kind: "mean-std" gives each channel the mean and deviation that the original has under the mask. "low-frequency"
    subtracts the blurred difference of the two, so that light and skin tone are the original's at every place.
    """
    if kind in ("off", "automatic"):
        return face_3SS
    weight_1SS = torch.ones_like(face_3SS[:1]) if mask_SS is None else mask_SS[None].to(face_3SS)
    if float(weight_1SS.sum()) < 1:
        return face_3SS
    if kind == "low-frequency":
        return (face_3SS + _low_frequency_shift((original_3SS - face_3SS) * weight_1SS, weight_1SS)).clamp(0, 1)
    face_mean, face_deviation = _statistics(face_3SS, weight_1SS)
    original_mean, original_deviation = _statistics(original_3SS, weight_1SS)
    return ((face_3SS - face_mean) * (original_deviation / face_deviation) + original_mean).clamp(0, 1)


def _low_frequency_shift(weighted_3SS: Tensor, weight_1SS: Tensor) -> Tensor:
    """shift_3SS: the blurred mean of differences.

    weighted_3SS: the differences by their weights.
    """
    side = weighted_3SS.shape[-1]
    layers_4ss = F.adaptive_avg_pool2d(torch.cat((weighted_3SS, weight_1SS)), -(-side // _REDUCED))
    soft_4ss = blurred(layers_4ss, LOW_FREQUENCY_SIGMA / _REDUCED)
    shift_3ss = soft_4ss[:3] / (soft_4ss[3:] + 1e-3)
    return F.interpolate(shift_3ss[None], (side, side), mode="bilinear", align_corners=False)[0]


def _statistics(image_3SS: Tensor, weight_1SS: Tensor) -> tuple[Tensor, Tensor]:
    total = weight_1SS.sum()
    mean_311 = (image_3SS * weight_1SS).sum((1, 2), keepdim=True) / total
    variance_311 = ((image_3SS - mean_311).square() * weight_1SS).sum((1, 2), keepdim=True) / total
    return mean_311, (variance_311 + 1e-6).sqrt()
