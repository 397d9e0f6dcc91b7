"""The rows of a manifest: which files belong to which split."""

from __future__ import annotations

import csv
import difflib
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

FILE_COLUMN, KEPT_COLUMN = "file", "kept"
_KEPT_WORDS = {"": True, "true": True, "yes": True, "false": False, "no": False}
# How the splits of the config may be called in a manifest.
WORDS = {"train": ("train", "training"), "validation": ("val", "valid", "validation")}


@dataclass(frozen=True)
class Row:
    """A row of a manifest.

    file: as written.
    split: "train" or "validation".
    """

    file: str
    split: str


def read_manifest(path: Path, split_column: str) -> list[Row]:
    """The rows of the two splits, in their order; rows of other splits, and rows with kept = 0, no or false, are
    left out.

    Raises ValueError when the file can't be read, a column is missing (with the nearest name), a row is too short
    or has another word as kept, or a split is empty.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            columns = list(reader.fieldnames or ())
            for column in (FILE_COLUMN, split_column):
                _require(column, columns, path)
            lines = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(f"{path}: this manifest can't be read ({reason})") from error
    split_of = {word: split for split, words in WORDS.items() for word in words}
    rows: list[Row] = []
    counts: Counter[str] = Counter()
    for number, line in enumerate(lines, start=1):
        if not _is_kept(line.get(KEPT_COLUMN) or "", number, path):
            continue
        if not line[FILE_COLUMN] or line[split_column] is None:
            raise ValueError(f"{path}: row {number} has no {FILE_COLUMN} or no {split_column}; the file may be cut off")
        counts[line[split_column]] += 1
        split = split_of.get(line[split_column].strip().lower())
        if split is not None:
            rows.append(Row(line[FILE_COLUMN].strip(), split))
    if not rows:
        found = ", ".join(f"{word!r} ({count})" for word, count in counts.most_common(5)) or "no rows"
        raise ValueError(f"{path}: column {split_column} has neither train nor val, but {found}")
    return rows


def _is_kept(text: str, number: int, path: Path) -> bool:
    """Nothing stands for yes."""
    word = text.strip().lower()
    if word in _KEPT_WORDS:
        return _KEPT_WORDS[word]
    try:
        if math.isfinite(value := float(word)):
            return value != 0
    except ValueError:
        pass  # no number, as the message says
    raise ValueError(f"{path}: row {number} has {KEPT_COLUMN} {text!r}. Write 1 or 0, yes or no, true or false")


def _require(column: str, columns: list[str], path: Path) -> None:
    if column in columns:
        return
    near = difflib.get_close_matches(column, columns, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(columns) or 'no columns at all'}."
    option = "Set data.split_column" if column != FILE_COLUMN else "Rename a column"
    raise ValueError(f"{path}: this manifest has no column {column!r}; {hint} {option}")
