"""Cutting aligned faces out of pictures.

Shape legend: B pictures, H W their height and width, C channels (1 to 4); N faces of all pictures together.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..faces.batch import Faces, check_same_pictures, unlike_pictures
from ..faces.geometry import CROP_SIZE, covered_rectangle, crop_face, estimate_alignment
from ..faces.selection import SkippedFace
from ..imaging import tensors as pictures
from ..runtime import memory
from .detect import NO_FACE_SHAPE, OUTSIDE
from .results import describe_skipped, face_count


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
    remarks = unlike_pictures(faces, rgb_BHW3)
    kept, placed = [], []
    for index, found in enumerate(faces.per_picture):
        kept.append([])
        for face in found:
            matrix = estimate_alignment(face)
            if matrix is None or covered_rectangle(matrix, CROP_SIZE, *rgb_BHW3.shape[1:3]).is_empty:
                lost = SkippedFace(face, OUTSIDE if matrix is not None else NO_FACE_SHAPE)
                remarks.append(f"picture {index + 1}: {describe_skipped([lost])[0]}")
                continue
            kept[-1].append(face)
            placed.append((index, matrix))
    crops_NHW3 = torch.empty(len(placed), CROP_SIZE, CROP_SIZE, 3, device=rgb_BHW3.device)
    for crop_HW3, (index, matrix) in zip(crops_NHW3, placed, strict=True):
        crop_HW3.copy_(crop_face(rgb_BHW3[index], matrix).permute(1, 2, 0))
    return CroppedFaces(crops_NHW3, faces.with_faces(kept), tuple(remarks))


def resized_remark(height: int, width: int) -> list[str]:
    """What a report says of aligned crops that did not have the network's size."""
    if (height, width) == (CROP_SIZE, CROP_SIZE):
        return []
    return [f"crops of {width}x{height} pixels were resized to {CROP_SIZE}x{CROP_SIZE} and back"]


def blank_remarks(blank: Iterable[int]) -> list[str]:
    """What a report says of crops, counted from 0, on which there is nothing to see: the placeholder, for one."""
    return [f"crop {index + 1} is of one colour and shows no face: it stays as it was" for index in blank]


def placeholder_crop() -> Tensor:
    """(1, 512, 512, 3), gray: stands for the crops where a batch of pictures can't be empty and there is no face."""
    return torch.full((1, CROP_SIZE, CROP_SIZE, 3), 0.5)
