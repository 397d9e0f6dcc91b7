"""Aligned faces: where each face of an image goes in its 512 crop.

The only place of the pipeline that estimates alignments; everything after it takes `AlignedFace`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..faces.geometry import estimate_alignment
from ..faces.selection import SkippedFace
from ..faces.types import Face

NO_FACE_SHAPE = "its landmarks do not form a face"


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

    def to_crop(self, points_N2: np.ndarray) -> np.ndarray:
        """(N, 2): pixels of the image -> pixels of the crop."""
        return points_N2 @ self.matrix[:, :2].T + self.matrix[:, 2]

    def landmarks_in_crop(self) -> np.ndarray:
        """The five landmarks (5, 2) in pixels of the crop."""
        return self.to_crop(self.face.landmarks_array())


@dataclass(frozen=True, eq=False)
class AlignedBatch:
    """aligned: in the order of the images. skipped: per image, the faces that can't be aligned, with the reason."""

    aligned: tuple[AlignedFace, ...]
    skipped: tuple[tuple[SkippedFace, ...], ...]


def align_faces(per_image: Sequence[Sequence[Face]]) -> AlignedBatch:
    """Align the faces of a batch of images.

    per_image: the faces of each image, in its pixels.
    """
    aligned: list[AlignedFace] = []
    skipped: list[tuple[SkippedFace, ...]] = []
    for image, faces in enumerate(per_image):
        left_out = []
        for face in faces:
            matrix = estimate_alignment(face)
            if matrix is None:
                left_out.append(SkippedFace(face, NO_FACE_SHAPE))
                continue
            matrix.setflags(write=False)
            aligned.append(AlignedFace(image, face, matrix))
        skipped.append(tuple(left_out))
    return AlignedBatch(tuple(aligned), tuple(skipped))


def with_matrix(face: AlignedFace, matrix: np.ndarray) -> AlignedFace:
    """The same face on another way into its crop, as a video's smoother finds it."""
    matrix = np.array(matrix, dtype=np.float64)
    matrix.setflags(write=False)
    return dataclasses.replace(face, matrix=matrix)
