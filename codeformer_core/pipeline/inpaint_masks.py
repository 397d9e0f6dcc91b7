"""Inpaint masks: which pixels of an image are to be filled, and where they lie in an aligned crop.

Shape legend: B images, H W their height and width; N faces, S side of an aligned crop. Holes are boolean.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..faces.contour import contour_masks
from ..faces.events import Event
from ..faces.geometry import CROP_SIZE, TEMPLATE_XY, crop_face
from ..faces.regions import grown
from ..imaging import tensors as imaging

# What 8 bits hold as 255, the published mark.
WHITE = 254.5 / 255
# A resampled pixel belongs to the hole from this part on: less can't be seen in 8 bits, and the network takes what is
# left of the mark for part of the face.
TOUCHED = 1 / 255
# Pixels of the image over which the filled pixels fade into the image's own, from so many outside the hole.
EDGE = 2


def make_inpaint_masks(rgb_BHW3: Tensor, mask_BHW: Tensor | None, white_pixels: bool) -> Tensor:
    """holes_BHW: the pixels that are to be filled.

    rgb_BHW3: the images, RGB [0, 1].
    mask_BHW: [0, 1], one for each image or one for all, any size (stretched to the images); a hole is above 0.5.
    white_pixels: without a mask, white pixels are to be filled.
    Raises ValueError naming the input and the fix.
    """
    batch, height, width = rgb_BHW3.shape[:3]
    if mask_BHW is not None:
        return imaging.fit_masks(mask_BHW.to(rgb_BHW3.device), batch, (height, width)) > 0.5
    if white_pixels:
        return (rgb_BHW3 >= WHITE).all(-1)
    return torch.zeros((batch, height, width), dtype=torch.bool, device=rgb_BHW3.device)


def empty_mask_event(mask_BHW: Tensor | None, white_pixels: bool) -> Event:
    """Why no pixel is to be filled."""
    if mask_BHW is not None:
        return Event("empty_mask")
    return Event("no_white_pixel" if white_pixels else "no_mask")


def hole_in_network_size(holes_NHW: Tensor) -> Tensor:
    """holes_NSS of 512 pixels: every pixel into which a part of a hole goes."""
    squares_NSS1 = imaging.resize(holes_NHW.float()[..., None], CROP_SIZE, CROP_SIZE)
    return squares_NSS1[..., 0] > TOUCHED


def hole_in_crop(hole_HW: Tensor, matrix: np.ndarray) -> Tensor:
    """hole_SS: every pixel of the aligned crop (image -> crop: `matrix`) into which a part of the hole goes."""
    # Sampled by what samples the crop, so that the two agree; the difference takes the border's colour away.
    marked_HW3 = hole_HW.float()[..., None].expand(-1, -1, 3)
    unmarked_HW3 = marked_HW3.new_zeros(()).expand_as(marked_HW3)
    return (crop_face(marked_HW3, matrix) - crop_face(unmarked_HW3, matrix))[0] > TOUCHED


def with_soft_edge(holes_BHW: Tensor) -> Tensor:
    """masks_BHW float32 [0, 1]: 1 on the hole and just outside it, 0 from a few pixels on."""
    wide_BHW = grown(holes_BHW.float(), 2 * EDGE)
    return F.avg_pool2d(wide_BHW[:, None], 2 * EDGE + 1, stride=1, padding=EDGE, count_include_pad=False)[:, 0]


def covered_face(hole_SS: Tensor) -> float:
    """How much of an aligned face a hole of the crop's size covers, 0..1."""
    face_SS = contour_masks(TEMPLATE_XY[None], hole_SS.shape[-1])[0].to(hole_SS.device)
    return float((face_SS * hole_SS).sum() / face_SS.sum())
