"""Blending restored faces back, each inside its own rectangle of the picture.

The cost depends on the faces' area, never on the picture's. Everything is float32 on the picture's device.
Shape legend: H W picture, h w rectangle of one face, S side of the (possibly enlarged) face.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .geometry import CROP_SIZE, covered_rectangle, crop_coordinates, invert, sample
from .masks import published_soft_box, soft_box


def paste_matrix(matrix: np.ndarray, upscale: float, face_size: int, parity: bool) -> np.ndarray:
    """Enlarged picture -> restored face of `face_size` pixels, from the picture -> 512 crop matrix.

    parity: the published half-pixel offset (0.5 * upscale, and none with an enlarged face) instead of the exact one.
    """
    to_picture = invert(matrix) * upscale
    enlarged = face_size / CROP_SIZE
    if not parity:
        # Pixel centres: x_canvas + 0.5 = upscale * (x_picture + 0.5), and likewise on the enlarged face.
        to_picture[:, 2] += 0.5 * upscale - 0.5
        linear = to_picture[:, :2] / enlarged
        offset = to_picture[:, 2] + linear @ np.full(2, 0.5 - 0.5 * enlarged)
        return invert(np.column_stack((linear, offset)))
    if face_size == CROP_SIZE:
        to_picture[:, 2] += 0.5 * upscale if upscale > 1 else 0
        return invert(to_picture)
    return invert(np.column_stack((to_picture[:, :2] / enlarged, to_picture[:, 2])))


def paste_face(
    canvas_HW3: Tensor,
    paste_mask_HW: Tensor,
    face_3SS: Tensor,
    shape_mask_SS: Tensor | None,
    matrix: np.ndarray,
    *,
    upscale: float,
    opacity: float = 1.0,
    parity: bool = False,
) -> bool:
    """Blend one face into `canvas_HW3` (RGB [0, 1]) in place and note its mask in `paste_mask_HW`, also in place.

    matrix: canvas -> face, see `paste_matrix`. shape_mask_SS: [0, 1] in the face's pixels, or None for the soft box.
    Returns False, and changes nothing, when the face lies outside the canvas.
    """
    height, width = canvas_HW3.shape[:2]
    size = face_3SS.shape[-1]
    area = covered_rectangle(matrix, size, height, width)
    if area.is_empty:
        return False
    x_hw, y_hw = crop_coordinates(matrix, area, canvas_HW3.device, parity=parity)
    layers = face_3SS if shape_mask_SS is None else torch.cat((face_3SS, shape_mask_SS[None]))
    # Beyond its rim the face goes on as at its rim: with the published zeros the soft box of a small face, not quite 0
    # there, would draw a dark frame.
    places = (x_hw, y_hw) if parity else (x_hw.clamp(0, size - 1), y_hw.clamp(0, size - 1))
    sampled_Chw = sample(layers.to(canvas_HW3), *places)
    face_3hw = sampled_Chw[:3]
    if parity:
        coverage_hw, mask_hw = published_soft_box(x_hw, y_hw, matrix, size, upscale, area, (height, width))
        face_3hw = (face_3hw * 255 + 0.5).floor_() / 255 * coverage_hw
    else:
        mask_hw = soft_box(x_hw, y_hw, matrix, size)
    if shape_mask_SS is not None:
        mask_hw = torch.minimum(mask_hw, sampled_Chw[3])
    mask_hw = mask_hw * opacity
    area.of(canvas_HW3).lerp_(face_3hw.permute(1, 2, 0), mask_hw[..., None])
    noted_hw = area.of(paste_mask_HW)
    torch.maximum(noted_hw, mask_hw, out=noted_hw)
    return True
