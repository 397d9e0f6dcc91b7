"""Clean faces made worse as in training, so that restorations can be compared with them.

Shape legend: B images, H W height and width, C channels; S side of a square.
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
from ..faces.events import DegradationKind, Event, Value
from ..imaging import tensors as imaging
from ..runtime import memory
from ..runtime.progress import OnProgress, no_progress
from .limits import DEGRADATION_NAMES, MAX_SEED

DEGRADING = "degrading"
DEGRADATIONS: Mapping[str, Degradation] = {name: {**PRESETS, **LEVELS}[name] for name in DEGRADATION_NAMES}
# Values per pixel and colour while one image is worked on.
WORKING_COPIES = 8


@dataclass(frozen=True, eq=False)
class DegradedImages:
    """Degraded images.

    images_BHWC: float32 [0, 1] in steps of 1/255, alpha kept.
    events: what was done to each image, in order.
    """

    images_BHWC: Tensor
    events: tuple[Event, ...]


@torch.no_grad()
def degrade_images(
    images_BHWC: Tensor, *, kind: str, seed: int, on_progress: OnProgress | None = None
) -> DegradedImages:
    """Blur, shrink, add noise, compress and enlarge again, by numbers that `seed` and an image's place determine.

    Strengths are meant for 512 faces that fill their image; an image of another size gets them scaled by its longer
    side, and one that is not square is mirrored to a square while it is worked on.

    images_BHWC: floats in [0, 1], gray, RGB or RGBA.
    kind: one of DEGRADATION_NAMES.
    seed: 0..2^64-1.
    on_progress: called with (stage, done, total); may raise to cancel.
    Raises ValueError naming the input and the fix.
    """
    if kind not in DEGRADATIONS:
        raise ValueError(f"kind must be one of {', '.join(DEGRADATION_NAMES)}, got {kind!r}")
    if not 0 <= seed <= MAX_SEED:
        raise ValueError(f"seed must be from 0 to {MAX_SEED}, got {seed}")
    imaging.check_layout(images_BHWC)
    batch, height, width, channels = images_BHWC.shape
    side = max(height, width)
    if side < 2:
        raise ValueError("images must have more than 1 pixel to be degraded: choose larger ones")
    needed = 4 * (batch * height * width * channels + WORKING_COPIES * side * side * 3)
    memory.require(needed, "cpu", f"degrading {batch} images of {width}x{height} pixels")
    source = imaging.split_alpha(images_BHWC)
    report = on_progress or no_progress
    degraded_BHW3 = torch.empty_like(source.rgb_BHW3, memory_format=torch.contiguous_format)
    events: list[Event] = []
    for index, clean_HW3 in enumerate(source.rgb_BHW3):
        report(DEGRADING, index, batch)
        drawn = draw(DEGRADATIONS[kind], side, _dice(seed, index))
        levels_HW3 = (clean_HW3.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
        degraded_BHW3[index] = torch.from_numpy(_degraded(levels_HW3, drawn)).to(degraded_BHW3) / 255
        events += [Event(kind, index, values=values) for kind, values in facts_of(drawn)]
    report(DEGRADING, batch, batch)
    return DegradedImages(imaging.merge_alpha(degraded_BHW3, source.alpha_BHW1), tuple(events))


Fact = tuple[DegradationKind, Mapping[str, Value]]


def facts_of(drawn: Drawn) -> list[Fact]:
    """What happens to an image, in the order in which it happens."""
    facts: list[Fact] = []
    if drawn.strokes:
        facts.append(("strokes", {"count": len(drawn.strokes)}))
    if (blur := drawn.blur) is not None:
        if blur.sigma_y == blur.sigma_x:
            facts.append(("blur", {"sigma": blur.sigma_x}))
        else:
            sigmas = {"sigma_x": blur.sigma_x, "sigma_y": blur.sigma_y, "degrees": math.degrees(blur.angle)}
            facts.append(("oval_blur", sigmas))
    facts += _wear(drawn)
    if drawn.low_size is not None:
        facts.append(("shrunk", {"factor": drawn.size / drawn.low_size, "size": drawn.low_size}))
    if drawn.noise_sigma is not None:
        facts.append(("noise", {"sigma": drawn.noise_sigma}))
    if drawn.jpeg_quality is not None:
        facts.append(("jpeg", {"quality": drawn.jpeg_quality}))
    if (colors := drawn.colors) is not None:
        if colors.shift_rgb is not None:
            facts.append(("color_shift", dict(zip(("red", "green", "blue"), colors.shift_rgb, strict=True))))
        for name, value in colors.adjustments:
            facts.append(("adjusted", {"what": name, "factor": value}))
        if colors.gray:
            facts.append(("gray", {}))
    return facts or [("undamaged", {})]


def _wear(drawn: Drawn) -> list[Fact]:
    """What an old print and its scan suffer."""
    facts: list[Fact] = []
    if drawn.lens_sigma is not None:
        facts.append(("lens_blur", {"sigma": drawn.lens_sigma}))
    if (grain := drawn.grain) is not None:
        facts.append(("grain", {"strength": grain.strength, "width": grain.sigma}))
    if (halftone := drawn.halftone) is not None:
        first, second = halftone.screens[0]
        shape = "lines" if first == second else "dots"
        period = 1 / math.hypot(first.along_x, first.along_y)
        facts.append(("screen", {"shape": shape, "period": period, "strength": halftone.strength}))
    if (fading := drawn.fading) is not None:
        facts.append(("fading", {"strength": fading.strength, "toward": fading.toward}))
    if drawn.marks:
        scratches = sum(len(mark.points) > 1 for mark in drawn.marks)
        facts.append(("scratches", {"scratches": scratches, "specks": len(drawn.marks) - scratches}))
    if drawn.scan_sigma is not None:
        facts.append(("scanner_blur", {"sigma": drawn.scan_sigma}))
    return facts


def _degraded(levels_HW3: np.ndarray, drawn: Drawn) -> np.ndarray:
    """uint8 to the same; the image lies in the middle of a square that mirrors it."""
    height, width = levels_HW3.shape[:2]
    top, left = (drawn.size - height) // 2, (drawn.size - width) // 2
    around = ((top, drawn.size - height - top), (left, drawn.size - width - left), (0, 0))
    square_SS3 = np.ascontiguousarray(np.pad(levels_HW3, around, mode="symmetric"))
    return degrade_on_cpu(square_SS3, drawn)[top : top + height, left : left + width]


def _dice(seed: int, index: int) -> torch.Generator:
    """A generator of its own for every image, whatever batch it comes in."""
    digest = hashlib.sha256(f"{seed}/{index}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
