"""Which face is drawn when: a function of the seed and the draw's number, the same for every number of processes.

Draw d is at position d % batch_size of the global batch of step d // batch_size. No sampler has a state but the step.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from ...degradation import Degradation

_EPOCH, _DRAW, _STEP = b"epoch", b"draw", b"step"


@dataclass(frozen=True)
class Recipe:
    """What happens to the faces of one step.

    degradation: None for clean faces alone.
    fidelity, task: passed through.
    """

    degradation: Degradation | None
    fidelity: float | None
    task: str | None = None


@dataclass(frozen=True)
class Place:
    """Which of how many training processes this is."""

    rank: int
    processes: int

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.processes:
            raise ValueError(f"rank {self.rank} of {self.processes} processes: expected 0 to {self.processes - 1}")


@dataclass(frozen=True)
class FaceDraw:
    """One draw of a face.

    number: d, see above.
    index: the face in its source.
    """

    number: int
    index: int


@dataclass(frozen=True)
class Request:
    """One micro step of one process: what to read and what to do with it."""

    step: int
    recipe: Recipe
    draws: tuple[FaceDraw, ...]


class Order:
    """The faces' order, epoch after epoch: draw d is face permutation(seed, d // count)[d % count].

    The permutation sorts the faces by hashes in integers only, so it is the same on every machine and with every
    version of numpy and torch.
    """

    def __init__(self, seed: int, count: int) -> None:
        assert count > 0
        self.seed = seed
        self.count = count
        self._epoch = -1
        self._permutation_N = np.empty(0, np.int64)

    def index_of(self, number: int) -> int:
        epoch, position = divmod(number, self.count)
        if epoch != self._epoch:
            start = np.uint64(_hash(_EPOCH, self.seed, epoch))
            keys_N = _mixed(start + np.arange(self.count, dtype=np.uint64))
            self._permutation_N = np.argsort(keys_N, kind="stable")
            self._epoch = epoch
        return int(self._permutation_N[position])


def generator_of(seed: int, number: int) -> torch.Generator:
    """The source of all that is random about draw `number`: its flip first, then its degradation."""
    return torch.Generator().manual_seed(_hash(_DRAW, seed, number) >> 1)


def share_of(seed: int, step: int) -> float:
    """Evenly from 0 to below 1: what is random about a whole step."""
    return _hash(_STEP, seed, step) / 2**64


def positions_of(batch_size: int, accumulate: int, place: Place, micro_step: int) -> range:
    """This process's positions in the global batch: cut into `accumulate` micro steps, each cut into processes.

    Raises ValueError, with all three numbers, when the batch can't be cut evenly.
    """
    parts = accumulate * place.processes
    if min(batch_size, accumulate) < 1 or batch_size % parts:
        raise ValueError(
            f"a batch of {batch_size} faces can't be cut into accumulate {accumulate} x processes {place.processes} "
            f"= {parts} equal parts. Choose a batch_size that is a multiple of {parts}"
        )
    size = batch_size // parts
    first = (micro_step * place.processes + place.rank) * size
    return range(first, first + size)


def draws_of(order: Order, step: int, batch_size: int, positions: range) -> Iterator[FaceDraw]:
    """The draws at these positions of the step's global batch."""
    for position in positions:
        number = step * batch_size + position
        yield FaceDraw(number, order.index_of(number))


def _hash(purpose: bytes, seed: int, number: int) -> int:
    """64 bits."""
    text = purpose + f":{seed}:{number}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def _mixed(values_N: np.ndarray) -> np.ndarray:
    """SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators") of uint64 counters."""
    mixed_N = values_N * np.uint64(0x9E3779B97F4A7C15)
    mixed_N = (mixed_N ^ (mixed_N >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed_N = (mixed_N ^ (mixed_N >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed_N ^ (mixed_N >> np.uint64(31))
