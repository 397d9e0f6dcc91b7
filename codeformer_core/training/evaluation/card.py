"""A model card's section on quality, in Markdown: how the model was made, what it was measured at, its limits."""

from __future__ import annotations

import math
from collections.abc import Mapping

from .results import DEGRADED, RESTORED, Column, Evaluation, Mean
from .tables import heading

# The columns of the card, in this order, and their decimals; those that were not measured are left out.
COLUMNS = {
    "PSNR": 2,
    "SSIM": 3,
    "dlib distance": 3,
    "same person": 2,
    "lite0": 3,
    "edges": 2,
    "32-64": 3,
    "64-128": 3,
    "NIQE": 1,
    "colour (a,b)": 1,
}
EXPLANATION = (
    "dlib distance: of face descriptors, below 0.6 the same person; same person: share of faces below that. lite0: "
    "distance of EfficientNet-lite0 features. edges, and energy at 32-64 and 64-128 cycles per face width: of the "
    "clean face's, 1 is as sharp. colour (a,b): CIELAB, averaged over regions of an eighth of the face."
)
LIMITS = (
    "Means hide single faces, and synthetic damage is not an old photo's: look at restored photos before the model is "
    "trusted. What was rare among the training faces is restored worst, and fine detail that the input has lost is "
    "invented, not recovered."
)


def card_markdown(evaluation: Evaluation, facts: Mapping[str, str]) -> str:
    """The section as Markdown, ending in a newline.

    evaluation: of a model, as `evaluate_model` returns it. The table has a row for each degradation and method.
    facts: name -> text, such as data, steps, time, losses, missing packages. Listed above the table in this order.
    """
    columns = [column for name in COLUMNS for column in evaluation.columns if column.name == name]
    faces = max((mean.faces for mean in evaluation.means), default=0)
    lines = [*(f"- **{_escaped(name)}**: {_escaped(text)}" for name, text in facts.items()), ""]
    lines += [f"Measured on {faces} faces:", "", *_table(evaluation, columns), "", EXPLANATION, ""]
    if evaluation.left_out:
        lines += [f"Faces left out because they can't be read: {len(evaluation.left_out)}.", ""]
    skipped = [f"{metric.name} ({metric.reason})" for metric in evaluation.skipped if metric.name in COLUMNS]
    if skipped:
        lines += [f"Not measured: {_escaped('; '.join(skipped))}.", ""]
    return "\n".join([*lines, f"**Limits.** {LIMITS}", ""])


def _table(evaluation: Evaluation, columns: list[Column]) -> list[str]:
    lines = [
        "| damage | row | " + " | ".join(heading(column) for column in columns) + " |",
        "|---|---|" + "---|" * len(columns),
    ]
    before = None
    for mean in evaluation.means:
        damage = mean.group.degradation
        cells = ["" if damage == before else damage, _label(mean), *(_shown(mean, column.name) for column in columns)]
        lines.append("| " + " | ".join(_escaped(cell) for cell in cells) + " |")
        before = damage
    return lines


def _label(mean: Mean) -> str:
    if mean.group.method == RESTORED and mean.group.fidelity is not None:
        return f"fidelity {mean.group.fidelity:g}"
    return "damaged" if mean.group.method == DEGRADED else mean.group.label


def _shown(mean: Mean, name: str) -> str:
    """With fixed decimals, so that columns can be compared; a dash without a value."""
    value = mean.values[name]
    if math.isnan(value):
        return "-"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return f"{value:.{COLUMNS[name]}f}"


def _escaped(text: str) -> str:
    """On one line, and without a pipe that would end a cell."""
    return " ".join(text.split()).replace("|", "\\|")
