"""Means of an evaluation for groups of people: by skin tone, or as a CSV file lists them."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import torch

from ...metrics.skin_tone import skin_tone
from ..data.files import FaceSource
from .faces import clean_batches, spread, to_unit
from .results import Column, Evaluation, PeopleMeans, means_of

# Fewer faces tell more about themselves than about their group.
LEAST_FACES = 20
# A group whose mean is worse than that of all faces by more than this share is named.
MUCH_WORSE = 0.1
_COLUMNS = ("face", "group")


def by_skin_tone(faces: FaceSource, count: int | None = None) -> dict[str, tuple[str, ...]]:
    """Face -> the tone of its skin; gray faces are left out.

    count: so many faces, evenly spread; None: all.
    """
    groups: dict[str, tuple[str, ...]] = {}
    for batch in clean_batches(faces, spread(count, len(faces)), 16):
        for name, face_HW3 in zip(batch.names, batch.faces_BHW3, strict=True):
            tone = skin_tone(to_unit(face_HW3[None], torch.device("cpu"))[0])
            if tone is not None:
                groups[name] = (tone,)
    return groups


def read_groups(path: str | os.PathLike[str]) -> dict[str, tuple[str, ...]]:
    """Face -> its groups, from a CSV file with the columns face and group; a face may have several rows.

    Raises ValueError that names the file and what it lacks.
    """
    groups: dict[str, tuple[str, ...]] = {}
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as stream:
            rows = csv.DictReader(stream)
            if missing := [name for name in _COLUMNS if name not in (rows.fieldnames or ())]:
                raise ValueError(f"{path}: has no column {missing[0]}; it needs face (the file's name) and group")
            for row in rows:
                face, group = (str(row[name] or "").strip() for name in _COLUMNS)
                if not face or not group:
                    raise ValueError(f"{path}: line {rows.line_num} names no {'group' if face else 'face'}; add it")
                groups[face] = (*groups.get(face, ()), group)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: can't be read as CSV ({error})") from error
    return groups


def means_of_people(
    evaluation: Evaluation, groups: Mapping[str, Iterable[str]], least: int = LEAST_FACES
) -> tuple[PeopleMeans, ...]:
    """The means of every group that has enough faces, in the order of their names.

    groups: face -> its groups. Faces are found by their names with or without the ending and the folder.
    least: faces.
    """
    of_face = {_stem(face): frozenset(names) for face, names in groups.items()}
    found: list[PeopleMeans] = []
    for name in sorted({name for names in of_face.values() for name in names}):
        rows = [row for row in evaluation.rows if name in of_face.get(_stem(row.face), ())]
        faces = len({row.face for row in rows})
        if faces >= least:
            found.append(PeopleMeans(name, faces, means_of(rows, {})))
    return tuple(found)


def much_worse(evaluation: Evaluation) -> Iterator[str]:
    """A line for each value of a group that is worse than that of all faces by more than a tenth."""
    of_all = {mean.group: mean for mean in evaluation.means}
    for people in evaluation.people:
        for mean in people.means:
            for column in evaluation.columns:
                if column.per_set or column.better == "neither":
                    continue
                value, usual = mean.values[column.name], of_all[mean.group].values[column.name]
                share = _worse_by(value, usual, column)
                if share > MUCH_WORSE:
                    where = " ".join(word for word in (mean.group.degradation, mean.group.label) if word)
                    yield f"{people.name}: {where}: {column.name} {value:.4g}, {share:.0%} worse than {usual:.4g}"


def _worse_by(value: float, usual: float, column: Column) -> float:
    if not (math.isfinite(value) and math.isfinite(usual)) or usual == 0:
        return 0.0
    return (value - usual if column.better == "lower" else usual - value) / abs(usual)


def _stem(face: str) -> str:
    return Path(face).stem
