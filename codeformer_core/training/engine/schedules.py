"""The learning rate of a step, from the config alone: nothing to keep in a checkpoint."""

from __future__ import annotations

import math

from ..config.run import Schedule


def rate_at(step: int, base: float, schedule: Schedule, iterations: int) -> float:
    """step counts from 0. No warm-up, as published."""
    if schedule.kind == "cosine":
        share = min(step / iterations, 1.0)
        return schedule.final + (base - schedule.final) * (1 + math.cos(math.pi * share)) / 2
    if schedule.kind == "steps":
        return base * schedule.factor ** sum(step >= milestone for milestone in schedule.milestones)
    return base
