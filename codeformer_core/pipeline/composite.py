"""Blending new faces into images, each inside its own rectangle.

The cost depends on the faces' area, never on the image's. Everything is float32 on the image's device.
Shape legend: H W image, h w rectangle of one face, S side of the (possibly enlarged) face, C channels.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..faces.events import SkipKind
from ..faces.geometry import CROP_SIZE, covered_rectangle, crop_coordinates, crop_face, invert, sample, scale_of
from ..faces.masks import soft_box
from ..imaging import tensors as imaging
from ..imaging.gray import is_gray, with_luma_of
from .align import AlignedFace
from .background import Upscaler
from .color_match import match_color
from .options import PasteOptions


@dataclass(frozen=True, eq=False)
class NewFace:
    """A face that is ready to be pasted.

    aligned: where it goes.
    face_3SS: RGB [0, 1], 512 pixels or more.
    mask_SS: [0, 1] in pixels of the 512 crop; None for the soft box alone.
    opacity: how much of it may show, 0 to 1, on top of the user's choice.
    """

    aligned: AlignedFace
    face_3SS: Tensor
    mask_SS: Tensor | None
    opacity: float = 1.0


@dataclass(frozen=True, eq=False)
class Target:
    """Where faces go: one image of the result. Both tensors are written to.

    canvas_HW3: RGB [0, 1].
    coverage_HW: how much of a pasted face shows, 0..1.
    scale_xy: pixels of the canvas per pixel of the image in which the faces were found.
    clip_mask_HW: how much of a face each pixel may get, [0, 1]; None is 1 everywhere.
    """

    canvas_HW3: Tensor
    coverage_HW: Tensor
    scale_xy: tuple[float, float] = (1.0, 1.0)
    clip_mask_HW: Tensor | None = None


def composite(
    target: Target, new: NewFace, options: PasteOptions, face_upscaler: Upscaler | None = None
) -> SkipKind | None:
    """Blend one face into its image, in place.

    face_upscaler: redraws the face where pasting would enlarge it.
    Returns why nothing of the face shows, and then changes nothing; None for a face that was pasted.
    """
    if reason := _nothing_shows(target, new, options):
        return reason
    face_3SS, size, matrix = new.face_3SS, new.face_3SS.shape[-1], new.aligned.matrix
    if options.color_match not in ("off", "automatic"):
        there_3SS = crop_face(target.canvas_HW3, paste_matrix(matrix, target.scale_xy, CROP_SIZE))
        small_3SS = resized(face_3SS, CROP_SIZE)
        matched_3SS = match_color(small_3SS, there_3SS, new.mask_SS, options.color_match)
        # The change alone is resized, so that a larger face keeps its details.
        face_3SS = (face_3SS + resized(matched_3SS - small_3SS, size)).clamp(0, 1)
    enlarged = 1 / scale_of(paste_matrix(matrix, target.scale_xy, size))
    if face_upscaler is not None and enlarged > 1:
        large_3SS = enlarged_face(face_3SS, face_upscaler, math.ceil(size * enlarged))
        # An upscaler gives no colour to a face without any.
        face_3SS = _with_luma_of(face_3SS, large_3SS) if is_gray(face_3SS.permute(1, 2, 0)) else large_3SS
    return None if blend_face(target, dataclasses.replace(new, face_3SS=face_3SS), options) else "outside_image"


def _nothing_shows(target: Target, new: NewFace, options: PasteOptions) -> SkipKind | None:
    if options.opacity == 0:
        return "opacity_zero"
    if new.mask_SS is not None and not bool(new.mask_SS.any()):
        return "mask_empty"
    area = covered_rectangle(
        paste_matrix(new.aligned.matrix, target.scale_xy, CROP_SIZE), CROP_SIZE, *target.coverage_HW.shape
    )
    clip_HW = target.clip_mask_HW
    if clip_HW is not None and not area.is_empty and not bool(area.of(clip_HW[..., None]).any()):
        return "clip_mask_black"
    return None


def blend_face(target: Target, new: NewFace, options: PasteOptions) -> bool:
    """`composite` for a face that has its final colours and size. False for one outside the image."""
    face_3SS, size = new.face_3SS, new.face_3SS.shape[-1]
    matrix = paste_matrix(new.aligned.matrix, target.scale_xy, size)
    area = covered_rectangle(matrix, size, *target.coverage_HW.shape)
    if area.is_empty:
        return False
    x_hw, y_hw = crop_coordinates(matrix, area, target.canvas_HW3.device)
    layers_CSS = face_3SS if new.mask_SS is None else torch.cat((face_3SS, resized(new.mask_SS[None], size)))
    # Beyond its rim the face continues as at its rim: with zeros the soft box of a small face, not quite 0 there, would
    # draw a dark frame.
    sampled_Chw = sample(layers_CSS.to(target.canvas_HW3), x_hw.clamp(0, size - 1), y_hw.clamp(0, size - 1))
    mask_hw = soft_box(x_hw, y_hw, matrix, size)
    if new.mask_SS is not None:
        mask_hw = torch.minimum(mask_hw, sampled_Chw[3])
    mask_hw = mask_hw * (options.opacity * new.opacity)
    if target.clip_mask_HW is not None:
        mask_hw *= area.of(target.clip_mask_HW).to(mask_hw)
    face_hw3 = sampled_Chw[:3].permute(1, 2, 0)
    if options.chroma_only:
        face_hw3 = with_luma_of(face_hw3, area.of(target.canvas_HW3))
    area.of(target.canvas_HW3).lerp_(face_hw3, mask_hw[..., None])
    covered_hw = area.of(target.coverage_HW)
    torch.maximum(covered_hw, mask_hw, out=covered_hw)
    return True


def paste_matrix(matrix: np.ndarray, scale_xy: tuple[float, float], face_size: int) -> np.ndarray:
    """Canvas -> new face of `face_size` pixels, from the image -> 512 crop matrix.

    scale_xy: pixels of the canvas per pixel of the image. Pixels are areas: (x + 0.5) scales, not x.
    """
    to_image = _scaled_about_corner(scale_xy) @ _square(invert(matrix))
    shrink = CROP_SIZE / face_size
    return invert((to_image @ _scaled_about_corner((shrink, shrink)))[:2])


def enlarged_face(face_3SS: Tensor, face_upscaler: Upscaler, size: int) -> Tensor:
    """The face redrawn by the upscaler, at `size`."""
    enlarged_1SS3 = face_upscaler(face_3SS.permute(1, 2, 0)[None])
    imaging.check_images(enlarged_1SS3, "the upscaler's faces")
    return imaging.resize(enlarged_1SS3, size, size)[0].permute(2, 0, 1).to(face_3SS)


def _with_luma_of(face_3SS: Tensor, large_3SS: Tensor) -> Tensor:
    """The face at the other one's size, with its brightness."""
    colour_3SS = resized(face_3SS, large_3SS.shape[-1])
    return with_luma_of(colour_3SS.permute(1, 2, 0), large_3SS.permute(1, 2, 0)).permute(2, 0, 1)


def resized(image_CSS: Tensor, size: int) -> Tensor:
    """(C, size, size)."""
    return imaging.resize(image_CSS.permute(1, 2, 0)[None], size, size)[0].permute(2, 0, 1)


def _scaled_about_corner(factor_xy: tuple[float, float]) -> np.ndarray:
    """3x3: pixel centres of an image -> pixel centres of the image resized by these factors."""
    x, y = factor_xy
    return np.array([(x, 0, (x - 1) / 2), (0, y, (y - 1) / 2), (0, 0, 1)])


def _square(matrix: np.ndarray) -> np.ndarray:
    return np.vstack((matrix, (0, 0, 1)))
