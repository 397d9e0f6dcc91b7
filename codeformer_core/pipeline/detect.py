"""Finding faces without restoring them.

Shape legend: B pictures, H W their height and width, C channels (1 to 4).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..faces.batch import Faces
from ..faces.detection import FaceDetector
from ..faces.geometry import estimate_alignment
from ..faces.mesh import faces_of_mesh
from ..faces.order import reading_order
from ..faces.selection import (
    Selection,
    SkippedFace,
    check_smallest_face,
    choose_faces,
    skip_large_faces,
)
from ..faces.types import Face
from ..imaging import tensors as pictures
from ..runtime.progress import FINDING, OnProgress, no_progress
from .results import describe_skipped, face_count

# Pictures handed to the detector together; between two such handfuls progress is told and cancel works.
PICTURES_AT_ONCE = 4
NO_FACE_SHAPE = "its landmarks do not form a face"
OUTSIDE = "it lies outside the picture"


@dataclass(frozen=True, eq=False)
class FoundFaces:
    """faces: what was found, numbered in each picture as one reads. skipped: what is left out, per picture.

    finder: what found them, in words.
    """

    faces: Faces
    skipped: tuple[tuple[SkippedFace, ...], ...]
    finder: str

    def summary(self) -> str:
        """All pictures, a few lines each, and the finder."""
        lines = []
        for index, (kept, skipped) in enumerate(zip(self.faces.per_picture, self.skipped, strict=True)):
            lines.append(f"picture {index + 1}: {face_count(len(kept))} found")
            lines += [f"  {line}" for line in describe_skipped(skipped)]
        return "\n".join([*lines, self.finder])


@torch.no_grad()
def find_faces(
    images_BHWC: Tensor,
    *,
    detector: FaceDetector,
    confidence: float | None = None,
    smallest_face: float = 0.0,
    largest_face: float = math.inf,
    merge_duplicates: bool = True,
    on_progress: OnProgress | None = None,
) -> FoundFaces:
    """The faces of pictures that can be aligned, as one reads.

    images_BHWC: floats in [0, 1], gray, RGB or RGBA. confidence: detections below are no faces; the detector's default
    if None. smallest_face, largest_face: sides of the box in pixels, see `skip_small_faces` and `skip_large_faces`.
    merge_duplicates: of detections that are one face, keep the best. Raises ValueError naming the input and the cure.
    """
    check_smallest_face(smallest_face)
    skip_large_faces((), largest_face)
    rgb_BHW3 = pictures.take_apart(images_BHWC).rgb_BHW3
    found = detect_in_batches(rgb_BHW3, detector, confidence, on_progress or no_progress)
    chosen = [_choose(faces, rgb_BHW3, smallest_face, largest_face, merge_duplicates) for faces in found]
    faces = Faces.of(rgb_BHW3, [one.kept for one in chosen])
    return FoundFaces(faces, tuple(one.skipped for one in chosen), f"looked for by {detector.name}")


def faces_from_landmarks(images_BHWC: Tensor, landmarks: Any) -> FoundFaces:
    """The faces of a face mesh (see `faces.mesh`) that can be aligned, as one reads.

    images_BHWC: the pictures in which the mesh was found, floats in [0, 1]. Raises ValueError naming the input and the
    cure.
    """
    rgb_BHW3 = pictures.take_apart(images_BHWC).rgb_BHW3
    count, height, width = rgb_BHW3.shape[:3]
    chosen = [
        _choose(faces, rgb_BHW3, smallest_face=0.0, largest_face=math.inf, merge_duplicates=False)
        for faces in faces_of_mesh(landmarks, count, (height, width))
    ]
    faces = Faces.of(rgb_BHW3, [one.kept for one in chosen])
    return FoundFaces(faces, tuple(one.skipped for one in chosen), "taken from the landmarks of a face mesh")


def detect_in_batches(
    rgb_BHW3: Tensor, detector: FaceDetector, confidence: float | None, report: OnProgress
) -> list[list[Face]]:
    """All detections, one list per picture; told and cancelled between handfuls of pictures."""
    batch = len(rgb_BHW3)
    found: list[list[Face]] = []
    for start in range(0, batch, PICTURES_AT_ONCE):
        report(FINDING, start, batch)
        found += detector.detect(rgb_BHW3[start : start + PICTURES_AT_ONCE], confidence)
    report(FINDING, batch, batch)
    return found


def skip_unaligned(faces: Sequence[Face]) -> Selection:
    """Skips faces whose landmarks allow no alignment."""
    fits = [estimate_alignment(face) is not None for face in faces]
    return Selection(
        tuple(face for face, fit in zip(faces, fits, strict=True) if fit),
        tuple(SkippedFace(face, NO_FACE_SHAPE) for face, fit in zip(faces, fits, strict=True) if not fit),
    )


def _choose(
    faces: Sequence[Face], images_BHWC: Tensor, smallest_face: float, largest_face: float, merge_duplicates: bool
) -> Selection:
    """The faces of one picture that are wanted and can be aligned, as one reads; the others with the reason."""
    size = (images_BHWC.shape[1], images_BHWC.shape[2])
    chosen = choose_faces(faces, size, smallest_face=smallest_face, merge_duplicates=merge_duplicates)
    fitting = skip_large_faces(chosen.kept, largest_face)
    aligned = skip_unaligned(fitting.kept)
    in_order = reading_order(aligned.kept)
    return Selection(tuple(in_order), (*chosen.skipped, *fitting.skipped, *aligned.skipped))
