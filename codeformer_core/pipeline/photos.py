"""What editing the faces of whole pictures has in common: where the faces come from, and what comes out.

Shape legend: B pictures, H W their height and width, C channels (1 to 4).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..faces.batch import FaceBatch, check_same_images
from ..faces.detection import FaceDetector
from ..runtime.progress import OnProgress
from .detect import find_faces
from .results import face_count


@dataclass(frozen=True, eq=False)
class EditedPhotos:
    """images_BHWC: float32 [0, 1], as many as came in and of their size, alpha kept.

    masks_BHW: how much of a new face shows, 0..1. faces: those that were worked on. lines: what was found and done.
    """

    images_BHWC: Tensor
    masks_BHW: Tensor
    faces: FaceBatch
    lines: tuple[str, ...]

    def summary(self) -> str:
        return "\n".join(self.lines)


def faces_and_lines(
    images_BHWC: Tensor,
    face_source: FaceDetector | FaceBatch,
    confidence: float | None,
    min_face_size: float,
    report: OnProgress,
) -> tuple[FaceBatch, list[str]]:
    """The faces that a detector finds, or those that were given, and what a report says of them."""
    if isinstance(face_source, FaceBatch):
        check_same_images(face_source, images_BHWC)
        counts = enumerate(map(len, face_source.per_image), 1)
        return face_source, [f"picture {number}: {face_count(count)} given" for number, count in counts]
    found = find_faces(
        images_BHWC, detector=face_source, confidence=confidence, min_face_size=min_face_size, on_progress=report
    )
    return found.faces, found.summary().splitlines()
