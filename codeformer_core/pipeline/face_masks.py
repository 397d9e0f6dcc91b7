"""Faces as areas of their images: their outlines as a mask, and which of them lie inside a given mask.

Shape legend: B images, H W their height and width; S side of an aligned crop.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..faces.batch import FaceBatch
from ..faces.contour import contour_masks
from ..faces.events import Event, SkippedFace
from ..faces.geometry import CROP_SIZE, covered_rectangle, crop_coordinates, sample
from ..faces.types import Face
from ..faces.visualization import box_fractions
from ..imaging import tensors as imaging
from ..runtime import memory
from .align import AlignedFace, align_faces
from .results import counts
from .select import numbered

# Sums of float32 weights: a box wholly inside a white mask may come out this much below 1.
ROUNDING = 1e-5


@dataclass(frozen=True, eq=False)
class FacesInMask:
    """The faces inside a mask.

    faces: those inside.
    events: of each image how many these are, and the others.
    """

    faces: FaceBatch
    events: tuple[Event, ...]


@torch.no_grad()
def face_masks(faces: FaceBatch) -> Tensor:
    """The outlines of all faces from forehead to chin, soft at their edges.

    Returns masks_BHW float32 [0, 1], on the CPU, at the size of the images.
    Raises NotEnoughMemory.
    """
    height, width = faces.image_size_hw
    count = len(faces.per_image)
    memory.require(count * height * width * 4, "cpu", f"masks of {count} x {width}x{height} pixels")
    masks_BHW = memory.sparse_zeros((count, height, width))
    for one in align_faces(faces.per_image).aligned:
        _add_outline(masks_BHW[one.image], one)
    return masks_BHW


@torch.no_grad()
def faces_in_mask(faces: FaceBatch, masks_BHW: Tensor, share: float = 0.5) -> FacesInMask:
    """The faces whose box lies inside a mask. What of a box lies outside its image does not count.

    masks_BHW: [0, 1], one for each image or one for all, of any size (stretched to the images).
    share: how much of the box's area the mask must cover, 0 to 1; at 0 it only has to touch the box.
    Raises ValueError naming the input and the fix.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must be from 0 (the mask touches the face) to 1 (wholly inside), got {share}")
    masks_BHW = imaging.fit_masks(masks_BHW, len(faces.per_image), None)
    kept: list[list[Face]] = []
    events: list[Event] = []
    for index, found in enumerate(faces.per_image):
        mask_HW = masks_BHW[index]
        inside = [_share_inside(face, mask_HW, faces.image_size_hw) for face in found]
        kept.append([face for face, part in zip(found, inside, strict=True) if part > 0 and part >= share - ROUNDING])
        events += [
            numbered(SkippedFace(face, "outside_mask", {"share": part}), number).as_event(index)
            for number, (face, part) in enumerate(zip(found, inside, strict=True), 1)
            if part == 0 or part < share - ROUNDING
        ]
        events.append(counts(index, given=len(found), inside=len(kept[-1])))
    return FacesInMask(faces.with_faces(kept), tuple(events))


def _add_outline(mask_HW: Tensor, one: AlignedFace) -> None:
    """Draws one outline into `mask_HW` in place."""
    area = covered_rectangle(one.matrix, CROP_SIZE, *mask_HW.shape)
    if area.is_empty:
        return
    outline_1SS = contour_masks(one.landmarks_in_crop()[None])
    drawn_hw = sample(outline_1SS, *crop_coordinates(one.matrix, area, mask_HW.device))[0]
    below_hw = area.of(mask_HW)
    torch.maximum(below_hw, drawn_hw, out=below_hw)


def _share_inside(face: Face, mask_HW: Tensor, image_size_hw: tuple[int, int]) -> float:
    """The mask's mean over the box, exact for parts of pixels, so that a mask of any size gives the same."""
    left, top, right, bottom = box_fractions(face, image_size_hw)
    down_H, across_W = _covered(top, bottom, mask_HW.shape[0]), _covered(left, right, mask_HW.shape[1])
    area = float(down_H.sum() * across_W.sum())
    return float(down_H.to(mask_HW) @ mask_HW @ across_W.to(mask_HW)) / area if area > 0 else 0.0


def _covered(start: float, end: float, size: int) -> Tensor:
    """How much of each of `size` equal cells of 0..1 lies between start and end, in cells."""
    cells = torch.arange(size, dtype=torch.float32)
    return (torch.clamp(cells + 1, max=end * size) - torch.clamp(cells, min=start * size)).clamp(min=0)
