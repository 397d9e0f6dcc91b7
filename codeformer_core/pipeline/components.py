"""Where the components of faces lie, for a restorer that asks for them, and how a report tells what placed them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..faces.batch import FaceBatch
from ..faces.components import FROM_68, ComponentBoxes, find_components
from ..faces.landmarks import LandmarkDetector
from .align import AlignedFace, align_faces
from .results import face_count


def component_boxes(
    aligned: Sequence[AlignedFace], crops_N3SS: Tensor | None = None, landmark_detector: LandmarkDetector | None = None
) -> list[ComponentBoxes]:
    """The boxes of each face's components in pixels of its crop.

    aligned: the faces; their own 68 landmarks place the components, or the five where these are missing or have lost
    one.
    crops_N3SS: RGB [0, 1], the crops of these faces. aligner: looks for 68 landmarks in the crops of faces whose own
    do not place them.
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

    crops: how many came. Raises ValueError unless there are as many crops as faces.
    """
    if faces.count not in (0, crops):
        raise ValueError(
            f"{crops} crops came with {face_count(faces.count)}. "
            "Cure: connect the FACES of the Crop Faces node that made the crops"
        )
    aligned = align_faces(faces.per_image).aligned
    if len(aligned) != faces.count:
        raise ValueError("a face came with crops that can't be cropped. Cure: connect the FACES of Crop Faces")
    return aligned


def stacked(boxes: Sequence[ComponentBoxes]) -> Tensor:
    """-> boxes_N44, int64."""
    return torch.from_numpy(np.stack([one.boxes_44 for one in boxes]))


def placed_by(boxes: Sequence[ComponentBoxes]) -> str:
    """For reports: "parts placed by 68 landmarks", both kinds with their numbers of faces, "" for no face."""
    counts = Counter(one.source for one in boxes).most_common()
    if len(counts) < 2:
        return "".join(f"parts placed by {source}" for source, _ in counts)
    return "parts placed by " + " and ".join(f"{source} ({face_count(count)})" for source, count in counts)


def component_remarks(aligned: Sequence[AlignedFace], boxes: Sequence[ComponentBoxes], scale: float = 1) -> list[str]:
    """A line for each face whose landmarks had something wrong with them. scale: pixels of a face -> those told."""
    return [
        f"picture {one.image + 1}, face at ({x * scale:.0f}, {y * scale:.0f}): {placed.remark}"
        for one, placed in zip(aligned, boxes, strict=True)
        if placed.remark
        for x, y in [one.face.center_xy]
    ]
