"""Random numbers as plain Python values, for drawing what happens to a face."""

from __future__ import annotations

import torch

NOISE_SEEDS = 2**62


class Dice:
    """Numbers from a torch.Generator on the CPU, in double precision."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def share(self) -> float:
        return float(torch.rand((), generator=self.generator, dtype=torch.float64))

    def between(self, ends: tuple[float, float]) -> float:
        low, high = ends
        return low + (high - low) * self.share()

    def whole(self, ends: tuple[int, int]) -> int:
        low, high = ends
        return int(torch.randint(low, high + 1, (), generator=self.generator))

    def order(self, count: int) -> list[int]:
        return torch.randperm(count, generator=self.generator).numpy().tolist()

    def noise_seed(self) -> int:
        return self.whole((0, NOISE_SEEDS - 1))
