"""Where the five landmarks and the box of each aligned face truly are, which is some pixels beside the template.

An alignment is a similarity from five noisy points, so the template is off by about 6 % of the eye distance. Averaged
over several looks of several detectors (see `look_again`) the points are better: on composites of 9 upright faces and
of 25 rotated ones the mean of YuNet and RetinaFace is off by 5 %, and each of them at its first look by 7 to 15 %.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from codeformer_core.faces.detection import FaceDetector
from codeformer_core.faces.geometry import CROP_SIZE, TEMPLATE_XY
from codeformer_core.faces.types import Face
from codeformer_core.imaging.files import read_image
from codeformer_core.runtime.atomic import write_whole
from codeformer_core.training.alignment.landmarks import look_again

# Left, top, right, bottom: the mean of YuNet's boxes on every twentieth face of the set this was made for.
FACE_BOX = (124.3, 94.7, 398.9, 475.2)
# There is a face, so even a doubtful one is it.
_CONFIDENCE = 0.3
# What lies farther from the template than this part of the eye distance, on average, is another face or none.
_FARTHEST = 0.35


# Numbers of a face in labels.csv: ten for the landmarks, four for the box.
_NUMBERS = 14
# Pixels are written with so many digits behind the point; labels are rounded before they are used, so that a run that
# reads them continues with what it began with.
_DIGITS = 2
_TEACHERS = "teachers"
_SAVE_EVERY = 200


@dataclass(frozen=True, eq=False)
class Labels:
    """landmarks_N52, boxes_N4 (left, top, right, bottom): in pixels of the 512 faces."""

    landmarks_N52: np.ndarray
    boxes_N4: np.ndarray


def find_labels(
    path: Path,
    folder: Path,
    names: Sequence[str],
    teachers: Mapping[str, FaceDetector],
    on_progress: Callable[[int, int], None],
) -> Labels:
    """The labels of the faces `names` in `folder`: those that `path` has, and new ones, which are written to it.

    What is known is also written when an error or Ctrl-C ends this early.

    teachers: by the names the user knows them by.
    Raises ValueError naming the file: a face that has another size or can't be read; labels of other teachers, or that
    can't be understood.
    """
    known = read_labels(path, list(teachers))
    missing = [name for name in names if name not in known]
    try:
        for number, name in enumerate(missing, start=1):
            known[name] = refined_label(folder / name, list(teachers.values()))
            on_progress(number, len(missing))
            if number % _SAVE_EVERY == 0:
                write_labels(path, list(teachers), known)
    finally:
        if missing:
            write_labels(path, list(teachers), known)
    rows_N14 = np.stack([known[name] for name in names])
    return Labels(rows_N14[:, :10].reshape(-1, 5, 2), rows_N14[:, 10:])


def refined_label(path: Path, teachers: Sequence[FaceDetector]) -> np.ndarray:
    """(14,): the mean of all teachers that see the face, landmarks and then box; the template and the usual box where
    none does.

    path: an aligned face of 512x512.
    """
    template = tuple((float(x), float(y)) for x, y in TEMPLATE_XY)
    assert len(template) == 5
    aligned = Face(FACE_BOX, template, 1.0)
    image_HWC = read_image(path, strict=True).image_HWC[..., :3]
    if image_HWC.shape[:2] != (CROP_SIZE, CROP_SIZE):
        raise ValueError(
            f"{path}: aligned faces are {CROP_SIZE}x{CROP_SIZE}, this is {image_HWC.shape[1]}x"
            f"{image_HWC.shape[0]}; `train align` makes them"
        )
    looks = [look_again(image_HWC, aligned, teacher) for teacher in teachers]
    # The face itself comes back from a teacher that sees none.
    points = [look.landmarks_array() for look in looks if look is not aligned]
    mean_52 = np.mean(points, axis=0) if points else TEMPLATE_XY
    if float(np.linalg.norm(mean_52 - TEMPLATE_XY, axis=1).mean()) > _FARTHEST * aligned.eye_distance:
        mean_52 = TEMPLATE_XY
    boxes = [box for teacher in teachers if (box := _box(image_HWC, aligned, teacher)) is not None]
    box_4 = np.mean(boxes, axis=0) if boxes else np.array(FACE_BOX)
    return np.concatenate((mean_52.reshape(10), box_4)).round(_DIGITS)


def _box(image_HWC: Tensor, aligned: Face, teacher: FaceDetector) -> np.ndarray | None:
    """Of the face whose landmarks lie nearest to the template; as for `look_again` none that is another face."""
    faces = teacher.detect(image_HWC[None], _CONFIDENCE)[0]
    template_52 = aligned.landmarks_array()
    away = [float(np.linalg.norm(face.landmarks_array() - template_52, axis=1).mean()) for face in faces]
    if not away or min(away) > _FARTHEST * aligned.eye_distance:
        return None
    return np.array(faces[int(np.argmin(away))].box_xyxy)


def write_labels(path: Path, teachers: Sequence[str], rows: Mapping[str, np.ndarray]) -> None:
    """A line with the teachers' names, and one for each face: its file's name and its numbers. Raises OSError."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([_TEACHERS, *teachers])
    writer.writerows([name, *(f"{value:.{_DIGITS}f}" for value in row_14)] for name, row_14 in rows.items())
    write_whole(path, text.getvalue().encode("utf-8", "surrogateescape"))


def read_labels(path: Path, teachers: Sequence[str]) -> dict[str, np.ndarray]:
    """Rows of numbers by file name; none when there is no such file.

    Raises ValueError naming the file, and the line when it can't be understood, or the teachers when they are others.
    """
    if not path.is_file():
        return {}
    found: dict[str, np.ndarray] = {}
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        rows = csv.reader(file)
        first = next(rows, [])
        if first != [_TEACHERS, *teachers]:
            raise ValueError(
                f"{path} begins with {','.join(first)!r}, for these teachers it would be "
                f"{','.join([_TEACHERS, *teachers])!r}; name the same (--teacher), or delete it"
            )
        for number, row in enumerate(rows, start=2):
            try:
                found[row[0]] = np.array([float(value) for value in row[1:]]).reshape(_NUMBERS)
            except (ValueError, IndexError) as error:
                raise ValueError(f"{path}: line {number} is not a name with 14 numbers ({error}); delete it") from error
    return found
