"""A model card's section: facts, the table of means, what is missing, limits."""

from __future__ import annotations

import math

from codeformer_core.metrics.kinds import Skipped
from codeformer_core.training.evaluation.card import COLUMNS, LIMITS, card_markdown
from codeformer_core.training.evaluation.choose import MetricFiles, choose_metrics
from codeformer_core.training.evaluation.results import Column, Evaluation, Group, Row, means_of


def evaluation() -> Evaluation:
    rows = []
    for degradation, psnr in (("clean", math.inf), ("small", 20.0)):
        rows += [
            Row("a", Group(degradation, method, fidelity), {"PSNR": value, "dlib distance": apart, "landmarks": 1.0})
            for method, fidelity, value, apart in (
                ("degraded", None, psnr, 0.25),
                ("unsharp mask", None, 19.0, 0.5),
                ("restored", 0.5, 21.256, math.nan),
            )
        ]
    return Evaluation(
        # The card has an order of its own, and no landmarks.
        columns=(
            Column("landmarks", "lower", False),
            Column("dlib distance", "lower", False),
            Column("PSNR", "higher", False),
        ),
        rows=tuple(rows),
        means=means_of(rows, {}),
        accuracies=(),
        samples=(),
        skipped=(Skipped("lite0", "skipped: a package; pip install it"), Skipped("LPIPS", "skipped: a file")),
        left_out=("b.png: cut off",),
    )


def test_the_table_has_a_row_for_each_damage_and_method():
    lines = card_markdown(evaluation(), {"data": "12 | 13 faces\nof people", "steps": "100"}).splitlines()
    assert lines[:2] == [r"- **data**: 12 \| 13 faces of people", "- **steps**: 100"]
    start = lines.index("| damage | row | PSNR ↑ | dlib distance ↓ |")
    assert lines[start + 1 : start + 8] == [
        "|---|---|---|---|",
        "| clean | damaged | ∞ | 0.250 |",
        "|  | unsharp mask | 19.00 | 0.500 |",
        "|  | fidelity 0.5 | 21.26 | - |",
        "| small | damaged | 20.00 | 0.250 |",
        "|  | unsharp mask | 19.00 | 0.500 |",
        "|  | fidelity 0.5 | 21.26 | - |",
    ]
    assert "Measured on 1 faces:" in lines and "Faces left out because they can't be read: 1." in lines
    assert "Not measured: lite0 (skipped: a package; pip install it)." in lines
    assert lines[-1] == f"**Limits.** {LIMITS}"


def test_every_metric_that_needs_no_file_has_its_place():
    chosen = choose_metrics(MetricFiles(), "cpu", None)
    names = {metric.name for metric in (*chosen.per_face, *chosen.derived)}
    assert set(COLUMNS) - names == {metric.name for metric in chosen.skipped} & set(COLUMNS)
    assert {"PSNR", "SSIM", "edges", "NIQE", "colour (a,b)"} <= names
