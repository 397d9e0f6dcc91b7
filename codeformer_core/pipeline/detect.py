"""Finding faces without restoring them.

Shape legend: B images, H W their height and width, C channels (1 to 4).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..faces.batch import FaceBatch
from ..faces.detection import FaceDetector
from ..faces.events import Event, SkippedFace
from ..faces.mesh import faces_of_mesh
from ..faces.order import reading_order
from ..faces.selection import (
    Selection,
    check_min_face_size,
    choose_faces,
    skip_large_faces,
)
from ..faces.types import Face
from ..imaging import tensors as imaging
from ..runtime.progress import FINDING, OnProgress, no_progress
from .align import align_faces
from .results import counts, skip_events

# Images handed to the detector together; between two such batches progress is reported and cancelling works.
IMAGES_AT_ONCE = 4


@dataclass(frozen=True, eq=False)
class DetectionResult:
    """The faces of a batch of images.

    faces: what was found, numbered in each image in reading order.
    skipped: what is left out, per image, with the reason.
    events: of each image how many were found, why others are left out, and what found them.
    """

    faces: FaceBatch
    skipped: tuple[tuple[SkippedFace, ...], ...]
    events: tuple[Event, ...]


@torch.no_grad()
def find_faces(
    images_BHWC: Tensor,
    *,
    detector: FaceDetector,
    confidence: float | None = None,
    min_face_size: float = 0.0,
    max_face_size: float = math.inf,
    merge_duplicates: bool = True,
    on_progress: OnProgress | None = None,
) -> DetectionResult:
    """The faces of images that can be aligned, in reading order.

    images_BHWC: floats in [0, 1], gray, RGB or RGBA.
    confidence: detections that score below are not faces, 0 to 1; the detector's default if None.
    min_face_size, max_face_size: sides of the box in pixels, see `skip_small_faces` and `skip_large_faces`.
    merge_duplicates: of detections that are one face, keep the best.
    on_progress: called with (stage, done, total) between batches; may raise to cancel.
    Raises ValueError naming the input and the fix.
    """
    check_min_face_size(min_face_size)
    skip_large_faces((), max_face_size)
    rgb_BHW3 = imaging.split_alpha(images_BHWC).rgb_BHW3
    found = detect_in_batches(rgb_BHW3, detector, confidence, on_progress or no_progress)
    size_hw = (rgb_BHW3.shape[1], rgb_BHW3.shape[2])
    chosen = [_choose(faces, size_hw, min_face_size, max_face_size, merge_duplicates) for faces in found]
    return _result(rgb_BHW3, chosen, Event("detector", values={"detector": detector.name}))


def faces_from_landmarks(images_BHWC: Tensor, landmarks: Any) -> DetectionResult:
    """The faces of a face mesh (see `faces.mesh`) that can be aligned, in reading order.

    images_BHWC: the images in which the mesh was found, floats in [0, 1].
    landmarks: the host's face landmarks of these images.
    Raises ValueError naming the input and the fix.
    """
    rgb_BHW3 = imaging.split_alpha(images_BHWC).rgb_BHW3
    count, height, width = rgb_BHW3.shape[:3]
    chosen = [
        _choose(faces, (height, width), min_face_size=0.0, max_face_size=math.inf, merge=False)
        for faces in faces_of_mesh(landmarks, count, (height, width))
    ]
    return _result(rgb_BHW3, chosen, Event("from_mesh"))


def _result(rgb_BHW3: Tensor, chosen: Sequence[Selection], source: Event) -> DetectionResult:
    skipped = tuple(one.skipped for one in chosen)
    found = [counts(image, found=len(one.kept) + len(one.skipped)) for image, one in enumerate(chosen)]
    faces = FaceBatch.of(rgb_BHW3, [one.kept for one in chosen])
    return DetectionResult(faces, skipped, (*found, *skip_events(skipped), source))


def detect_in_batches(
    rgb_BHW3: Tensor, detector: FaceDetector, confidence: float | None, report: OnProgress
) -> list[list[Face]]:
    """All detections, one list per image; progress is reported, and may cancel, between batches."""
    batch = len(rgb_BHW3)
    found: list[list[Face]] = []
    for start in range(0, batch, IMAGES_AT_ONCE):
        report(FINDING, start, batch)
        found += detector.detect(rgb_BHW3[start : start + IMAGES_AT_ONCE], confidence)
    report(FINDING, batch, batch)
    return found


def _choose(
    faces: Sequence[Face], image_size_hw: tuple[int, int], min_face_size: float, max_face_size: float, merge: bool
) -> Selection:
    """The faces of one image that are wanted and can be aligned, in reading order; the others with the reason."""
    chosen = choose_faces(
        faces, image_size_hw, min_face_size=min_face_size, max_face_size=max_face_size, merge_duplicates=merge
    )
    batch = align_faces([chosen.kept])
    in_order = reading_order([one.face for one in batch.aligned])
    return Selection(tuple(in_order), (*chosen.skipped, *batch.skipped[0]))
