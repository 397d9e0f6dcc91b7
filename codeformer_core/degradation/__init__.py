"""Degradation of clean faces into training inputs. One set of drawn numbers, two paths, one image."""

from __future__ import annotations

from .brush import brush_mask
from .cpu import degrade_on_cpu
from .device import degrade_batch
from .draw import Drawn, draw
from .presets import LEVELS, PRESETS, Brush, ColorJitter, Degradation
from .wear import Fading, Grain, Halftone, RoundBlur, Scratches

__all__ = [
    "LEVELS",
    "PRESETS",
    "Brush",
    "ColorJitter",
    "Degradation",
    "Drawn",
    "Fading",
    "Grain",
    "Halftone",
    "RoundBlur",
    "Scratches",
    "brush_mask",
    "degrade_batch",
    "degrade_on_cpu",
    "draw",
]
