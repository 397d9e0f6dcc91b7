"""Faces in the tones of old photos: gray, of one tint from dark to light, faded or with a cast.

Published sets of faces are photos of today. A network that saw nothing else paints an old print's face in today's
colours, which is neither what was asked for nor near the image. Both sides of a pair get the tone, before anything
is degraded, so that tones are learned as something to keep.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_LUMA = (0.299, 0.587, 0.114)  # BT.601


@dataclass(frozen=True)
class Tone:
    """A photo's tone.

    dark_3, light_3: what black and white become, RGB, 0..1.
    color: how much of a pixel's difference from gray stays; 1 keeps it all.
    """

    dark_3: tuple[float, ...]
    light_3: tuple[float, ...]
    color: float


def draw_tone(generator: torch.Generator) -> Tone:
    """Three in ten gray, four tinted, three faded."""

    def between(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=generator, dtype=torch.float64))

    kind = between(0, 1)
    if kind < 0.3:
        return Tone((between(0, 0.35),) * 3, (between(0.6, 1),) * 3, 0)
    if kind < 0.7:
        black, white = between(0.02, 0.3), between(0.6, 1)
        dark = (black, black * between(0.8, 1.05), black * between(0.6, 1.05))
        light = (white, white * between(0.85, 1.02), white * between(0.6, 1.05))
        return Tone(dark, light, between(0, 0.3))
    contrast, middle = between(0.5, 1.1), 0.5 + between(-0.15, 0.15)
    cast = [middle + between(-0.06, 0.06) for _ in range(3)]
    dark, light = (tuple(each + half * contrast for each in cast) for half in (-0.5, 0.5))
    return Tone(dark, light, contrast * between(0.2, 1.3))


def in_tone(face_3HW: Tensor, tone: Tone) -> Tensor:
    """uint8 (3, H, W) -> the same, on the same device."""
    rgb_3HW = face_3HW.float()
    red_HW, green_HW, blue_HW = rgb_3HW
    luma_1HW = (_LUMA[0] * red_HW + _LUMA[1] * green_HW + _LUMA[2] * blue_HW)[None]
    dark_311, light_311 = (
        torch.tensor(each, device=face_3HW.device)[:, None, None] for each in (tone.dark_3, tone.light_3)
    )
    toned_3HW = 255 * dark_311 + (light_311 - dark_311) * luma_1HW + tone.color * (rgb_3HW - luma_1HW)
    return toned_3HW.round_().clamp_(0, 255).to(torch.uint8)
