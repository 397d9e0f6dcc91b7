"""Where the parts of faces lie, for a restorer that asks for them, and how a report tells what placed them."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..faces.batch import Faces
from ..faces.components import FROM_68, PartBoxes, find_parts
from ..faces.geometry import estimate_alignment
from ..faces.types import Face
from .paste_masks import landmarks_in_crop
from .results import face_count


@dataclass(frozen=True, eq=False)
class FaceParts:
    """A face, its picture's index in the batch, and the boxes of its parts in pixels of its crop."""

    picture: int
    face: Face
    parts: PartBoxes

    @property
    def has_68(self) -> bool:
        """Whether 68 landmarks placed them."""
        return self.parts.source == FROM_68


def face_parts(picture: int, face: Face, matrix: np.ndarray) -> FaceParts:
    """From the face's 68 landmarks, or from the five where they are missing or have lost a part.

    matrix: picture -> crop, from an alignment of this face.
    """
    landmarks_682 = face.landmarks_68_array()
    if landmarks_682 is not None:
        # numpy warns of infinity times a matrix.
        landmarks_682 = landmarks_in_crop(np.where(np.isfinite(landmarks_682), landmarks_682, np.nan), matrix)
    parts = find_parts(landmarks_in_crop(face.landmarks_array(), matrix), landmarks_682)
    return FaceParts(picture, face, parts)


def looked_up(located: FaceParts, matrix: np.ndarray, landmarks_682: np.ndarray) -> FaceParts:
    """The same face with 68 landmarks that were found in its crop, where its own did not place its parts."""
    if located.has_68:
        return located
    five_52 = landmarks_in_crop(located.face.landmarks_array(), matrix)
    return dataclasses.replace(located, parts=find_parts(five_52, landmarks_682))


def parts_of_crops(faces: Faces, crops: int) -> list[FaceParts]:
    """Those of the faces that `crop_faces` cut out; none where there was no face to cut out.

    Raises ValueError unless there are as many crops as faces.
    """
    if faces.count not in (0, crops):
        raise ValueError(
            f"{crops} crops came with {face_count(faces.count)}. "
            "Cure: connect the FACES of the Crop Faces node that made the crops"
        )
    placed = [(picture, face, estimate_alignment(face)) for picture, face in faces.in_order()]
    if any(matrix is None for _, _, matrix in placed):
        raise ValueError("a face came with crops that can't be cropped. Cure: connect the FACES of Crop Faces")
    return [face_parts(picture, face, matrix) for picture, face, matrix in placed if matrix is not None]


def boxes_of(located: Sequence[FaceParts]) -> Tensor:
    """-> parts_N44, int64."""
    return torch.from_numpy(np.stack([one.parts.boxes_44 for one in located]))


def placed_by(located: Sequence[FaceParts]) -> str:
    """How a report says it: "parts placed by 68 landmarks", both kinds with their numbers of faces, "" for no face."""
    counts = Counter(one.parts.source for one in located).most_common()
    if len(counts) < 2:
        return "".join(f"parts placed by {source}" for source, _ in counts)
    return "parts placed by " + " and ".join(f"{source} ({face_count(count)})" for source, count in counts)


def part_remarks(located: Sequence[FaceParts], scale: float = 1) -> list[str]:
    """A line for each face whose landmarks had something wrong with them. scale: pixels of a face -> those told."""
    return [
        f"picture {one.picture + 1}, face at ({x * scale:.0f}, {y * scale:.0f}): {one.parts.remark}"
        for one in located
        if one.parts.remark
        for x, y in [one.face.center_xy]
    ]
