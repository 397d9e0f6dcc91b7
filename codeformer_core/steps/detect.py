"""Finding faces without restoring them.

Shape legend: B pictures, H W their height and width, C channels (1 to 4).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import images as pictures
from ..faces.detection import FaceDetector
from ..faces.found import Faces
from ..faces.geometry import estimate_alignment
from ..faces.selection import (
    Selection,
    SkippedFace,
    check_smallest_face,
    choose_faces,
    skip_large_faces,
)
from ..faces.types import Face
from ..progress import FINDING, OnProgress, no_progress
from ..results import describe_skipped, face_count

# Pictures handed to the detector together; between two such handfuls progress is told and cancel works.
PICTURES_AT_ONCE = 4
NO_FACE_SHAPE = "its landmarks do not form a face"


@dataclass(frozen=True, eq=False)
class FoundFaces:
    """faces: what was found, numbered from left to right in each picture. skipped: what is left out, per picture."""

    faces: Faces
    skipped: tuple[tuple[SkippedFace, ...], ...]
    finder: str

    def summary(self) -> str:
        """All pictures, a few lines each, and the detector."""
        lines = []
        for index, (kept, skipped) in enumerate(zip(self.faces.per_picture, self.skipped, strict=True)):
            lines.append(f"picture {index + 1}: {face_count(len(kept))} found")
            lines += [f"  {line}" for line in describe_skipped(skipped)]
        return "\n".join([*lines, f"looked for by {self.finder}"])


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
    """The faces of pictures that can be aligned, from left to right.

    images_BHWC: floats in [0, 1], gray, RGB or RGBA. confidence: detections below are no faces; the detector's default
    if None. smallest_face, largest_face: sides of the box in pixels, see `skip_small_faces` and `skip_large_faces`.
    merge_duplicates: of detections that are one face, keep the best. Raises ValueError naming the input and the cure.
    """
    check_smallest_face(smallest_face)
    skip_large_faces((), largest_face)
    rgb_BHW3 = pictures.take_apart(images_BHWC).rgb_BHW3
    found = detect_in_batches(rgb_BHW3, detector, confidence, on_progress or no_progress)
    size = (rgb_BHW3.shape[1], rgb_BHW3.shape[2])
    kept, skipped = [], []
    for faces in found:
        chosen = choose_faces(faces, size, smallest_face=smallest_face, merge_duplicates=merge_duplicates)
        fitting = skip_large_faces(chosen.kept, largest_face)
        aligned = skip_unaligned(fitting.kept)
        kept.append(sorted(aligned.kept, key=lambda face: face.center_xy))
        skipped.append((*chosen.skipped, *fitting.skipped, *aligned.skipped))
    return FoundFaces(Faces.of(rgb_BHW3, kept), tuple(skipped), detector.name)


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
