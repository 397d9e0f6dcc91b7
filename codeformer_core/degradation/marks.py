"""Scratches and specks as images, drawn on the host for both paths."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from .draw_wear import Mark

FINER = 2  # drawn so many times larger, so that edges are smooth


def mark_layers(marks: Sequence[Mark], size: int) -> np.ndarray:
    """(2, size, size) uint8: opacity, and level times opacity; a later mark covers an earlier one."""
    layers = [Image.new("L", (size * FINER, size * FINER), 0) for _ in range(2)]
    pens = [ImageDraw.Draw(layer) for layer in layers]
    for mark in marks:
        width = max(1.0, mark.width * FINER)
        points = [(x * FINER, y * FINER) for x, y in mark.points]
        for pen, value in zip(pens, (255 * mark.opacity, mark.level * mark.opacity), strict=True):
            if len(points) > 1:
                pen.line(points, fill=round(value), width=round(width))
            else:
                x, y = points[0]
                pen.ellipse((x - width / 2, y - width / 2, x + width / 2, y + width / 2), fill=round(value))
    return np.stack([np.asarray(layer.reduce(FINER)) for layer in layers])
