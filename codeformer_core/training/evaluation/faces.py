"""Faces of an evaluation: which ones, and degraded by a seed alike for every network that is measured.

Shape legend: B N faces, H W = S their side, 3 colours RGB.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...degradation import Degradation, degrade_on_cpu, draw
from ..data.files import BrokenFace, FaceSource

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CleanBatch:
    """Clean faces of an evaluation.

    faces_BHW3: uint8 RGB.
    left_out: why faces that belong here can't be read.
    """

    names: tuple[str, ...]
    faces_BHW3: np.ndarray
    left_out: tuple[str, ...]


def spread(count: int | None, total: int) -> list[int]:
    """`count` numbers below `total`, evenly spread; all of them for None."""
    if count is None or count >= total:
        return list(range(total))
    return [int(index) for index in np.linspace(0, total - 1, count).round()]


def clean_batches(source: FaceSource, indices: Sequence[int], batch_size: int) -> Iterator[CleanBatch]:
    """Faces in the given order; broken ones are logged and left out. A batch may be empty."""
    for start in range(0, len(indices), batch_size):
        names: list[str] = []
        faces: list[np.ndarray] = []
        left_out: list[str] = []
        for index in indices[start : start + batch_size]:
            try:
                faces.append(source.read(index))
            except BrokenFace as error:
                logger.warning("face left out: %s", error)
                left_out.append(str(error))
            else:
                names.append(source.names[index])
        stacked_BHW3 = np.stack(faces) if faces else np.empty((0, 0, 0, 3), np.uint8)
        yield CleanBatch(tuple(names), stacked_BHW3, tuple(left_out))


def degraded(batch: CleanBatch, name: str, degradation: Degradation, seed: int, *, bicubic: bool = False) -> np.ndarray:
    """degraded_BHW3 uint8. A face's degradation depends on the seed, `name` and the face's name alone.

    bicubic: enlarged so and not bilinearly, which is all that differs.
    """
    return np.stack(
        [
            degrade_on_cpu(face_HW3, draw(degradation, face_HW3.shape[0], seeded(seed, name, face)), bicubic=bicubic)
            for face, face_HW3 in zip(batch.names, batch.faces_BHW3, strict=True)
        ]
    )


def seeded(seed: int, *words: str | int) -> torch.Generator:
    """A generator of its own for every combination."""
    # A face's name may hold bytes that are not text.
    text = "\0".join(map(str, (seed, *words))).encode("utf-8", "surrogateescape")
    digest = hashlib.sha256(text).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def to_unit(faces_BHW3: np.ndarray, device: torch.device) -> Tensor:
    """uint8 -> faces_B3HW float32 in [0, 1] on `device`."""
    return torch.from_numpy(faces_BHW3).to(device).permute(0, 3, 1, 2).float() / 255
