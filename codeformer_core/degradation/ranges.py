"""Validation of the ranges that numbers are drawn from."""

from __future__ import annotations

import math

# The size in whose pixels sigmas, widths and periods are given; other faces get them scaled.
REFERENCE_SIZE = 512


def check_range(name: str, ends: tuple[float, float], least: float, most: float, whole: bool = False) -> None:
    """Raise ValueError unless least <= ends[0] <= ends[1] <= most.

    name: for the message.
    whole: the ends must be whole numbers.
    """
    valid = len(ends) == 2 and least <= ends[0] <= ends[1] <= most and not any(math.isinf(end) for end in ends)
    if not valid or (whole and not all(isinstance(end, int) for end in ends)):
        kind = "two whole numbers" if whole else "two numbers"
        bounds = f"at least {least:g}" if math.isinf(most) else f"from {least:g} to {most:g}"
        raise ValueError(
            f"the degradation's {name} must be {kind} {bounds}, the smaller one first (the same one twice for a fixed "
            f"strength), got {ends}"
        )


def check_share(name: str, share: float) -> None:
    """Raise ValueError unless 0 <= share <= 1."""
    if not 0 <= share <= 1:
        raise ValueError(f"the degradation's {name} is a share of the faces and must be from 0 to 1, got {share}")
