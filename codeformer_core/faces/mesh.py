"""Faces from a face mesh: the landmarks that ComfyUI hands on as FACE_LANDMARKS.

The payload is a dict: "frames" holds per image a list of faces, dicts with "landmarks_xy" (468 or 478 points of
MediaPipe's mesh, pixels) and "score"; "image_size" is (height, width).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeGuard, cast

import numpy as np

from ..runtime.errors import InputError
from ..runtime.foreign import is_mapping, is_sequence
from .mesh_topology import (
    LEFT_EYE,
    LEFT_MOUTH_CORNER,
    MESH_POINTS,
    NOSE_TIP,
    POINTS_OF_68,
    RIGHT_EYE,
    RIGHT_MOUTH_CORNER,
)
from .types import Face, Point

# With and without the ten points of the irises.
POINTS = (MESH_POINTS, 478)

FIX = "Give the landmarks that MediaPipe found in the same images"


def faces_of_mesh(payload: Any, count: int, image_size_hw: tuple[int, int]) -> list[list[Face]]:
    """The faces of `count` images of this size, one list per image, in the order of the payload.

    A face's box is the extent of its mesh, from the forehead to the chin; it has the usual 68 landmarks, too.

    payload: FACE_LANDMARKS, see the module.
    count: number of images.
    image_size_hw: their height and width in pixels.
    Raises ValueError for a payload of another shape, with values that are not numbers, or for other images.
    """
    frames, size = _parts(payload)
    if len(frames) != count:
        raise _refusal(f"the landmarks belong to {len(frames)} images, but {count} came with them")
    if size != image_size_hw:
        raise _refusal(
            f"the landmarks were found in images of {size[1]}x{size[0]} pixels, but these have "
            f"{image_size_hw[1]}x{image_size_hw[0]}"
        )
    return [
        [_face(entry, f"image {index + 1}, face {number}") for number, entry in enumerate(frame, 1)]
        for index, frame in enumerate(frames)
    ]


def _refusal(problem: str) -> InputError:
    return InputError(f"{problem}. {FIX}", "no_face_mesh")


def _parts(payload: object) -> tuple[list[Sequence[object]], tuple[int, int]]:
    if not is_mapping(payload) or "frames" not in payload or "image_size" not in payload:
        found = ", ".join(map(str, payload)) if is_mapping(payload) else type(payload).__name__
        raise _refusal(f"face landmarks must be a dict with frames and image_size, got {found or 'an empty one'}")
    frames, size = payload["frames"], cast(Any, payload["image_size"])
    if not is_sequence(frames) or len(faces := [frame for frame in frames if is_sequence(frame)]) < len(frames):
        raise _refusal("face landmarks: frames must be a list of faces for each image")
    try:
        height, width = (int(side) for side in size)
    except (TypeError, ValueError, OverflowError) as error:
        raise _refusal(f"face landmarks: image_size must be (height, width), got {size!r}") from error
    return faces, (height, width)


def _face(entry: object, place: str) -> Face:
    if not is_mapping(entry) or "landmarks_xy" not in entry:
        raise _refusal(f"face landmarks: {place} has no landmarks_xy")
    points_N2 = _points(entry["landmarks_xy"], place)
    score = entry.get("score", 1.0)
    if not _is_number(score) or not 0 <= score <= 1:
        raise _refusal(f"face landmarks: {place} has the score {score}; it must be from 0 to 1")
    (left, top), (right, bottom) = points_N2[:MESH_POINTS].min(0).tolist(), points_N2[:MESH_POINTS].max(0).tolist()
    landmarks = (
        _point(points_N2[list(LEFT_EYE)].mean(0)),
        _point(points_N2[list(RIGHT_EYE)].mean(0)),
        _point(points_N2[NOSE_TIP]),
        _point(points_N2[LEFT_MOUTH_CORNER]),
        _point(points_N2[RIGHT_MOUTH_CORNER]),
    )
    landmarks_68 = tuple(_point(point_2) for point_2 in points_N2[list(POINTS_OF_68)])
    return Face((left, top, right, bottom), landmarks, float(score), landmarks_68)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, float | int | np.number)


def _points(landmarks: Any, place: str) -> np.ndarray:
    try:
        points_N2 = np.asarray(landmarks, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise _refusal(f"face landmarks: the points of {place} are not numbers") from error
    if points_N2.ndim != 2 or points_N2.shape[0] not in POINTS or points_N2.shape[1] != 2:
        raise _refusal(f"face landmarks: {place} must have 468 or 478 points (x, y), got the shape {points_N2.shape}")
    bad = int((~np.isfinite(points_N2)).sum())
    if bad:
        raise _refusal(f"face landmarks: {place} holds {bad} numbers that are NaN or infinite")
    return points_N2


def _point(point_2: np.ndarray) -> Point:
    return float(point_2[0]), float(point_2[1])
