"""Features of all faces, kept on the disk: they don't fit into memory, and VGG takes too long to do it twice.

One file for each part at each scale, a row for each face, in half precision; 3.1 MB a face at the published sizes. A
small file that is written after the rows says which of them count, so that an interrupted run continues where it was.

Shape legend: N faces, B faces at a time, S side of a face, D numbers of an atom.
"""

from __future__ import annotations

import json
import logging
import math
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..imaging.tensors import to_network
from ..models.dfdnet.names import DICTIONARIES, Dictionary
from ..runtime.atomic import flush, write_whole
from ..runtime.progress import OnProgress
from ..training.data.files import BrokenFace
from .extractor import Extractor
from .faces import AlignedFaces, fitted

logger = logging.getLogger(__name__)

MEASURING = "measuring faces"
# One size whatever the device, so that a run that continues makes the same batches.
FACES_AT_ONCE = 4
# Faces between two writings of what counts, a multiple of FACES_AT_ONCE.
KEPT_EVERY = 32
_BYTES, _BYTES_OF_ATOMS = 2, 4
_COUNTED = "faces.json"


class SpoiledWork(ValueError):
    """A file of an interrupted build that can't be used any more."""

    def __init__(self, path: Path, reason: object) -> None:
        super().__init__(
            f"{path} is damaged ({reason}), so the build can't go on from it. Delete the folder {path.parent} "
            "and build anew"
        )


@dataclass
class Counted:
    """What the spool holds.

    seen: faces looked at, from the first on.
    kept: indices of those whose features are there, in the order of the rows.
    left_out: why the others are not.
    enlarged, reduced: how many were resized, and which way."""

    seen: int = 0
    kept: list[int] = field(default_factory=list[int])
    left_out: list[str] = field(default_factory=list[str])
    enlarged: int = 0
    reduced: int = 0


@dataclass(frozen=True)
class Spool:
    """Features on the disk.

    folder: exists, and holds nothing but this.
    """

    folder: Path
    extractor: Extractor

    def path(self, piece: Dictionary) -> Path:
        return self.folder / f"{piece.published}.features"

    def read_counted(self, total: int) -> Counted:
        """What was counted so far.

        total: how many faces there are.
        Raises SpoiledWork.
        """
        path = self.folder / _COUNTED
        if not path.is_file():
            return Counted()
        try:
            counted = Counted(**json.loads(path.read_text(encoding="utf-8")))
            if not counted.kept == sorted({*counted.kept} & {*range(min(counted.seen, total))}):
                raise ValueError(f"other faces than the first {total} are counted")
        except (ValueError, TypeError) as error:
            raise SpoiledWork(path, error) from error
        return counted

    def features_ND(self, piece: Dictionary, count: int) -> np.ndarray:
        """float16, mapped, not read. Raises SpoiledWork where there are fewer."""
        self._check_rows(piece, count)
        return np.memmap(self.path(piece), np.float16, "r", shape=(count, self._numbers(piece)))

    def fill(self, faces: AlignedFaces, on_progress: OnProgress) -> Counted:
        """Measure the faces that have not been yet; those that can't be are logged and left out.

        Raises OSError where the disk is full, ValueError for features beyond half precision, SpoiledWork.
        """
        total = len(faces.names)
        counted = self.read_counted(total)
        if counted.seen == total:
            return counted
        for piece in DICTIONARIES:
            self._check_rows(piece, len(counted.kept))
            self.path(piece).touch()
            os.truncate(self.path(piece), len(counted.kept) * self._numbers(piece) * _BYTES)
        while counted.seen < total:
            on_progress(MEASURING, counted.seen, total)
            self._measure(faces, range(counted.seen, min(counted.seen + FACES_AT_ONCE, total)), counted)
            if counted.seen % KEPT_EVERY == 0 or counted.seen == total:
                for piece in DICTIONARIES:
                    flush(self.path(piece))
                write_whole(self.folder / _COUNTED, json.dumps(asdict(counted)).encode())
        on_progress(MEASURING, total, total)
        return counted

    def _measure(self, faces: AlignedFaces, indices: range, counted: Counted) -> None:
        side = self.extractor.config.image_size
        images: list[Tensor] = []
        kept: list[int] = []
        for index in indices:
            try:
                image_HW3 = faces.read(index)
            except BrokenFace as error:
                logger.warning("left out: %s", error)
                counted.left_out.append(str(error))
                continue
            counted.enlarged += len(image_HW3) < side
            counted.reduced += len(image_HW3) > side
            images.append(fitted(image_HW3, side))
            kept.append(index)
        if images:
            self._append(torch.stack(images), [faces.names[index] for index in kept])
        counted.kept += kept
        counted.seen = indices.stop

    def _append(self, images_BSS3: torch.Tensor, names: list[str]) -> None:
        for piece, features_BD in self.extractor.parts(to_network(images_BSS3)).items():
            rows_BD = features_BD.half()
            if not torch.isfinite(rows_BD).all():
                raise ValueError(
                    f"the features of {names[0]} or a face behind it are not numbers, or beyond 65504 (up to "
                    f"{float(features_BD.abs().max()):g}). Give a DFDNet with its own VGG19, in float32"
                )
            try:
                with self.path(piece).open("ab") as file:
                    file.write(rows_BD.numpy().tobytes())
            except OSError as error:
                raise OSError(
                    error.errno,
                    f"could not be written: {error.strerror}. Free some of the disk; the same build then continues",
                    str(self.path(piece)),
                ) from error

    def bytes_needed(self, faces: int, atoms: int) -> int:
        """What a build has on the disk at most: features first; in the end atoms, and their copy in the output."""
        return max(faces * _BYTES, 2 * atoms * _BYTES_OF_ATOMS) * sum(map(self._numbers, DICTIONARIES))

    def _check_rows(self, piece: Dictionary, count: int) -> None:
        path = self.path(piece)
        rows = path.stat().st_size // (self._numbers(piece) * _BYTES) if path.is_file() else 0
        if rows < count:
            raise SpoiledWork(path, f"it holds {rows} faces instead of {count}")

    def _numbers(self, piece: Dictionary) -> int:
        return math.prod(self.extractor.shape(piece))
