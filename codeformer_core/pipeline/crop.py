"""Aligned crops of the faces of images.

Shape legend: B images, H W their height and width, C channels (1 to 4); N faces of all images together.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..faces.batch import FaceBatch, check_same_images, unlike_images
from ..faces.geometry import CROP_SIZE, crop_face
from ..faces.selection import SkippedFace
from ..imaging import tensors as imaging
from ..runtime import memory
from .align import OUTSIDE, AlignedFace, align_faces
from .results import describe_skipped, face_count


@dataclass(frozen=True, eq=False)
class CroppedFaces:
    """crops_NHW3: RGB [0, 1], 512x512, aligned to the FFHQ template, image after image.

    faces: those of the crops. aligned: the same, with the way from image to crop.
    remarks: what the user should know.
    """

    crops_NHW3: Tensor
    faces: FaceBatch
    aligned: tuple[AlignedFace, ...]
    remarks: tuple[str, ...]

    def summary(self) -> str:
        """How many, then the remarks."""
        return "\n".join((f"{face_count(self.faces.count)} cropped", *self.remarks))


@torch.no_grad()
def crop_faces(images_BHWC: Tensor, faces: FaceBatch) -> CroppedFaces:
    """The aligned crop of every face. Outside its image a crop continues the outermost pixels.

    images_BHWC: floats in [0, 1], gray, RGB or RGBA.
    faces: found in these images.
    Raises ValueError for images of another number or size than those in which the faces were found, and
    NotEnoughMemory.
    """
    imaging.check_layout(images_BHWC)
    check_same_images(faces, images_BHWC)
    what = f"cropping {face_count(faces.count)}"
    memory.require(faces.count * CROP_SIZE * CROP_SIZE * 3 * 4, images_BHWC.device, what)
    rgb_BHW3 = imaging.split_alpha(images_BHWC).rgb_BHW3
    remarks = unlike_images(faces, rgb_BHW3)
    batch = align_faces(faces.per_image)
    skipped = [list(left_out) for left_out in batch.skipped]
    aligned = []
    for one in batch.aligned:
        if one.lies_outside((rgb_BHW3.shape[1], rgb_BHW3.shape[2])):
            skipped[one.image].append(SkippedFace(one.face, OUTSIDE))
        else:
            aligned.append(one)
    remarks += [f"picture {index + 1}: {line}" for index, lost in enumerate(skipped) for line in describe_skipped(lost)]
    crops_NHW3 = torch.empty(len(aligned), CROP_SIZE, CROP_SIZE, 3, device=rgb_BHW3.device)
    for crop_HW3, one in zip(crops_NHW3, aligned, strict=True):
        crop_HW3.copy_(crop_face(rgb_BHW3[one.image], one.matrix).permute(1, 2, 0))
    return CroppedFaces(crops_NHW3, faces_of(faces, aligned), tuple(aligned), tuple(remarks))


def faces_of(faces: FaceBatch, aligned: Iterable[AlignedFace]) -> FaceBatch:
    """The batch of `faces` with these alone."""
    kept = [[] for _ in faces.per_image]
    for one in aligned:
        kept[one.image].append(one.face)
    return faces.with_faces(kept)


def resized_remark(height: int, width: int) -> list[str]:
    """What a report says of aligned crops that did not have the network's size."""
    if (height, width) == (CROP_SIZE, CROP_SIZE):
        return []
    return [f"crops of {width}x{height} pixels were resized to {CROP_SIZE}x{CROP_SIZE} and back"]


def blank_remarks(blank: Iterable[int]) -> list[str]:
    """What a report says of crops, counted from 0, on which there is nothing to see: the placeholder, for one."""
    return [f"crop {index + 1} is of one colour and shows no face: it stays as it was" for index in blank]


def placeholder_crop() -> Tensor:
    """(1, 512, 512, 3), gray: stands for the crops where a batch of images can't be empty and there is no face."""
    return torch.full((1, CROP_SIZE, CROP_SIZE, 3), 0.5)
