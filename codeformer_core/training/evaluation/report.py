"""An evaluation as files: CSV for programs, and one HTML page that holds its own images.

Shape legend: H W height and width, 3 colours RGB.
"""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Mapping, Sequence, Set
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image

from ...runtime.atomic import write_whole
from . import tables
from .people import much_worse
from .results import Evaluation, Sample, best_of

PAGE, FACES, SUMMARY, CODES, GROUPS = "report.html", "faces.csv", "summary.csv", "codes.csv", "groups.csv"
# Images of the page are at most this wide and high: a dozen faces stay below a megabyte.
MAX_IMAGE_SIDE = 256
_IMAGE_QUALITY = 85

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 90rem; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: 0.5rem 0 1.5rem }
th, td { padding: 0.25rem 0.8rem; text-align: right; border-bottom: 1px solid #ddd }
th:first-child, td:first-child { text-align: left }
td.best { font-weight: bold; background: #e8f4e8 }
.faces { display: flex; gap: 0.4rem; overflow-x: auto; margin-bottom: 1rem }
figure { margin: 0 } figure img { display: block; max-width: 16rem } figcaption { font-size: 0.85em; color: #555 }
@media (prefers-color-scheme: dark) { body { background: #181818; color: #ddd } th, td { border-color: #444 }
td.best { background: #244024 } figcaption { color: #aaa } }
"""


def write_report(
    evaluation: Evaluation, folder: str | os.PathLike[str], title: str, facts: Mapping[str, str]
) -> tuple[Path, ...]:
    """Write report.html, faces.csv, summary.csv and, where they are known, codes.csv and groups.csv -> their paths.

    facts: what was measured on what, in words, for the top of the page. The folder is made; files of these names are
    replaced, each whole or not at all.
    Raises OSError naming the file.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files = {FACES: tables.faces_csv(evaluation), SUMMARY: tables.summary_csv(evaluation)}
    if evaluation.accuracies:
        files[CODES] = tables.codes_csv(evaluation)
    if evaluation.people:
        files[GROUPS] = tables.groups_csv(evaluation)
    files[PAGE] = page(evaluation, title, facts)  # last: whoever sees it finds the others
    for name, text in files.items():
        write_whole(folder / name, _in_letters(text).encode("utf-8"))
    return tuple(folder / name for name in files)


def _in_letters(text: str) -> str:
    """Bytes of a file's name that are not text become marks."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def page(evaluation: Evaluation, title: str, facts: Mapping[str, str]) -> str:
    """The whole page; it loads nothing from elsewhere."""
    parts = [
        f"<h1>{escape(title)}</h1>",
        _table([], [[name, text] for name, text in facts.items()]),
        *_means(evaluation),
        *_accuracies(evaluation),
        *_people(evaluation),
        *_list("Not measured", [f"{metric.name}: {metric.reason}" for metric in evaluation.skipped]),
        *_list("Faces left out", evaluation.left_out),
        *_samples(evaluation.samples),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


def _means(evaluation: Evaluation) -> list[str]:
    parts = ["<h2>Means</h2>"]
    best = {column.name: best_of(evaluation.means, column) for column in evaluation.columns}
    for degradation in dict.fromkeys(mean.group.degradation for mean in evaluation.means):
        means = [mean for mean in evaluation.means if mean.group.degradation == degradation]
        rows = [
            [mean.group.label, str(mean.faces), *(tables.shown_mean(mean, column) for column in evaluation.columns)]
            for mean in means
        ]
        marked = {
            (row, place + 2)
            for row, mean in enumerate(means)
            for place, column in enumerate(evaluation.columns)
            if mean.group in best[column.name]
        }
        if degradation:
            parts.append(f"<h3>{escape(degradation)}</h3>")
        parts.append(_table(["", "faces", *map(tables.heading, evaluation.columns)], rows, marked))
    parts.append(
        "<p>↑: more is better, ↓: less is better; the best of a table is marked. (n): over so many faces, "
        "the others have no value or, PSNR of untouched faces, an infinite one. "
        "FID depends on the number of faces: compare it only between networks measured on the same faces.</p>"
    )
    return parts


def _accuracies(evaluation: Evaluation) -> list[str]:
    if not evaluation.accuracies:
        return []
    rows = [[entry.degradation, f"{entry.predicted:.1%}", f"{entry.nearest:.1%}"] for entry in evaluation.accuracies]
    return [
        "<h2>Codes</h2>",
        "<p>How many of the codes that the teacher gives the clean face are found in the degraded one.</p>",
        _table(["", "predicted", "nearest"], rows),
    ]


def _people(evaluation: Evaluation) -> list[str]:
    if not evaluation.people:
        return []
    counted = ", ".join(f"{people.name} ({people.faces} faces)" for people in evaluation.people)
    lines = list(much_worse(evaluation)) or ["none"]
    return [
        "<h2>Groups of people</h2>",
        f"<p>{escape(counted)}. Their means are in {GROUPS}; those worse than of all faces by more than a tenth:</p>",
        "<ul>",
        *(f"<li>{escape(line)}</li>" for line in lines),
        "</ul>",
    ]


def _list(title: str, lines: Sequence[str]) -> list[str]:
    if not lines:
        return []
    return [f"<h2>{title}</h2>", "<ul>", *(f"<li>{escape(line)}</li>" for line in lines), "</ul>"]


def _samples(samples: Sequence[Sample]) -> list[str]:
    parts = ["<h2>Faces</h2>"] if samples else []
    for sample in samples:
        name = f"{sample.face}, {sample.degradation}" if sample.degradation else sample.face
        parts.append(f'<h3>{escape(name)}</h3>\n<div class="faces">')
        parts += [
            f'<figure><img alt="{escape(f"{name}: {label}")}" src="{data_uri(image)}">'
            f"<figcaption>{escape(label)}</figcaption></figure>"
            for label, image in sample.images
        ]
        parts.append("</div>")
    return parts


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], marked: Set[tuple[int, int]] = frozenset()) -> str:
    lines = ["<table>"]
    if header:
        lines.append("<tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in header) + "</tr>")
    for number, row in enumerate(rows):
        cells = (
            f'<td class="best">{escape(cell)}</td>' if (number, place) in marked else f"<td>{escape(cell)}</td>"
            for place, cell in enumerate(row)
        )
        lines.append("<tr>" + "".join(cells) + "</tr>")
    return "\n".join([*lines, "</table>"])


def data_uri(image_HW3: np.ndarray) -> str:
    """uint8 RGB -> the image inside an address, as WebP where Pillow can write it, else as JPEG."""
    from PIL import features

    image = Image.fromarray(image_HW3)
    image.thumbnail((MAX_IMAGE_SIDE, MAX_IMAGE_SIDE), Image.Resampling.LANCZOS)
    kind = "WEBP" if features.check("webp") else "JPEG"
    data = io.BytesIO()
    image.save(data, kind, quality=_IMAGE_QUALITY)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(data.getvalue()).decode('ascii')}"
