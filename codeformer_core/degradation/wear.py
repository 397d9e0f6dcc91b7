"""Wear of an old print, its scan or its copy in a newspaper: a range for each number, and the share of faces.

Lengths are in pixels of a 512 face; levels are of 255. Each effect is drawn by itself: a face can get several or none.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from .ranges import check_range, check_share


@dataclass(frozen=True)
class Grain:
    """Film grain, strongest in the midtones and weakest in black and white.

    share: 0..1, of the faces.
    strength: levels. Standard deviation in the midtones.
    sigma: pixels. Blur of the grain, which makes neighbours alike.
    chroma: 0..1. Standard deviation of the colour differences, as a share of that of the brightness.
    Raises ValueError for values outside.
    """

    share: float
    strength: tuple[float, float]
    sigma: tuple[float, float]
    chroma: tuple[float, float]

    def __post_init__(self) -> None:
        check_share("grain.share", self.share)
        check_range("grain.strength", self.strength, 0, 255)
        check_range("grain.sigma", self.sigma, 0.01, 20)
        check_range("grain.chroma", self.chroma, 0, 1)


@dataclass(frozen=True)
class Halftone:
    """A newspaper's screen of dots or lines, through a soft threshold.

    share: 0..1, of the faces.
    period: pixels, from one dot or line to the next.
    strength: 0..1. How much of the screened image is mixed in.
    lines: 0..1, of the screens. Lines; the others have dots.
    rosette: 0..1, of the screens. Each colour has its own angle, as in colour printing; in the others all share one.
    Raises ValueError for values outside.
    """

    share: float
    period: tuple[float, float]
    strength: tuple[float, float]
    lines: float
    rosette: float

    def __post_init__(self) -> None:
        check_share("halftone.share", self.share)
        check_range("halftone.period", self.period, 2, math.inf)
        check_range("halftone.strength", self.strength, 0, 1)
        check_share("halftone.lines", self.lines)
        check_share("halftone.rosette", self.rosette)


@dataclass(frozen=True)
class Fading:
    """Parts of the print move toward one gray level: they become lighter, darker, or lose contrast.

    share: 0..1, of the faces.
    strength: 0..1. How far the most faded part moves.
    toward: levels. Where it moves to.
    cycles: per face side. Frequency of the waves that the faded parts are made of.
    Raises ValueError for values outside.
    """

    share: float
    strength: tuple[float, float]
    toward: tuple[float, float]
    cycles: tuple[float, float]

    def __post_init__(self) -> None:
        check_share("fading.share", self.share)
        check_range("fading.strength", self.strength, 0, 1)
        check_range("fading.toward", self.toward, 0, 255)
        check_range("fading.cycles", self.cycles, 0, 8)


@dataclass(frozen=True)
class Scratches:
    """Scratches, hairs and specks of dust, light or dark and partly transparent.

    share: 0..1, of the faces.
    lines: count of scratches and hairs.
    specks: count of specks.
    width: pixels, of a line and of a speck.
    opacity: 0..1.
    Raises ValueError for values outside.
    """

    share: float
    lines: tuple[int, int]
    specks: tuple[int, int]
    width: tuple[float, float]
    opacity: tuple[float, float]

    def __post_init__(self) -> None:
        check_share("scratches.share", self.share)
        check_range("scratches.lines", self.lines, 0, 1000, whole=True)
        check_range("scratches.specks", self.specks, 0, 1000, whole=True)
        check_range("scratches.width", self.width, 0, 100)
        check_range("scratches.opacity", self.opacity, 0, 1)


@dataclass(frozen=True)
class RoundBlur:
    """A small Gaussian blur, the same in all directions: of a lens, or of a scanner over all that is on the print.

    share: 0..1, of the faces.
    sigma: pixels.
    Raises ValueError for values outside.
    """

    share: float
    sigma: tuple[float, float]

    def __post_init__(self) -> None:
        check_share("round blur's share", self.share)
        check_range("round blur's sigma", self.sigma, 0.01, 20)
