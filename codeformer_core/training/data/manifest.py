"""The rows of a manifest: which files belong to which split."""

from __future__ import annotations

import csv
import difflib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

FILE_COLUMN, KEPT_COLUMN = "file", "kept"
# How the splits of the config may be called in a manifest.
WORDS = {"train": ("train", "training"), "validation": ("val", "valid", "validation")}


@dataclass(frozen=True)
class Row:
    """file: as written. split: "train" or "validation"."""

    file: str
    split: str


def read_manifest(path: Path, split_column: str) -> list[Row]:
    """The rows of the two splits, in their order; rows of other splits, and rows with kept = 0, are left out.

    Raises ValueError when the file can't be read, a column is missing (with the nearest name), a row is too short,
    or a split is empty-handed altogether.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            columns = list(reader.fieldnames or ())
            for column in (FILE_COLUMN, split_column):
                _require(column, columns, path)
            lines = [line for line in reader if (line.get(KEPT_COLUMN) or "1").strip() != "0"]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(f"{path}: this manifest can't be read ({reason})") from error
    split_of = {word: split for split, words in WORDS.items() for word in words}
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line[FILE_COLUMN] or line[split_column] is None:
            raise ValueError(f"{path}: row {number} has no {FILE_COLUMN} or no {split_column}; the file may be cut off")
        split = split_of.get(line[split_column].strip().lower())
        if split is not None:
            rows.append(Row(line[FILE_COLUMN].strip(), split))
    if not rows:
        counts = Counter(line[split_column] for line in lines)
        found = ", ".join(f"{word!r} ({count})" for word, count in counts.most_common(5)) or "no rows"
        raise ValueError(f"{path}: column {split_column} has neither train nor val, but {found}")
    return rows


def _require(column: str, columns: list[str], path: Path) -> None:
    if column in columns:
        return
    near = difflib.get_close_matches(column, columns, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(columns) or 'no columns at all'}"
    option = " Cure: set data.split_column" if column != FILE_COLUMN else " Cure: rename a column"
    raise ValueError(f"{path}: this manifest has no column {column!r}; {hint}{option}")
