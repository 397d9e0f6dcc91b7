"""Degradation presets: a range for each number, and the published ranges."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from .ranges import check_range, check_share
from .wear import Fading, Grain, Halftone, RoundBlur, Scratches


@dataclass(frozen=True)
class ColorJitter:
    """Colours of the degraded side, in this order: shift, adjustments in random order, gray.

    shift: each of R, G, B by up to so many of 255 levels.
    shift_share: 0..1, of the faces. They get the shift.
    brightness, contrast, saturation: factors, 1 changes nothing.
    hue: up to so many turns to either side.
    jitter_share: 0..1, of the faces. They get these four.
    gray_share: 0..1, of the faces. They lose their colour.
    Raises ValueError for values outside.
    """

    shift: float
    shift_share: float
    brightness: tuple[float, float]
    contrast: tuple[float, float]
    saturation: tuple[float, float]
    hue: float
    jitter_share: float
    gray_share: float

    def __post_init__(self) -> None:
        check_range("color.shift", (self.shift, self.shift), 0, 255)
        for name in ("brightness", "contrast", "saturation"):
            check_range(f"color.{name}", getattr(self, name), 0, math.inf)
        check_range("color.hue", (self.hue, self.hue), 0, 0.5)
        for name in ("shift_share", "jitter_share", "gray_share"):
            check_range(f"color.{name}", (getattr(self, name),) * 2, 0, 1)


@dataclass(frozen=True)
class Brush:
    """White brush strokes on the clean face: how many, of how many vertices, how wide in pixels of a 512 face."""

    strokes: tuple[int, int]
    vertices: tuple[int, int]
    width: tuple[float, float]

    def __post_init__(self) -> None:
        check_range("brush.strokes", self.strokes, 0, math.inf, whole=True)
        check_range("brush.vertices", self.vertices, 1, math.inf, whole=True)
        check_range("brush.width", self.width, 0, math.inf)


@dataclass(frozen=True)
class Degradation:
    """A range for each number, drawn uniformly; None leaves the step out. In the order of the steps:

    clean_share: 0..1, of the faces. Nothing at all happens to these.
    brush: white strokes.
    blur_sigma: pixels of a 512 face. Gaussian.
    lens: small blur in some of the faces; takes a tenth of the time of blur_sigma.
    grain, halftone, fading, scratches, scan: wear of a print, and the blur of its scan.
    downscale: r. The face shrinks to int(size // r) pixels.
    noise: levels of 255. Standard deviation of Gaussian noise.
    jpeg_quality: 1..100, both ends included. Then the face is enlarged again.
    color: colours of the result.
    Raises ValueError for a range that is reversed or outside of what its step can do.
    """

    blur_sigma: tuple[float, float] | None
    downscale: tuple[float, float] | None
    noise: tuple[float, float] | None
    jpeg_quality: tuple[int, int] | None
    color: ColorJitter | None = None
    brush: Brush | None = None
    clean_share: float | None = None
    lens: RoundBlur | None = None
    grain: Grain | None = None
    halftone: Halftone | None = None
    fading: Fading | None = None
    scratches: Scratches | None = None
    scan: RoundBlur | None = None

    def __post_init__(self) -> None:
        if self.blur_sigma is not None:
            check_range("blur_sigma", self.blur_sigma, 0.01, math.inf)
        if self.downscale is not None:
            check_range("downscale", self.downscale, 1, math.inf)
        if self.noise is not None:
            check_range("noise", self.noise, 0, 255)
        if self.jpeg_quality is not None:
            check_range("jpeg_quality", self.jpeg_quality, 1, 100, whole=True)
        if self.clean_share is not None:
            check_share("clean_share", self.clean_share)


# CodeFormer's published option files (sczhou/CodeFormer at b33cc7d) and its paper, arXiv 2206.11253, section 4.1.
_LARGE = Degradation(blur_sigma=(1, 15), downscale=(4, 30), noise=(0, 20), jpeg_quality=(30, 80))
_COLOR = ColorJitter(
    shift=20,
    shift_share=0.3,
    brightness=(0.5, 1.5),
    contrast=(0.5, 1.5),
    saturation=(0, 1.5),
    hue=0.1,
    jitter_share=0.3,
    gray_share=0.01,
)
# Sharp or nearly sharp: prints, scans, images from phones and the net. Ours; each face gets one or two kinds of wear.
_PHOTO = Degradation(
    blur_sigma=None,
    downscale=(1, 3),
    noise=(0, 10),
    jpeg_quality=(60, 95),
    color=ColorJitter(
        shift=12,
        shift_share=0.15,
        brightness=(0.85, 1.15),
        contrast=(0.75, 1.2),
        saturation=(0.7, 1.1),
        hue=0,
        jitter_share=0.2,
        gray_share=0,
    ),
    clean_share=0.15,
    lens=RoundBlur(share=0.85, sigma=(0.2, 2)),
    grain=Grain(share=0.4, strength=(2, 12), sigma=(0.5, 1.5), chroma=(0, 0.3)),
    halftone=Halftone(share=0.08, period=(3, 8), strength=(0.1, 0.4), lines=0.25, rosette=0.4),
    fading=Fading(share=0.2, strength=(0.1, 0.45), toward=(70, 235), cycles=(0.1, 1)),
    scratches=Scratches(share=0.2, lines=(0, 6), specks=(0, 30), width=(0.6, 2.5), opacity=(0.2, 0.9)),
    scan=RoundBlur(share=0.25, sigma=(0.3, 0.9)),
)

# Prints without colour, or with little of it left; what colorizing learns from beside the published degradation.
_GRAY = replace(
    _PHOTO,
    clean_share=None,
    color=ColorJitter(
        shift=12,
        shift_share=0.15,
        brightness=(0.9, 1.1),
        contrast=(0.8, 1.1),
        saturation=(0, 0.35),
        hue=0,
        jitter_share=1,
        gray_share=0.6,
    ),
)

PRESETS: Mapping[str, Degradation] = MappingProxyType(
    {
        "stage2": _LARGE,
        "large": _LARGE,
        "small": Degradation(blur_sigma=(0.1, 10), downscale=(1, 12), noise=(0, 15), jpeg_quality=(60, 100)),
        "paper": Degradation(blur_sigma=(1, 15), downscale=(1, 30), noise=(0, 20), jpeg_quality=(30, 90)),
        "colorization": Degradation(
            blur_sigma=_LARGE.blur_sigma,
            downscale=_LARGE.downscale,
            noise=_LARGE.noise,
            jpeg_quality=_LARGE.jpeg_quality,
            color=_COLOR,
        ),
        "inpainting": Degradation(
            blur_sigma=None,
            downscale=None,
            noise=None,
            jpeg_quality=None,
            brush=Brush(strokes=(1, 3), vertices=(8, 27), width=(30, 70)),
        ),
        "photo": _PHOTO,
        "gray": _GRAY,
        "clean": Degradation(blur_sigma=None, downscale=None, noise=None, jpeg_quality=None),
    }
)


def _level(blur_sigma: float, downscale: float, noise: float, jpeg_quality: int) -> Degradation:
    return Degradation((blur_sigma, blur_sigma), (downscale, downscale), (noise, noise), (jpeg_quality, jpeg_quality))


# Fixed strengths for evaluation, ours: everything grows with the factor, from barely visible to the paper's worst.
LEVELS: Mapping[str, Degradation] = MappingProxyType(
    {
        "x2": _level(1, 2, 2, 90),
        "x4": _level(2, 4, 5, 75),
        "x8": _level(4, 8, 10, 60),
        "x16": _level(8, 16, 15, 45),
        "x30": _level(15, 30, 20, 30),
    }
)
