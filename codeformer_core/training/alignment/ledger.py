"""The lists in a folder of aligned faces: what was kept, what was not and why, and which photos are finished.

A photo's rows are appended when all its files are written, and its line in photos.csv comes last. So whatever a kill
interrupts belongs to one photo, and the next run does that one again.
"""

from __future__ import annotations

import csv
import io
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TypeVar

from ...runtime.atomic import write_whole

logger = logging.getLogger(__name__)

MANIFEST, REJECTED, PHOTOS = "manifest.csv", "rejected.csv", "photos.csv"


@dataclass(frozen=True)
class KeptRow:
    """One aligned face; the columns of manifest.csv.

    file: in the folder.
    source: its photo.
    split: train or val.
    landmarks: x y of left eye, right eye, nose, left and right mouth corner in the aligned face.
    eye_distance: in pixels of the photo.
    sharpness, padding: see `AlignedFace`.
    kept: 1; a 0 written by hand takes the face out of training.
    fingerprint: see `duplicates`.
    """

    file: str
    source: str
    split: str
    landmarks: str
    eye_distance: str
    sharpness: str
    padding: str
    kept: str
    fingerprint: str


@dataclass(frozen=True)
class RejectedRow:
    """One face, or a whole photo (face 0), that was not kept.

    box: left top right bottom in pixels of the photo.
    """

    source: str
    face: str
    box: str
    reason: str


@dataclass(frozen=True)
class PhotoRow:
    """A photo that is finished.

    bytes: its file's size, by which another photo of the same name is known.
    """

    source: str
    bytes: str
    kept: str
    rejected: str


Row = PhotoRow | KeptRow | RejectedRow
AnyRow = TypeVar("AnyRow", PhotoRow, KeptRow, RejectedRow)
FaceRow = TypeVar("FaceRow", KeptRow, RejectedRow)


class Ledger:
    """What the lists of a folder say; read once, then only appended to."""

    def __init__(self, folder: Path) -> None:
        """Reads the lists, and drops what a kill has left of an unfinished photo.

        Raises ValueError when a list is not one of ours.
        """
        self.folder = folder
        photos = _read(folder / PHOTOS, PhotoRow)
        self._bytes = {row.source: int(row.bytes) for row in photos}
        self.kept = self._finished(MANIFEST, KeptRow)
        self.rejected = self._finished(REJECTED, RejectedRow)
        _rewrite(folder / PHOTOS, PhotoRow, photos)

    def is_finished(self, source: str, size: int) -> bool:
        """Raises ValueError when the name belongs to a photo of another size that was finished before."""
        if (known := self._bytes.get(source)) is None:
            return False
        if known != size:
            raise ValueError(
                f"{source}: a photo of this name with {known} bytes is already in {self.folder}, and this one has "
                f"{size}. Give it another name, or align it into another folder"
            )
        return True

    def finish(self, source: str, size: int, kept: Sequence[KeptRow], rejected: Sequence[RejectedRow]) -> None:
        """Take down what became of a photo."""
        _append(self.folder / MANIFEST, kept)
        _append(self.folder / REJECTED, rejected)
        _append(self.folder / PHOTOS, [PhotoRow(source, str(size), str(len(kept)), str(len(rejected)))])
        self._bytes[source] = size
        self.kept += kept
        self.rejected += rejected

    def move(self, source: str, split: str) -> None:
        """A photo's faces go to the other split."""
        self.kept = [replace(row, split=split) if row.source == source else row for row in self.kept]
        _rewrite(self.folder / MANIFEST, KeptRow, self.kept)

    def counts(self) -> Counter[str]:
        """How many faces and photos were rejected, by the first words of their reasons."""
        return Counter(row.reason.partition(":")[0] for row in self.rejected)

    def _finished(self, name: str, kind: type[FaceRow]) -> list[FaceRow]:
        rows = _read(self.folder / name, kind)
        finished = [row for row in rows if row.source in self._bytes]
        if len(finished) < len(rows):
            logger.info("%s: %d rows of an unfinished photo are dropped", name, len(rows) - len(finished))
        _rewrite(self.folder / name, kind, finished)
        return finished


def _columns(kind: type[Row]) -> list[str]:
    return [field.name for field in fields(kind)]


def _lines(rows: Sequence[Row]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(
        [getattr(row, name) for name in _columns(type(row))] for row in rows
    )
    return text.getvalue()


def _read(path: Path, kind: type[AnyRow]) -> list[AnyRow]:
    """The whole rows; one that a kill has cut short is left out."""
    if not path.is_file():
        return []
    text = path.read_bytes().decode("utf-8", "replace")
    whole = text[: text.rfind("\n") + 1]
    lines = list(csv.reader(io.StringIO(whole)))
    if not lines:
        return []
    if lines[0] != _columns(kind):
        raise ValueError(
            f"{path}: its columns are {', '.join(lines[0])} and not {', '.join(_columns(kind))}. Name a new folder"
        )
    return [kind(*line) for line in lines[1:] if len(line) == len(lines[0])]


def _rewrite(path: Path, kind: type[Row], rows: Sequence[Row]) -> None:
    """Only when something has to go, or there is no list yet."""
    text = ",".join(_columns(kind)) + "\n" + _lines(rows)
    if not path.is_file() or path.read_bytes() != text.encode():
        write_whole(path, text.encode())


def _append(path: Path, rows: Sequence[Row]) -> None:
    if rows:
        with path.open("a", encoding="utf-8", newline="") as stream:
            stream.write(_lines(rows))
