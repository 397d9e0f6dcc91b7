"""Cutting aligned faces out of pictures.

Shape legend: B pictures, H W their height and width, C channels (1 to 4); N faces of all pictures together.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .. import images as pictures
from .. import memory
from ..faces.found import Faces, check_same_pictures, unlike_pictures
from ..faces.geometry import CROP_SIZE, crop_face, estimate_alignment
from ..faces.selection import SkippedFace
from ..results import describe_skipped, face_count
from .detect import NO_FACE_SHAPE

OTHER_PICTURES = "looks like another picture than the one in which these faces were found"


@dataclass(frozen=True, eq=False)
class CroppedFaces:
    """crops_NHW3: RGB [0, 1], 512x512, aligned to the FFHQ template, picture after picture. faces: those of the crops.

    remarks: what the user should know.
    """

    crops_NHW3: Tensor
    faces: Faces
    remarks: tuple[str, ...]

    def summary(self) -> str:
        """How many, then the remarks."""
        return "\n".join((f"{face_count(self.faces.count)} cropped", *self.remarks))


@torch.no_grad()
def crop_faces(images_BHWC: Tensor, faces: Faces) -> CroppedFaces:
    """The aligned crop of every face. Outside its picture a crop has the published border colour.

    images_BHWC: floats in [0, 1], gray, RGB or RGBA. Raises ValueError for pictures of another number or size than
    those in which the faces were found, and NotEnoughMemory.
    """
    pictures.check_layout(images_BHWC)
    check_same_pictures(faces, images_BHWC)
    what = f"cropping {face_count(faces.count)}"
    memory.require(faces.count * CROP_SIZE * CROP_SIZE * 3 * 4, images_BHWC.device, what)
    rgb_BHW3 = pictures.take_apart(images_BHWC).rgb_BHW3
    remarks = [f"picture {index + 1} {OTHER_PICTURES}" for index in unlike_pictures(faces, rgb_BHW3)]
    crops, kept = [], []
    for index, found in enumerate(faces.per_picture):
        matrices = [estimate_alignment(face) for face in found]
        crops += [crop_face(rgb_BHW3[index], matrix) for matrix in matrices if matrix is not None]
        kept.append([face for face, matrix in zip(found, matrices, strict=True) if matrix is not None])
        lost = [face for face, matrix in zip(found, matrices, strict=True) if matrix is None]
        remarks += describe_skipped([SkippedFace(face, NO_FACE_SHAPE) for face in lost])
    if not crops:
        return CroppedFaces(torch.zeros(0, CROP_SIZE, CROP_SIZE, 3), faces.with_faces(kept), tuple(remarks))
    return CroppedFaces(torch.stack(crops).permute(0, 2, 3, 1).contiguous(), faces.with_faces(kept), tuple(remarks))


def placeholder_crop() -> Tensor:
    """(1, 512, 512, 3), gray: stands for the crops where a batch of pictures can't be empty and there is no face."""
    return torch.full((1, CROP_SIZE, CROP_SIZE, 3), 0.5)
