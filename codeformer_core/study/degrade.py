"""Clean faces made worse as in training, so that restorations can be compared with them.

Shape legend: B pictures, H W height and width, C channels; S side of a square.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..degradation import LEVELS, PRESETS, Degradation, Drawn, degrade_on_cpu, draw
from ..imaging import tensors as imaging
from ..runtime import memory
from ..runtime.progress import OnProgress, no_progress
from .limits import KINDS, LARGEST_SEED

DEGRADING = "degrading"
DEGRADATIONS: Mapping[str, Degradation] = {name: {**PRESETS, **LEVELS}[name] for name in KINDS}
# Values per pixel and colour while one picture is worked on.
WORKING_COPIES = 8


@dataclass(frozen=True, eq=False)
class DegradedPictures:
    """images_BHWC: float32 [0, 1] in steps of 1/255, alpha kept. lines: what was drawn for each picture."""

    images_BHWC: Tensor
    lines: tuple[str, ...]

    def summary(self) -> str:
        return "\n".join(self.lines)


@torch.no_grad()
def degrade_pictures(
    images_BHWC: Tensor, *, kind: str, seed: int, on_progress: OnProgress | None = None
) -> DegradedPictures:
    """Blur, shrink, add noise, compress and enlarge again, by numbers that `seed` and a picture's place determine.

    images_BHWC: floats in [0, 1], gray, RGB or RGBA. Strengths are meant for 512 faces that fill their picture; a
    picture of another size gets them scaled by its longer side, and one that is not square is mirrored to a square
    while it is worked on. kind: one of KINDS. seed: 0..2^64-1. Raises ValueError naming the input and the cure.
    """
    if kind not in DEGRADATIONS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    if not 0 <= seed <= LARGEST_SEED:
        raise ValueError(f"seed must be from 0 to {LARGEST_SEED}, got {seed}")
    imaging.check_layout(images_BHWC)
    batch, height, width, channels = images_BHWC.shape
    side = max(height, width)
    if side < 2:
        raise ValueError("pictures must have more than 1 pixel to be degraded: choose larger ones")
    needed = 4 * (batch * height * width * channels + WORKING_COPIES * side * side * 3)
    memory.require(needed, "cpu", f"degrading {batch} pictures of {width}x{height} pixels")
    source = imaging.split_alpha(images_BHWC)
    report = on_progress or no_progress
    degraded_BHW3 = torch.empty_like(source.rgb_BHW3, memory_format=torch.contiguous_format)
    lines: list[str] = []
    for index, clean_HW3 in enumerate(source.rgb_BHW3):
        report(DEGRADING, index, batch)
        drawn = draw(DEGRADATIONS[kind], side, _dice(seed, index))
        levels_HW3 = (clean_HW3.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
        degraded_BHW3[index] = torch.from_numpy(_degraded(levels_HW3, drawn)).to(degraded_BHW3) / 255
        lines.append(f"picture {index + 1}: {describe(drawn)}")
    report(DEGRADING, batch, batch)
    return DegradedPictures(imaging.merge_alpha(degraded_BHW3, source.alpha_BHW1), tuple(lines))


def describe(drawn: Drawn) -> str:
    """What happens to a picture, in the order in which it happens."""
    words: list[str] = []
    if drawn.strokes:
        words.append("1 white stroke" if len(drawn.strokes) == 1 else f"{len(drawn.strokes)} white strokes")
    if (blur := drawn.blur) is not None:
        shape = f"{blur.sigma_x:.1f}"
        if blur.sigma_y != blur.sigma_x:
            shape += f" x {blur.sigma_y:.1f} px at {math.degrees(blur.angle):.0f} degrees"
        else:
            shape += " px"
        words.append(f"blur of sigma {shape}")
    words += _wear(drawn)
    if drawn.low_size is not None:
        words.append(f"shrunk {drawn.size / drawn.low_size:.1f} times to {drawn.low_size} px")
    if drawn.noise_sigma is not None:
        words.append(f"noise of sigma {drawn.noise_sigma:.1f} of 255")
    if drawn.jpeg_quality is not None:
        words.append(f"JPEG quality {drawn.jpeg_quality}")
    if (colors := drawn.colors) is not None:
        if colors.shift_rgb is not None:
            words.append("colours shifted by " + ", ".join(f"{shift:+.0f}" for shift in colors.shift_rgb))
        words += [f"{name} {value:.2f}" for name, value in colors.adjustments]
        words += ["gray"] if colors.gray else []
    return ", ".join(words) or "nothing"


def _wear(drawn: Drawn) -> list[str]:
    """What an old print and its scan suffer."""
    words: list[str] = []
    if drawn.lens_sigma is not None:
        words.append(f"lens blur of sigma {drawn.lens_sigma:.1f} px")
    if (grain := drawn.grain) is not None:
        words.append(f"grain of sigma {grain.strength:.1f} of 255, {grain.sigma:.1f} px wide")
    if (halftone := drawn.halftone) is not None:
        first, second = halftone.screens[0]
        kind = "lines" if first == second else "dots"
        period = 1 / math.hypot(first.along_x, first.along_y)
        words.append(f"a screen of {kind} {period:.1f} px apart, strength {halftone.strength:.2f}")
    if (fading := drawn.fading) is not None:
        words.append(f"parts faded by {fading.strength:.2f} toward {fading.toward:.0f}")
    if drawn.marks:
        lines = sum(len(mark.points) > 1 for mark in drawn.marks)
        words.append(f"{lines} scratches and {len(drawn.marks) - lines} specks")
    if drawn.scan_sigma is not None:
        words.append(f"scanner blur of sigma {drawn.scan_sigma:.1f} px")
    return words


def _degraded(levels_HW3: np.ndarray, drawn: Drawn) -> np.ndarray:
    """uint8 to the same; the picture lies in the middle of a square that mirrors it."""
    height, width = levels_HW3.shape[:2]
    top, left = (drawn.size - height) // 2, (drawn.size - width) // 2
    around = ((top, drawn.size - height - top), (left, drawn.size - width - left), (0, 0))
    square_SS3 = np.ascontiguousarray(np.pad(levels_HW3, around, mode="symmetric"))
    return degrade_on_cpu(square_SS3, drawn)[top : top + height, left : left + width]


def _dice(seed: int, index: int) -> torch.Generator:
    """A generator of its own for every picture, whatever batch it comes in."""
    digest = hashlib.sha256(f"{seed}/{index}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
