"""Blending restored faces back, each inside its own rectangle of the picture.

The cost depends on the faces' area, never on the picture's. Everything is float32 on the picture's device.
Shape legend: H W picture, h w rectangle of one face, S side of the (possibly enlarged) face, C channels.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..faces.geometry import CROP_SIZE, covered_rectangle, crop_coordinates, invert, sample
from ..faces.masks import soft_box
from .color_match import with_luma_of
from .reference import published_soft_box


def paste_matrix(matrix: np.ndarray, upscale_xy: tuple[float, float], face_size: int) -> np.ndarray:
    """Enlarged picture -> restored face of `face_size` pixels, from the picture -> 512 crop matrix.

    upscale_xy: enlarged pixels per pixel along x and y. Pixels are areas: (x + 0.5) scales, not x.
    """
    to_picture = _scaled_about_corner(upscale_xy) @ _square(invert(matrix))
    shrink = CROP_SIZE / face_size
    return invert((to_picture @ _scaled_about_corner((shrink, shrink)))[:2])


def _scaled_about_corner(factor_xy: tuple[float, float]) -> np.ndarray:
    """3x3: pixel centres of a picture -> pixel centres of the picture resized by these factors."""
    x, y = factor_xy
    return np.array([(x, 0, (x - 1) / 2), (0, y, (y - 1) / 2), (0, 0, 1)])


def _square(matrix: np.ndarray) -> np.ndarray:
    return np.vstack((matrix, (0, 0, 1)))


def paste_face(
    canvas_HW3: Tensor,
    paste_mask_HW: Tensor,
    face_3SS: Tensor,
    shape_mask_SS: Tensor | None,
    matrix: np.ndarray,
    *,
    opacity: float = 1.0,
    allowed_HW: Tensor | None = None,
    chroma_only: bool = False,
    parity_upscale: float | None = None,
) -> bool:
    """Blend one face into `canvas_HW3` (RGB [0, 1]) in place and note its mask in `paste_mask_HW`, also in place.

    face_3SS: RGB [0, 1]. shape_mask_SS: [0, 1] in the face's pixels, or None for the soft box alone.
    matrix: canvas -> face, from `paste_matrix`; in parity mode from `published_paste_matrix`, with the upscale it was
    made for as parity_upscale. allowed_HW: how much of the face each of the canvas's pixels may get, [0, 1]; None is 1
    everywhere. chroma_only: the canvas keeps its brightness.
    Returns False, and changes nothing, when the face lies outside the canvas.
    """
    height, width = canvas_HW3.shape[:2]
    size = face_3SS.shape[-1]
    area = covered_rectangle(matrix, size, height, width)
    if area.is_empty:
        return False
    parity = parity_upscale is not None
    x_hw, y_hw = crop_coordinates(matrix, area, canvas_HW3.device, parity=parity)
    layers_CSS = face_3SS if shape_mask_SS is None else torch.cat((face_3SS, shape_mask_SS[None]))
    # Beyond its rim the face goes on as at its rim: with the published zeros the soft box of a small face, not quite 0
    # there, would draw a dark frame.
    places = (x_hw, y_hw) if parity else (x_hw.clamp(0, size - 1), y_hw.clamp(0, size - 1))
    sampled_Chw = sample(layers_CSS.to(canvas_HW3), *places)
    face_3hw = sampled_Chw[:3]
    if parity:
        coverage_hw, mask_hw = published_soft_box(x_hw, y_hw, matrix, size, parity_upscale, area, (height, width))
        face_3hw = (face_3hw * 255 + 0.5).floor_() / 255 * coverage_hw
    else:
        mask_hw = soft_box(x_hw, y_hw, matrix, size)
    if shape_mask_SS is not None:
        mask_hw = torch.minimum(mask_hw, sampled_Chw[3])
    mask_hw = mask_hw * opacity
    if allowed_HW is not None:
        mask_hw *= allowed_HW[area.top : area.bottom, area.left : area.right].to(mask_hw)
    face_hw3 = face_3hw.permute(1, 2, 0)
    if chroma_only:
        face_hw3 = with_luma_of(face_hw3, area.of(canvas_HW3))
    area.of(canvas_HW3).lerp_(face_hw3, mask_hw[..., None])
    noted_hw = area.of(paste_mask_HW)
    torch.maximum(noted_hw, mask_hw, out=noted_hw)
    return True
