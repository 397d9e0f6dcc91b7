"""Faces of a few strokes for tests that train: of no person, from the repository alone, and in milliseconds."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SIDE = 32
# Drawn larger and averaged down, so that lines and borders are soft.
DRAWN = 4

Colour = tuple[int, int, int]


def draw_face(generator: np.random.Generator, side: int = SIDE) -> Image.Image:
    """A face in the template's place, RGB, side x side; the parts, tones and light are drawn by `generator`."""
    size = side * DRAWN
    image = Image.new("RGB", (size, size), tone((92, 112, 140), generator, 30))
    pen = ImageDraw.Draw(image)
    skin = mixed((246, 205, 175), (120, 76, 52), generator.random())
    hair = mixed((40, 28, 22), (196, 158, 96), generator.random())
    x, y = generator.normal(0.5, 0.01), generator.normal(0.52, 0.01)
    wide, tall = generator.uniform(0.27, 0.33), generator.uniform(0.38, 0.44)

    def ellipse(cx: float, cy: float, rx: float, ry: float, colour: Colour) -> None:
        pen.ellipse([size * (cx - rx), size * (cy - ry), size * (cx + rx), size * (cy + ry)], fill=colour)

    ellipse(x, 1.1, 0.45, 0.25, tone((70, 70, 78), generator, 40))  # shoulders
    ellipse(x, y - 0.08, wide * 1.15, tall * 1.05, hair)
    ellipse(x, y, wide, tall, skin)
    pen.pieslice([size * (x - wide), size * (y - tall), size * (x + wide), size * (y + tall)], 205, 335, fill=hair)
    ellipse(x, y - 0.02, wide * 0.93, tall * 0.72, skin)
    apart, up = generator.uniform(0.115, 0.135), y - generator.uniform(0.06, 0.08)
    iris = mixed((60, 40, 26), (80, 110, 130), generator.random())
    for eye in (x - apart, x + apart):
        ellipse(eye, up - 0.065, 0.07, 0.015, hair)
        ellipse(eye, up, 0.06, 0.028, (236, 232, 228))
        ellipse(eye, up, 0.026, 0.028, iris)
    ellipse(x, y + 0.07, 0.03, 0.05, scaled(skin, 0.82))  # nose
    smile = generator.uniform(0.014, 0.035)
    ellipse(x, y + 0.2, generator.uniform(0.09, 0.13), smile, mixed(skin, (170, 50, 56), 0.65))
    if generator.random() < 0.3:
        ellipse(x, y + 0.2, 0.07, smile * 0.5, (240, 236, 230))  # teeth

    lit = np.asarray(image.filter(ImageFilter.GaussianBlur(1.5)), np.float32)
    from_left = np.linspace(-1, 1, size, dtype=np.float32)[None, :, None] * generator.uniform(-0.25, 0.25)
    lit = np.clip(lit * (1 + from_left) + generator.normal(0, 4, lit.shape), 0, 255)
    return Image.fromarray(lit.astype(np.uint8)).resize((side, side), Image.Resampling.BOX)


def mixed(one: Colour, other: Colour, share: float) -> Colour:
    """`share` of `other`, the rest of `one`."""
    return tuple(round(a + (b - a) * share) for a, b in zip(one, other, strict=True))  # type: ignore[return-value]


def scaled(colour: Colour, by: float) -> Colour:
    return tuple(min(255, round(value * by)) for value in colour)  # type: ignore[return-value]


def tone(colour: Colour, generator: np.random.Generator, spread: float) -> Colour:
    """The same colour, lighter or darker."""
    return scaled(colour, float(np.clip(generator.normal(1, spread / 100), 0.4, 1.6)))
