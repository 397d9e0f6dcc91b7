"""Batches of scenes with their targets, made ahead by threads: OpenCV and numpy let go of Python's lock.

Shape legend: B scenes, S their side, A cells of all grids, 5 2 landmarks in x and y.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .scenes import SceneMaker
from .targets import Targets, targets_of

# Batches that wait to be learned from.
_AHEAD = 3


@dataclass(frozen=True, eq=False)
class DetectorBatch:
    """Scenes and their targets.

    images_BSS3: uint8 BGR; the rest as in `Targets`.
    """

    images_BSS3: Tensor
    kind_BA: Tensor
    boxes_BA4: Tensor
    points_BA52: Tensor

    def to(self, device: torch.device) -> DetectorBatch:
        return DetectorBatch(
            self.images_BSS3.to(device),
            self.kind_BA.to(device),
            self.boxes_BA4.to(device),
            self.points_BA52.to(device),
        )


def batches(
    maker: SceneMaker, batch_size: int, start: int, end: int, workers: int
) -> Generator[DetectorBatch, None, None]:
    """The batches of steps `start` to `end`. Step k has scenes k * batch_size and following, whatever came before."""
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[list[Future[tuple[np.ndarray, Targets]]]] = deque()
        ordered = start
        try:
            while waiting or ordered < end:
                while ordered < end and len(waiting) < _AHEAD:
                    first = ordered * batch_size
                    waiting.append([pool.submit(_made, maker, first + number) for number in range(batch_size)])
                    ordered += 1
                yield _joined([future.result() for future in waiting.popleft()])
        finally:
            for future in (future for step in waiting for future in step):
                future.cancel()


def _made(maker: SceneMaker, index: int) -> tuple[np.ndarray, Targets]:
    scene = maker.make(index)
    return scene.image_SSC, targets_of(scene)


def _joined(made: list[tuple[np.ndarray, Targets]]) -> DetectorBatch:
    targets = [part for _, part in made]
    return DetectorBatch(
        torch.from_numpy(np.stack([image for image, _ in made])),
        torch.from_numpy(np.stack([part.kind_A for part in targets])),
        torch.from_numpy(np.stack([part.boxes_A4 for part in targets])),
        torch.from_numpy(np.stack([part.points_A52 for part in targets])),
    )
