"""How clean faces become the ones a network learns to restore. One set of drawn numbers, two paths, one picture."""

from __future__ import annotations

from .brush import brush_mask
from .cpu import degrade_on_cpu
from .device import degrade_batch
from .draw import Drawn, draw
from .presets import LEVELS, PRESETS, Brush, ColorJitter, Degradation

__all__ = [
    "LEVELS",
    "PRESETS",
    "Brush",
    "ColorJitter",
    "Degradation",
    "Drawn",
    "brush_mask",
    "degrade_batch",
    "degrade_on_cpu",
    "draw",
]
