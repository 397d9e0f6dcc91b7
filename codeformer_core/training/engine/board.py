"""Where a run can be watched: scalars.csv, TensorBoard where it is installed, and image grids as PNG.

Shape legend: H W a grid's height and width.
"""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ...runtime.atomic import write_whole

logger = logging.getLogger(__name__)

_COLUMNS = ("step", "name", "value")


class Board:
    """Curves and images of one run, from its first process.

    start_step: where a continued run begins; what was written for later steps, which were lost, is taken back.
    """

    def __init__(self, folder: Path, start_step: int) -> None:
        self.folder = folder
        self._images = folder / "pictures"
        self._images.mkdir(parents=True, exist_ok=True)
        self._table = folder / "scalars.csv"
        _drop_after(self._table, start_step)
        self._file = self._table.open("a", newline="", encoding="utf-8")
        self._rows = csv.writer(self._file)
        self._failed = False
        self._tensorboard = _open_tensorboard(folder / "tensorboard", start_step)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        with self._never_fatal():
            self._write_scalars(step, values)

    def _write_scalars(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._rows.writerow((step, name, f"{value:.6g}"))
            if self._tensorboard is not None:
                self._tensorboard.add_scalar(name, value, step)
        self._file.flush()

    def image(self, step: int, name: str, grid_HW3: np.ndarray) -> None:
        """Write an image grid.

        grid_HW3: uint8 RGB.
        """
        from PIL import Image

        with self._never_fatal():
            Image.fromarray(grid_HW3).save(self._images / f"step-{step:09d}-{name}.png")
            if self._tensorboard is not None:
                self._tensorboard.add_image(name, grid_HW3, step, dataformats="HWC")

    def close(self) -> None:
        with self._never_fatal():
            self._file.close()
        with self._never_fatal():
            if self._tensorboard is not None:
                self._tensorboard.close()

    @contextmanager
    def _never_fatal(self) -> Generator[None]:
        """A curve that can't be written ends no run; said once."""
        try:
            yield
        except OSError as error:
            if not self._failed:
                logger.warning("%s: curves and images can't be written: %s", self.folder, error.strerror or error)
            self._failed = True


def _drop_after(table: Path, step: int) -> None:
    """Keep the header and rows up to `step`; a last line that a kill cut short goes too."""
    kept = [_COLUMNS]
    if table.exists():
        with table.open(newline="", encoding="utf-8") as stream:
            rows = [row for row in csv.reader(stream) if len(row) == len(_COLUMNS) and row[0].isdigit()]
        kept += [row for row in rows if int(row[0]) <= step]
    text = io.StringIO()
    csv.writer(text).writerows(kept)
    write_whole(table, text.getvalue().encode())


def _open_tensorboard(folder: Path, start_step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        logger.warning("tensorboard is not installed: curves go to scalars.csv, images to PNG files only")
        return None
    return SummaryWriter(str(folder), purge_step=start_step or None)
