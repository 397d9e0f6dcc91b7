"""Which of the detected faces are worked on, and why the others are not. Pure functions of `Face` values."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .choices import FaceSelection
from .events import SkipKind, SkippedFace
from .geometry import box_iou, boxes_of
from .types import Face

# Pixels; the official limit. Below it the alignment is guesswork.
MIN_EYE_DISTANCE = 5.0
DUPLICATE_IOU = 0.6
# Mean landmark distance, as a part of the larger eye distance, up to which two faces are one.
DUPLICATE_LANDMARK_SHIFT = 0.1


@dataclass(frozen=True)
class Selection:
    """The decision of a filter: both parts in the order of the faces."""

    kept: tuple[Face, ...]
    skipped: tuple[SkippedFace, ...]


FaceFilter = Callable[[Sequence[Face]], Selection]


def choose_faces(
    faces: Sequence[Face],
    image_size_hw: tuple[int, int],
    *,
    which: FaceSelection = "all",
    min_face_size: float = 0.0,
    max_face_size: float = math.inf,
    merge_duplicates: bool = True,
) -> Selection:
    """All filters one after the other: numbers, eye distance, size, duplicates, last which faces are wanted.

    image_size_hw: height and width in pixels.
    which: among what the other filters keep.
    min_face_size: pixels of the box's shorter side; 0 keeps all.
    max_face_size: pixels of the box's longer side.
    merge_duplicates: keep only the best of faces that overlap.
    Raises ValueError as the single filters do.
    """
    filters: list[FaceFilter] = [
        skip_not_finite,
        skip_near_eyes,
        lambda rest: skip_small_faces(rest, min_face_size),
        lambda rest: skip_large_faces(rest, max_face_size),
    ]
    if merge_duplicates:
        filters.append(skip_duplicates)
    filters.append(lambda rest: select_faces(rest, which, image_size_hw))
    return apply_filters(faces, filters)


def apply_filters(faces: Sequence[Face], filters: Sequence[FaceFilter]) -> Selection:
    """Each filter sees what the one before it kept."""
    kept: tuple[Face, ...] = tuple(faces)
    skipped: list[SkippedFace] = []
    for filter_faces in filters:
        decided = filter_faces(kept)
        kept = decided.kept
        skipped.extend(decided.skipped)
    return Selection(kept, tuple(skipped))


def check_min_face_size(min_face_size: float) -> None:
    """Raise ValueError when it is negative or not a number."""
    if not min_face_size >= 0:
        raise ValueError(f"smallest face must be 0 or more pixels, got {min_face_size}. Use 0 to keep every face")


def select_faces(faces: Sequence[Face], which: FaceSelection, image_size_hw: tuple[int, int]) -> Selection:
    """All faces, the one with the largest box inside the image, or the one nearest to the image's centre (by its box's
    centre). Of equals the first one wins.
    """
    if which == "all" or len(faces) < 2:
        return Selection(tuple(faces), ())
    if which == "largest":
        best = max(range(len(faces)), key=lambda index: area_inside(faces[index], image_size_hw))
        kind: SkipKind = "not_largest"
    else:
        middle = (image_size_hw[1] / 2, image_size_hw[0] / 2)
        best = min(range(len(faces)), key=lambda index: math.dist(faces[index].center_xy, middle))
        kind = "not_center"
    others = (face for index, face in enumerate(faces) if index != best)
    return Selection((faces[best],), tuple(SkippedFace(face, kind) for face in others))


def skip_not_finite(faces: Sequence[Face]) -> Selection:
    """Skips faces with numbers that are NaN or infinite: compared with other faces, they would make these skipped as
    well.
    """

    def judged(face: Face) -> SkippedFace | None:
        numbers = (*face.box_xyxy, face.score, *(value for point in face.landmarks_xy for value in point))
        return None if all(map(math.isfinite, numbers)) else SkippedFace(face, "not_finite")

    return skip_faces(faces, judged)


def skip_small_faces(faces: Sequence[Face], min_face_size: float) -> Selection:
    """Skips faces whose box's shorter side is below `min_face_size` image pixels; 0 keeps all.

    Raises ValueError when it is negative or not a number.
    """
    check_min_face_size(min_face_size)

    def judged(face: Face) -> SkippedFace | None:
        size = min(face.width, face.height)
        return SkippedFace(face, "too_small", {"size": size, "limit": min_face_size}) if size < min_face_size else None

    return skip_faces(faces, judged)


def skip_large_faces(faces: Sequence[Face], max_face_size: float) -> Selection:
    """Skips faces whose box's longer side is above `max_face_size` image pixels.

    Raises ValueError unless it is above 0.
    """
    if not max_face_size > 0:
        raise ValueError(f"largest face must be above 0 pixels, got {max_face_size}. Leave it out to keep every face")

    def judged(face: Face) -> SkippedFace | None:
        size = max(face.width, face.height)
        return SkippedFace(face, "too_large", {"size": size, "limit": max_face_size}) if size > max_face_size else None

    return skip_faces(faces, judged)


def skip_near_eyes(faces: Sequence[Face], min_distance: float = MIN_EYE_DISTANCE) -> Selection:
    """Skips faces whose eyes are less than `min_distance` image pixels apart."""
    return skip_faces(faces, lambda face: eyes_judged(face, face.eye_distance, min_distance))


def skip_duplicates(faces: Sequence[Face], iou: float = DUPLICATE_IOU) -> Selection:
    """Of faces that overlap by more than `iou` or whose landmarks nearly coincide, keeps the best score.

    The kept faces stay in their order.
    """
    by_score = sorted(range(len(faces)), key=lambda index: (-faces[index].score, index))
    boxes_N4 = boxes_of(faces)
    kept: list[int] = []
    for index in by_score:
        overlaps = bool((box_iou(boxes_N4[index], boxes_N4[kept]) > iou).any())
        if not overlaps and not any(_landmarks_coincide(faces[index], faces[other]) for other in kept):
            kept.append(index)
    chosen = set(kept)
    return Selection(
        tuple(face for index, face in enumerate(faces) if index in chosen),
        tuple(SkippedFace(face, "duplicate") for index, face in enumerate(faces) if index not in chosen),
    )


def area_inside(face: Face, image_size_hw: tuple[int, int]) -> float:
    """Square pixels of the face's box that lie inside the image."""
    height, width = image_size_hw
    left, top, right, bottom = face.box_xyxy
    return max(0.0, min(right, width) - max(left, 0.0)) * max(0.0, min(bottom, height) - max(top, 0.0))


def skip_faces(faces: Sequence[Face], judge: Callable[[Face], SkippedFace | None]) -> Selection:
    judged = [(face, judge(face)) for face in faces]
    return Selection(
        tuple(face for face, skipped in judged if skipped is None),
        tuple(skipped for _, skipped in judged if skipped is not None),
    )


def eyes_judged(face: Face, distance: float, smallest: float) -> SkippedFace | None:
    """distance: between the face's eyes, in pixels."""
    return SkippedFace(face, "eyes_close", {"distance": distance, "limit": smallest}) if distance < smallest else None


def _landmarks_coincide(first: Face, second: Face) -> bool:
    shift = sum(map(math.dist, first.landmarks_xy, second.landmarks_xy)) / 5
    return shift <= DUPLICATE_LANDMARK_SHIFT * max(first.eye_distance, second.eye_distance)
