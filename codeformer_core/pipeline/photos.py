"""What editing the faces of whole pictures has in common: where the faces come from, and what comes out.

Shape legend: B pictures, H W their height and width, C channels (1 to 4).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..faces.batch import FaceBatch, check_same_images
from ..faces.detection import FaceDetector
from ..faces.events import Event
from ..runtime.progress import OnProgress
from .detect import find_faces
from .results import counts


@dataclass(frozen=True, eq=False)
class EditedPhotos:
    """images_BHWC: float32 [0, 1], as many as came in and of their size, alpha kept.

    masks_BHW: how much of a new face shows, 0..1. faces: those that were worked on. events: what was found and done.
    """

    images_BHWC: Tensor
    masks_BHW: Tensor
    faces: FaceBatch
    events: tuple[Event, ...]


def find_or_take(
    images_BHWC: Tensor,
    face_source: FaceDetector | FaceBatch,
    confidence: float | None,
    min_face_size: float,
    report: OnProgress,
) -> tuple[FaceBatch, list[Event]]:
    """The faces that a detector finds, or those that were given, and what there is to know of them."""
    if isinstance(face_source, FaceBatch):
        check_same_images(face_source, images_BHWC)
        return face_source, [counts(image, given=len(given)) for image, given in enumerate(face_source.per_image)]
    found = find_faces(
        images_BHWC, detector=face_source, confidence=confidence, min_face_size=min_face_size, on_progress=report
    )
    return found.faces, list(found.events)
