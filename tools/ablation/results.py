"""The ablation's table, plot and lines of text."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path

from codeformer_core.runtime.atomic import write_whole

from .comparison import METHODS, Ablation

TABLE, PLOT_PNG, PLOT_SVG = "ablation.csv", "ablation.png", "ablation.svg"


def write_ablation(ablation: Ablation, folder: str | os.PathLike[str]) -> tuple[Path, ...]:
    """Write ablation.csv (a row per level and method), ablation.png and ablation.svg -> their paths.

    The folder is made; files of these names are replaced, each whole or not at all.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["level", "method", "accuracy", "faces"])
    for level, row in ablation.accuracies.items():
        writer.writerows([level, method, repr(share), ablation.faces] for method, share in row.items())
    files = {TABLE: table.getvalue().encode("utf-8"), PLOT_PNG: plot(ablation, "png"), PLOT_SVG: plot(ablation, "svg")}
    for name, data in files.items():
        write_whole(folder / name, data)
    return tuple(folder / name for name in files)


def plot(ablation: Ablation, kind: str) -> bytes:
    """Accuracy over level, one line per method.

    kind: "png" or "svg".
    """
    # Without pyplot, which keeps figures and picks a window system.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    levels = list(ablation.accuracies)
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for method, marker in zip(METHODS, "osD^", strict=True):
        axes.plot(levels, [100 * ablation.accuracies[level][method] for level in levels], marker=marker, label=method)
    axes.set_xlabel("degradation: downscaling, with blur, noise and JPEG to match")
    axes.set_ylabel("codes as for the clean face (%)")
    axes.set_title(f"Code prediction, {ablation.faces} faces")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
    data = io.BytesIO()
    figure.savefig(data, format=kind, dpi=150)
    return data.getvalue()


def ablation_lines(ablation: Ablation) -> Sequence[str]:
    """The accuracies as lines of text."""
    width = max(map(len, METHODS))
    levels = list(ablation.accuracies)
    lines = [" " * width + "".join(f"{level:>9}" for level in levels)]
    for method in METHODS:
        cells = "".join(f"{ablation.accuracies[level][method]:>9.1%}" for level in levels)
        lines.append(method.ljust(width) + cells)
    return lines
