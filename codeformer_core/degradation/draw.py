"""The random numbers of one face: all of them, drawn once, so that every path that uses them makes the same image."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from .dice import Dice
from .draw_wear import (
    DrawnFading,
    DrawnGrain,
    DrawnHalftone,
    Mark,
    draw_fading,
    draw_grain,
    draw_halftone,
    draw_marks,
)
from .presets import Brush, ColorJitter, Degradation
from .ranges import REFERENCE_SIZE
from .wear import RoundBlur

# A stroke is a walk: each step turns by up to this angle and is this long (shares of the face's side).
TURN = 0.75 * math.pi
STEP_LENGTH = (0.05, 0.25)


@dataclass(frozen=True)
class Blur:
    """A Gaussian along the axes of a turned frame.

    sigma_x, sigma_y: pixels.
    angle: radians, of the frame.
    """

    sigma_x: float
    sigma_y: float
    angle: float


@dataclass(frozen=True)
class Stroke:
    """width: of the brush, in pixels.
    points: its path, (x, y) in pixels.
    """

    width: float
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Colors:
    """shift_rgb: added, of 255.
    adjustments: ("brightness" | "contrast" | "saturation" | "hue", value) in order.
    """

    shift_rgb: tuple[float, float, float] | None
    adjustments: tuple[tuple[str, float], ...]
    gray: bool


@dataclass(frozen=True)
class Drawn:
    """The numbers for one face of `size` x `size` pixels; None where a step is left out.

    strokes: white, on the clean face.
    low_size: side after the downscale, in pixels.
    noise_sigma: of 255.
    noise_seed: the noise itself comes from it, see noise.py.
    jpeg_quality: 1..100.
    lens_sigma, scan_sigma: pixels, of round blurs before and after grain, halftone, fading and marks.
    marks: scratches and specks.
    """

    size: int
    strokes: tuple[Stroke, ...] = ()
    blur: Blur | None = None
    low_size: int | None = None
    noise_sigma: float | None = None
    noise_seed: int = 0
    jpeg_quality: int | None = None
    colors: Colors | None = None
    lens_sigma: float | None = None
    grain: DrawnGrain | None = None
    halftone: DrawnHalftone | None = None
    fading: DrawnFading | None = None
    marks: tuple[Mark, ...] = ()
    scan_sigma: float | None = None

    @property
    def is_worn(self) -> bool:
        """Whether any of the steps of worn.py happens to the face."""
        return bool(self.lens_sigma or self.grain or self.halftone or self.fading or self.marks or self.scan_sigma)

    @property
    def smallest(self) -> int:
        """Side of the image that gets noise and JPEG."""
        return self.size if self.low_size is None else self.low_size


def draw(degradation: Degradation, size: int, generator: torch.Generator) -> Drawn:
    """The numbers for one face.

    Sigmas and brush are scaled by size / 512; r, noise and quality are as given.

    size: side of the face in pixels.
    generator: on the CPU.
    Raises ValueError for a size under 2.
    """
    if size < 2:
        raise ValueError(f"a face must be at least 2 pixels wide to be degraded, got {size}")
    dice = Dice(generator)
    if degradation.clean_share is not None and dice.share() < degradation.clean_share:
        return Drawn(size=size)
    strokes = () if degradation.brush is None else _draw_strokes(degradation.brush, size, dice)
    blur = None if degradation.blur_sigma is None else _draw_blur(degradation.blur_sigma, size, dice)
    low_size = None if degradation.downscale is None else max(1, int(size // dice.between(degradation.downscale)))
    noise_sigma, noise_seed = None, 0
    if degradation.noise is not None:
        noise_sigma, noise_seed = dice.between(degradation.noise), dice.noise_seed()
    quality = None if degradation.jpeg_quality is None else dice.whole(degradation.jpeg_quality)
    colors = None if degradation.color is None else _draw_colors(degradation.color, dice)
    # Drawn last, so that degradations without them draw the numbers they always drew.
    return Drawn(
        size=size,
        strokes=strokes,
        blur=blur,
        low_size=low_size,
        noise_sigma=noise_sigma,
        noise_seed=noise_seed,
        jpeg_quality=quality,
        colors=colors,
        lens_sigma=None if degradation.lens is None else _draw_round(degradation.lens, size, dice),
        grain=None if degradation.grain is None else draw_grain(degradation.grain, size, dice),
        halftone=None if degradation.halftone is None else draw_halftone(degradation.halftone, size, dice),
        fading=None if degradation.fading is None else draw_fading(degradation.fading, size, dice),
        marks=() if degradation.scratches is None else draw_marks(degradation.scratches, size, dice),
        scan_sigma=None if degradation.scan is None else _draw_round(degradation.scan, size, dice),
    )


def _draw_blur(sigma: tuple[float, float], size: int, dice: Dice) -> Blur:
    """Half of the blurs are round; the others have two sigmas, at any angle."""
    scale = size / REFERENCE_SIZE
    sigma_x = dice.between(sigma) * scale
    if dice.share() < 0.5:
        return Blur(sigma_x, sigma_x, 0.0)
    return Blur(sigma_x, dice.between(sigma) * scale, dice.between((-math.pi, math.pi)))


def _draw_round(blur: RoundBlur, size: int, dice: Dice) -> float | None:
    return dice.between(blur.sigma) * size / REFERENCE_SIZE if dice.share() < blur.share else None


def _draw_colors(color: ColorJitter, dice: Dice) -> Colors:
    shift = None
    if dice.share() < color.shift_share:
        ends = (-color.shift, color.shift)
        shift = (dice.between(ends), dice.between(ends), dice.between(ends))
    adjustments: list[tuple[str, float]] = []
    if dice.share() < color.jitter_share:
        values = [
            ("brightness", dice.between(color.brightness)),
            ("contrast", dice.between(color.contrast)),
            ("saturation", dice.between(color.saturation)),
            ("hue", dice.between((-color.hue, color.hue))),
        ]
        adjustments = [values[place] for place in dice.order(len(values))]
    return Colors(shift, tuple(adjustments), gray=dice.share() < color.gray_share)


def _draw_strokes(brush: Brush, size: int, dice: Dice) -> tuple[Stroke, ...]:
    return tuple(_draw_stroke(brush, size, dice) for _ in range(dice.whole(brush.strokes)))


def _draw_stroke(brush: Brush, size: int, dice: Dice) -> Stroke:
    """A random walk that stops at the borders; length and turns are ours, the paper gives none."""
    x, y = dice.between((0, size)), dice.between((0, size))
    heading = dice.between((-math.pi, math.pi))
    points = [(x, y)]
    for _ in range(dice.whole(brush.vertices) - 1):
        heading += dice.between((-TURN, TURN))
        length = dice.between(STEP_LENGTH) * size
        x = min(max(x + length * math.cos(heading), 0.0), float(size))
        y = min(max(y + length * math.sin(heading), 0.0), float(size))
        points.append((x, y))
    return Stroke(dice.between(brush.width) * size / REFERENCE_SIZE, tuple(points))
