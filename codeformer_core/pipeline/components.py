"""Where the components of faces lie, for a restorer that asks for them, and what placed them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..faces.batch import FaceBatch
from ..faces.components import FROM_68, ComponentBoxes, find_components
from ..faces.events import Event
from ..faces.landmarks import LandmarkDetector
from ..runtime.errors import InputError
from .align import AlignedFace, align_faces


def component_boxes(
    aligned: Sequence[AlignedFace], crops_N3SS: Tensor | None = None, landmark_detector: LandmarkDetector | None = None
) -> list[ComponentBoxes]:
    """The boxes of each face's components in pixels of its crop.

    aligned: the faces; their own 68 landmarks place the components, or the five where these are missing or have lost
    one.
    crops_N3SS: RGB [0, 1], the crops of these faces.
    landmark_detector: finds 68 landmarks in the crops of faces whose own do not place the components.
    """
    placed = [_from_own_landmarks(one) for one in aligned]
    if landmark_detector is None or crops_N3SS is None or all(one.source == FROM_68 for one in placed):
        return placed
    landmarks_N682 = landmark_detector.find(crops_N3SS * 2 - 1)
    return [
        own if own.source == FROM_68 else find_components(one.landmarks_in_crop(), landmarks_682)
        for own, one, landmarks_682 in zip(placed, aligned, landmarks_N682, strict=True)
    ]


def _from_own_landmarks(one: AlignedFace) -> ComponentBoxes:
    landmarks_682 = one.face.landmarks_68_array()
    if landmarks_682 is not None:
        # numpy warns of infinity times a matrix.
        landmarks_682 = one.to_crop(np.where(np.isfinite(landmarks_682), landmarks_682, np.nan))
    return find_components(one.landmarks_in_crop(), landmarks_682)


def aligned_crops(faces: FaceBatch, crops: int) -> tuple[AlignedFace, ...]:
    """The faces that `crop_faces` cut out; none where there was no face to cut out.

    crops: how many came.
    Raises ValueError unless there are as many crops as faces.
    """
    if faces.count not in (0, crops):
        raise InputError(
            f"{crops} crops came with {faces.count} faces. Give the faces of these crops, as cropping hands them out",
            "crops_of_other_faces",
        )
    aligned = align_faces(faces.per_image).aligned
    if len(aligned) != faces.count:
        raise InputError(
            "a face came with crops that can't be cropped. Give the faces of these crops, as cropping hands them out",
            "crops_of_other_faces",
        )
    return aligned


def stacked(boxes: Sequence[ComponentBoxes]) -> Tensor:
    """boxes_N44, int64."""
    return torch.from_numpy(np.stack([one.boxes_44 for one in boxes]))


def placed_by(boxes: Sequence[ComponentBoxes]) -> list[Event]:
    """By what the components of how many faces were placed."""
    by_68 = sum(one.source == FROM_68 for one in boxes)
    events = [
        Event("components_68", values={"count": by_68}),
        Event("components_5", values={"count": len(boxes) - by_68}),
    ]
    return [event for event in events if event.values["count"]]


def component_events(aligned: Sequence[AlignedFace], boxes: Sequence[ComponentBoxes], scale: float = 1) -> list[Event]:
    """What was wrong with the landmarks of which face.

    scale: pixels of a face -> those of its image.
    """
    return [
        replace(event, image=one.image, face=one.face if scale == 1 else one.face.scaled(scale))
        for one, placed in zip(aligned, boxes, strict=True)
        for event in placed.events
    ]
