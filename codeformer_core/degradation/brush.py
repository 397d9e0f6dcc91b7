"""White brush strokes: what an inpainting network learns to fill."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from .draw import Drawn

WHITE = 255


def brush_mask(drawn: Drawn) -> np.ndarray:
    """(size, size) bool, True where the strokes lie. Ends and joints are round."""
    mask = Image.new("L", (drawn.size, drawn.size), 0)
    pen = ImageDraw.Draw(mask)
    for stroke in drawn.strokes:
        pen.line(stroke.points, fill=1, width=max(1, round(stroke.width)))
        radius = stroke.width / 2
        for x, y in stroke.points:
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=1)
    return np.asarray(mask).astype(bool)
