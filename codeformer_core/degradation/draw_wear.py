"""The random numbers of an old print's wear. Lengths are in pixels of the face itself, already scaled from 512."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .dice import Dice
from .ranges import REFERENCE_SIZE
from .wear import Fading, Grain, Halftone, Scratches

# Angles between the screens of red, green and blue in a colour print.
ROSETTE = (0.0, math.pi / 6, math.pi / 3)
FADING_WAVES = 4
# Scratches run along the film or the edge of the paper as often as in any direction; hairs are short and bent.
UPRIGHT, UPRIGHT_SPREAD = 0.5, 0.06
HAIRS, HAIR_LENGTH, HAIR_BEND = 0.4, (0.02, 0.12), 1.2
SCRATCH_LENGTH, SCRATCH_BEND = (0.1, 1.2), 0.04
LINE_STEPS = 6
LIGHT, LIGHT_LEVELS, DARK_LEVELS = 0.65, (190.0, 255.0), (0.0, 70.0)


@dataclass(frozen=True)
class Wave:
    """cos(2 pi (along_x x + along_y y) + phase)

    along_x, along_y: cycles per pixel.
    phase: radians.
    """

    along_x: float
    along_y: float
    phase: float


@dataclass(frozen=True)
class DrawnGrain:
    """strength: levels.
    sigma: pixels.
    chroma: 0..1.
    seed: of the noise, see noise.py.
    """

    strength: float
    sigma: float
    chroma: float
    seed: int


@dataclass(frozen=True)
class DrawnHalftone:
    """screens: one for all colours, or three for red, green and blue; each the mean of two waves.
    strength: 0..1.
    """

    screens: tuple[tuple[Wave, Wave], ...]
    strength: float


@dataclass(frozen=True)
class DrawnFading:
    """strength: 0..1.
    toward: levels.
    waves: their sum says how faded a place is.
    """

    strength: float
    toward: float
    waves: tuple[Wave, ...]


@dataclass(frozen=True)
class Mark:
    """A scratch, hair or speck.

    points: (x, y) in pixels; one point is a round speck.
    width: pixels.
    level: of 255.
    opacity: 0..1.
    """

    points: tuple[tuple[float, float], ...]
    width: float
    level: float
    opacity: float


def draw_grain(grain: Grain, size: int, dice: Dice) -> DrawnGrain | None:
    if dice.share() >= grain.share:
        return None
    sigma = dice.between(grain.sigma) * size / REFERENCE_SIZE
    return DrawnGrain(dice.between(grain.strength), sigma, dice.between(grain.chroma), dice.noise_seed())


def draw_halftone(halftone: Halftone, size: int, dice: Dice) -> DrawnHalftone | None:
    """A period never gets under two pixels: smaller faces couldn't show it."""
    if dice.share() >= halftone.share:
        return None
    period = max(2.0, dice.between(halftone.period) * size / REFERENCE_SIZE)
    strength, angle = dice.between(halftone.strength), dice.between((0, math.pi))
    phases = (dice.between((0, 2 * math.pi)), dice.between((0, 2 * math.pi)))
    between_waves = 0.0 if dice.share() < halftone.lines else math.pi / 2
    if between_waves == 0:
        phases = phases[:1] * 2
    turns = ROSETTE if dice.share() < halftone.rosette else (0.0,)
    screens: list[tuple[Wave, Wave]] = []
    for turn in turns:
        first, second = (
            Wave(math.cos(direction) / period, math.sin(direction) / period, phase)
            for direction, phase in zip((angle + turn, angle + turn + between_waves), phases, strict=True)
        )
        screens.append((first, second))
    return DrawnHalftone(tuple(screens), strength)


def draw_fading(fading: Fading, size: int, dice: Dice) -> DrawnFading | None:
    if dice.share() >= fading.share:
        return None
    strength, toward = dice.between(fading.strength), dice.between(fading.toward)
    waves: list[Wave] = []
    for _ in range(FADING_WAVES):
        frequency, direction = dice.between(fading.cycles) / size, dice.between((0, 2 * math.pi))
        phase = dice.between((0, 2 * math.pi))
        waves.append(Wave(frequency * math.cos(direction), frequency * math.sin(direction), phase))
    return DrawnFading(strength, toward, tuple(waves))


def draw_marks(scratches: Scratches, size: int, dice: Dice) -> tuple[Mark, ...]:
    if dice.share() >= scratches.share:
        return ()
    lines = [_draw_line(scratches, size, dice) for _ in range(dice.whole(scratches.lines))]
    specks = [_draw_speck(scratches, size, dice) for _ in range(dice.whole(scratches.specks))]
    return (*lines, *specks)


def _draw_line(scratches: Scratches, size: int, dice: Dice) -> Mark:
    """A way of a few steps that bends to one side."""
    x, y = dice.between((0, size)), dice.between((0, size))
    if dice.share() < HAIRS:
        length, bend = dice.between(HAIR_LENGTH), dice.between((-HAIR_BEND, HAIR_BEND))
        heading = dice.between((0, 2 * math.pi))
    else:
        length, bend = dice.between(SCRATCH_LENGTH), dice.between((-SCRATCH_BEND, SCRATCH_BEND))
        spread = UPRIGHT_SPREAD if dice.share() < UPRIGHT else math.pi
        heading = math.pi / 2 + dice.between((-spread, spread))
    points = [(x, y)]
    for _ in range(LINE_STEPS):
        x += length * size / LINE_STEPS * math.cos(heading)
        y += length * size / LINE_STEPS * math.sin(heading)
        heading += bend / LINE_STEPS
        points.append((x, y))
    return _mark(tuple(points), scratches, size, dice)


def _draw_speck(scratches: Scratches, size: int, dice: Dice) -> Mark:
    return _mark(((dice.between((0, size)), dice.between((0, size))),), scratches, size, dice)


def _mark(points: tuple[tuple[float, float], ...], scratches: Scratches, size: int, dice: Dice) -> Mark:
    width = dice.between(scratches.width) * size / REFERENCE_SIZE
    level = dice.between(LIGHT_LEVELS if dice.share() < LIGHT else DARK_LEVELS)
    return Mark(points, width, level, dice.between(scratches.opacity))
