"""What an evaluation found, as values: a row per face, means per group of rows, images to look at.

Shape legend: H W height and width, 3 colours RGB.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...metrics.kinds import Better, Skipped
from .choose import Metrics

# What was done to the face that a row is about; baselines have names of their own, see `classical`.
DEGRADED, RESTORED = "degraded", "restored"
# The column that says how far the degraded face was left behind: mean absolute difference of all values, of 255.
TO_INPUT = "L1 to input"


@dataclass(frozen=True)
class Group:
    """One line of the summary.

    degradation: "" where the faces came degraded.
    fidelity: None where there is none.
    """

    degradation: str
    method: str
    fidelity: float | None

    @property
    def label(self) -> str:
        return self.method if self.fidelity is None else f"{self.method}, w = {self.fidelity:g}"


@dataclass(frozen=True)
class Row:
    """The values of one face.

    values: metric -> value, NaN where this face has none.
    """

    face: str
    group: Group
    values: Mapping[str, float]


@dataclass(frozen=True)
class Column:
    """A metric of the table."""

    name: str
    better: Better
    per_set: bool


@dataclass(frozen=True)
class Mean:
    """A group's values, over `faces` faces.

    counts: how many of them the mean of that metric is over.
    """

    group: Group
    faces: int
    values: Mapping[str, float]
    counts: Mapping[str, int]


@dataclass(frozen=True)
class PeopleMeans:
    """The same for a part of the faces: those of a group of people."""

    name: str
    faces: int
    means: tuple[Mean, ...]


@dataclass(frozen=True)
class CodeAccuracy:
    """Share of the teacher's codes of the clean faces, 0..1, that are found in the degraded ones.

    predicted: by the network.
    nearest: the codes nearest to its encoder's output.
    """

    degradation: str
    predicted: float
    nearest: float


@dataclass(frozen=True, eq=False)
class Sample:
    """One face's images, uint8 (H, W, 3), each with its label."""

    face: str
    degradation: str
    images: tuple[tuple[str, np.ndarray], ...]


@dataclass(frozen=True)
class Evaluation:
    """Everything a report is made of.

    left_out: faces that couldn't be read, with the reason.
    people: means of groups of people, where groups are known, see `people`.
    """

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    means: tuple[Mean, ...]
    accuracies: tuple[CodeAccuracy, ...]
    samples: tuple[Sample, ...]
    skipped: tuple[Skipped, ...]
    left_out: tuple[str, ...]
    people: tuple[PeopleMeans, ...] = ()


def columns_of(metrics: Metrics, *, to_input: bool) -> tuple[Column, ...]:
    """A derived metric follows its source.

    to_input: whether the degraded faces are known, so that rows have a value of TO_INPUT.
    """
    columns: list[Column] = []
    for metric in metrics.per_face:
        columns.append(Column(metric.name, metric.better, False))
        columns += [Column(one.name, one.better, False) for one in metrics.derived if one.source == metric.name]
    if to_input:
        columns.append(Column(TO_INPUT, "neither", False))
    return (*columns, *(Column(metric.name, metric.better, True) for metric in metrics.per_set))


def means_of(rows: Sequence[Row], of_sets: Mapping[Group, Mapping[str, float]]) -> tuple[Mean, ...]:
    """Per group, in the order in which the groups first appear, over the values that are finite.

    A group without finite values has the mean of those that aren't NaN: the PSNR of faces nothing was done to is
    infinite. A single such face among others is left out of their mean, as the count then says.
    """
    grouped: dict[Group, list[Row]] = {}
    for row in rows:
        grouped.setdefault(row.group, []).append(row)
    return tuple(_mean(group, members, of_sets.get(group, {})) for group, members in grouped.items())


def _mean(group: Group, rows: Sequence[Row], of_set: Mapping[str, float]) -> Mean:
    values: dict[str, float] = {}
    counts: dict[str, int] = {}
    for name in rows[0].values:
        known = [row.values[name] for row in rows if not math.isnan(row.values[name])]
        known = [value for value in known if math.isfinite(value)] or known
        values[name] = math.fsum(known) / len(known) if known else math.nan
        counts[name] = len(known)
    for name, value in of_set.items():
        values[name], counts[name] = value, len(rows)
    return Mean(group, len(rows), values, counts)


def best_of(means: Sequence[Mean], column: Column) -> set[Group]:
    """The groups whose value is the best of its degradation; none where there is nothing to choose from."""
    best: set[Group] = set()
    if column.better == "neither":
        return best
    for degradation in dict.fromkeys(mean.group.degradation for mean in means):
        known = {
            mean.group: mean.values[column.name]
            for mean in means
            if mean.group.degradation == degradation and not math.isnan(mean.values.get(column.name, math.nan))
        }
        if len(known) > 1:
            top = (max if column.better == "higher" else min)(known.values())
            best.update(group for group, value in known.items() if value == top)
    return best
