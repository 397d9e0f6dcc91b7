"""Where the five landmarks and the box of each aligned face truly are, which is some pixels beside the template.

An alignment is a similarity from five noisy points, so the template is off by about 6 % of the eye distance. Averaged
over several looks of several detectors (see `look_again`) the points are better: on composites of 9 upright faces and
of 25 rotated ones the mean of YuNet and RetinaFace is off by 5 %, and each of them at its first look by 7 to 15 %.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from ...atomic import write_whole
from ...faces.detection import FaceDetector
from ...faces.geometry import CROP_SIZE, TEMPLATE_XY
from ...faces.types import Face
from ...files import read_picture
from ..alignment.landmarks import look_again

# Left, top, right, bottom: the mean of YuNet's boxes on every twentieth face of the set this was made for.
FACE_BOX = (124.3, 94.7, 398.9, 475.2)
# There is a face, so even a doubtful one is it.
_CONFIDENCE = 0.3
# What lies farther from the template than this part of the eye distance, on average, is another face or none.
_FARTHEST = 0.35


@dataclass(frozen=True, eq=False)
class Labels:
    """landmarks_N52, boxes_N4 (left, top, right, bottom): in pixels of the 512 faces."""

    landmarks_N52: np.ndarray
    boxes_N4: np.ndarray


def refined_labels(
    paths: Sequence[Path], teachers: Sequence[FaceDetector], on_progress: Callable[[int, int], None]
) -> Labels:
    """The mean of all teachers; the template and the usual box where they see no face.

    paths: aligned faces of 512x512. Raises ValueError naming a file that has another size or can't be read.
    """
    template = tuple((float(x), float(y)) for x, y in TEMPLATE_XY)
    assert len(template) == 5
    aligned = Face(FACE_BOX, template, 1.0)
    farthest = _FARTHEST * aligned.eye_distance
    landmarks_N52 = np.empty((len(paths), 5, 2))
    boxes_N4 = np.empty((len(paths), 4))
    for number, path in enumerate(paths):
        image_HWC = read_picture(path).image_HWC[..., :3]
        if image_HWC.shape[:2] != (CROP_SIZE, CROP_SIZE):
            raise ValueError(
                f"{path}: aligned faces are {CROP_SIZE}x{CROP_SIZE}, this is {image_HWC.shape[1]}x"
                f"{image_HWC.shape[0]}; `train align` makes them"
            )
        looks = [look_again(image_HWC, aligned, teacher).landmarks_array() for teacher in teachers]
        mean_52 = np.mean(looks, axis=0) if looks else TEMPLATE_XY
        is_near = float(np.linalg.norm(mean_52 - TEMPLATE_XY, axis=1).mean()) <= farthest
        landmarks_N52[number] = mean_52 if is_near else TEMPLATE_XY
        boxes = [box for teacher in teachers if (box := _box(image_HWC, aligned, teacher)) is not None]
        boxes_N4[number] = np.mean(boxes, axis=0) if boxes else FACE_BOX
        on_progress(number + 1, len(paths))
    return Labels(landmarks_N52, boxes_N4)


def _box(image_HWC: Tensor, aligned: Face, teacher: FaceDetector) -> np.ndarray | None:
    """Of the face whose landmarks lie nearest to the template; as for `look_again` none that is another face."""
    faces = teacher.detect(image_HWC[None], _CONFIDENCE)[0]
    template_52 = aligned.landmarks_array()
    away = [float(np.linalg.norm(face.landmarks_array() - template_52, axis=1).mean()) for face in faces]
    if not away or min(away) > _FARTHEST * aligned.eye_distance:
        return None
    return np.array(faces[int(np.argmin(away))].box_xyxy)


def write_labels(path: Path, names: Sequence[str], labels: Labels) -> None:
    """One line for each face: its file's name, ten numbers for the landmarks, four for the box. Raises OSError."""
    rows_N14 = np.concatenate((labels.landmarks_N52.reshape(-1, 10), labels.boxes_N4), axis=1)
    lines = [
        ",".join([name, *(f"{value:.2f}" for value in row_14)]) for name, row_14 in zip(names, rows_N14, strict=True)
    ]
    write_whole(path, ("\n".join(lines) + "\n").encode("utf-8"))


def read_labels(path: Path, names: Sequence[str]) -> Labels | None:
    """The labels of exactly these faces; None when there is no such file or it is about other faces.

    Raises ValueError naming the file and the line when it can't be understood.
    """
    if not path.is_file():
        return None
    found: dict[str, np.ndarray] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.reader(file), start=1):
            try:
                found[row[0]] = np.array([float(value) for value in row[1:]]).reshape(14)
            except (ValueError, IndexError) as error:
                raise ValueError(f"{path}: line {number} is no name with 14 numbers ({error}); delete it") from error
    if found.keys() != set(names):
        return None
    rows_N14 = np.stack([found[name] for name in names])
    return Labels(rows_N14[:, :10].reshape(-1, 5, 2), rows_N14[:, 10:])
