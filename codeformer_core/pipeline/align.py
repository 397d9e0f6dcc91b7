"""Aligned faces: where each face of an image goes in its 512 crop.

The only place of the pipeline that estimates alignments; everything after it takes `AlignedFace`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..faces.events import SkippedFace
from ..faces.geometry import CROP_SIZE, covered_rectangle, estimate_alignment
from ..faces.types import Face


@dataclass(frozen=True, eq=False)
class AlignedFace:
    """A face and the way from its image into the aligned crop.

    image: index in the batch.
    face: in pixels of the image.
    matrix: float64 (2, 3), read-only. Image -> crop.
    track: number of the person's track in a video; None for single images.
    """

    image: int
    face: Face
    matrix: np.ndarray
    track: int | None = None

    def scaled(self, factor: float) -> AlignedFace:
        """The same face in its image resized by `factor`."""
        if factor == 1:
            return self
        matrix = self.matrix * np.array([1 / factor, 1 / factor, 1])
        matrix.setflags(write=False)
        return AlignedFace(self.image, self.face.scaled(factor), matrix, self.track)

    def lies_outside(self, image_size_hw: tuple[int, int]) -> bool:
        """Whether its crop touches no pixel of an image of this height and width."""
        return covered_rectangle(self.matrix, CROP_SIZE, *image_size_hw).is_empty

    def to_crop(self, points_N2: np.ndarray) -> np.ndarray:
        """(N, 2): pixels of the image -> pixels of the crop."""
        return points_N2 @ self.matrix[:, :2].T + self.matrix[:, 2]

    def landmarks_in_crop(self) -> np.ndarray:
        """The five landmarks (5, 2) in pixels of the crop."""
        return self.to_crop(self.face.landmarks_array())


@dataclass(frozen=True, eq=False)
class AlignedBatch:
    """The faces of a batch that can be aligned, and the others.

    aligned: in the order of the images.
    skipped: per image, the faces that can't be aligned, with the reason.
    """

    aligned: tuple[AlignedFace, ...]
    skipped: tuple[tuple[SkippedFace, ...], ...]


def align_face(image: int, face: Face) -> AlignedFace | None:
    """The face with its alignment; None where its landmarks allow none."""
    matrix = estimate_alignment(face)
    if matrix is None:
        return None
    matrix.setflags(write=False)
    return AlignedFace(image, face, matrix)


def align_faces(per_image: Sequence[Sequence[Face]]) -> AlignedBatch:
    """The faces of a batch of images, aligned.

    per_image: the faces of each image, in its pixels.
    """
    aligned: list[AlignedFace] = []
    skipped: list[tuple[SkippedFace, ...]] = []
    for image, faces in enumerate(per_image):
        found = [(face, align_face(image, face)) for face in faces]
        aligned += [one for _, one in found if one is not None]
        skipped.append(tuple(SkippedFace(face, "no_face_shape") for face, one in found if one is None))
    return AlignedBatch(tuple(aligned), tuple(skipped))
