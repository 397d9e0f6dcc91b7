"""The numbers of an evaluation as CSV and as lines of text."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence

from .results import Column, Evaluation, Group, Mean, best_of


def faces_csv(evaluation: Evaluation) -> str:
    """One row per face, degradation, method and fidelity; a value that isn't there is empty."""
    names = [column.name for column in evaluation.columns if not column.per_set]
    rows = [[row.face, *_words(row.group), *(_exact(row.values[name]) for name in names)] for row in evaluation.rows]
    return _csv(["face", "degradation", "method", "fidelity", *names], rows)


def summary_csv(evaluation: Evaluation) -> str:
    """One row per degradation, method and fidelity: means, and after each how many faces had a value."""
    header = ["degradation", "method", "fidelity", "faces"]
    for column in evaluation.columns:
        header += [column.name, f"{column.name} faces"]
    rows: list[list[str]] = []
    for mean in evaluation.means:
        row = [*_words(mean.group), str(mean.faces)]
        for column in evaluation.columns:
            row += [_exact(mean.values[column.name]), str(mean.counts[column.name])]
        rows.append(row)
    return _csv(header, rows)


def groups_csv(evaluation: Evaluation) -> str:
    """Means of each group of people: a row per degradation, method and fidelity."""
    names = [column.name for column in evaluation.columns if not column.per_set]
    rows = [
        [people.name, *_words(mean.group), str(people.faces), *(_exact(mean.values[name]) for name in names)]
        for people in evaluation.people
        for mean in people.means
    ]
    return _csv(["group", "degradation", "method", "fidelity", "faces", *names], rows)


def codes_csv(evaluation: Evaluation) -> str:
    """Shares, 0..1, by degradation."""
    return _csv(
        ["degradation", "predicted", "nearest"],
        [
            [accuracy.degradation, _exact(accuracy.predicted), _exact(accuracy.nearest)]
            for accuracy in evaluation.accuracies
        ],
    )


def shown(value: float) -> str:
    """Four significant digits; the best that can be is infinite, a value that isn't there is a dash."""
    if math.isnan(value):
        return "-"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return f"{value:.4g}"


def shown_mean(mean: Mean, column: Column) -> str:
    """With the number of faces in brackets where some of them have no value."""
    count = mean.counts[column.name]
    return shown(mean.values[column.name]) + (f" ({count})" if 0 < count < mean.faces else "")


def summary_lines(evaluation: Evaluation) -> list[str]:
    """The table of means as text, the best of each degradation with a star."""
    best = {column.name: best_of(evaluation.means, column) for column in evaluation.columns}
    header = ["degradation", "faces", *map(heading, evaluation.columns)]
    if all(not mean.group.degradation for mean in evaluation.means):
        header[0] = "picture"
    table = [header]
    for mean in evaluation.means:
        label = " ".join(word for word in (mean.group.degradation, mean.group.label) if word)
        cells = [
            shown_mean(mean, column) + ("*" if mean.group in best[column.name] else "") for column in evaluation.columns
        ]
        table.append([label, str(mean.faces), *cells])
    lines = _aligned(table)
    if evaluation.accuracies:
        codes = [["codes as the teacher's", "predicted", "nearest"]]
        codes += [
            [entry.degradation, f"{entry.predicted:.1%}", f"{entry.nearest:.1%}"] for entry in evaluation.accuracies
        ]
        lines += ["", *_aligned(codes)]
    return lines


def heading(column: Column) -> str:
    """The metric's name and whether more of it is better."""
    return column.name + {"higher": " ↑", "lower": " ↓", "neither": ""}[column.better]


def _aligned(table: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[index]) for row in table) for index in range(len(table[0]))]
    return [
        "  ".join(
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]


def _words(group: Group) -> list[str]:
    return [group.degradation, group.method, "" if group.fidelity is None else f"{group.fidelity:g}"]


def _exact(value: float) -> str:
    return "" if math.isnan(value) else repr(float(value))


def _csv(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()
