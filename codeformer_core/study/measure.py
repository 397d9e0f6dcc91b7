"""How similar images are to their references, image by image.

Shape legend: B images, H W height and width, C channels.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..faces.events import Event
from ..imaging import tensors as imaging
from ..metrics.identity import Identity
from ..metrics.pixels import GradientSimilarity
from ..metrics.similarity import psnr, ssim
from ..runtime import memory
from ..runtime.errors import InputError
from ..runtime.progress import OnProgress, no_progress

MEASURING = "measuring"
PSNR, SSIM, GRADIENTS, L1, IDENTITY = "PSNR dB", "SSIM", "gradients", "L1 of 255", "identity"
# Values per pixel while one pair is measured: SSIM's maps.
WORKING_COPIES = 3 * 14
# How far the proportions of images and references may differ, as a part of 1: sizes are rounded.
SAME_PROPORTIONS = 0.02

# (made_1 3HW, reference_1 3HW), RGB [0, 1] -> one value.
Measure = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Measured:
    """The measures of a batch of images.

    rows: of each image a value per name, in the order of `names`.
    notes: what else is to know.
    """

    names: tuple[str, ...]
    rows: tuple[tuple[float, ...], ...]
    notes: tuple[Event, ...]

    @property
    def events(self) -> tuple[Event, ...]:
        rows = [
            Event("measured", image, values=dict(zip(self.names, row, strict=True)))
            for image, row in enumerate(self.rows)
        ]
        return (*rows, *self.notes)

    def mean(self, name: str) -> float:
        """Over the images; infinite where one of them is."""
        place = self.names.index(name)
        return math.fsum(row[place] for row in self.rows) / len(self.rows)


@torch.no_grad()
def measure_images(
    images_BHWC: Tensor,
    reference_BHWC: Tensor,
    *,
    identity: str | os.PathLike[str] | None = None,
    on_progress: OnProgress | None = None,
) -> Measured:
    """PSNR, SSIM, the similarity of gradients and L1 of each image to its reference; colours only, within [0, 1].

    images_BHWC: floats, gray, RGB or RGBA; resized to the references' size.
    reference_BHWC: floats, gray, RGB or RGBA, one for each image or one for all; a single image
    is compared with all of them.
    identity: an ArcFace-like ONNX file; it compares faces that are aligned to the 512 template, of any square size.
    on_progress: called with (stage, done, total) before each image; may raise to cancel.
    Raises ValueError naming the input and the fix, and WeightsError for a file that is not such a network.
    """
    imaging.check_layout(images_BHWC)
    imaging.check_layout(reference_BHWC, "references")
    count = _pairs(len(images_BHWC), len(reference_BHWC))
    height, width = reference_BHWC.shape[1:3]
    memory.require(WORKING_COPIES * height * width * 4, "cpu", f"measuring an image of {width}x{height} pixels")
    made, reference = imaging.split_alpha(images_BHWC), imaging.split_alpha(reference_BHWC, "references")
    measures: dict[str, Measure] = {PSNR: psnr, SSIM: ssim, GRADIENTS: GradientSimilarity().measure, L1: _l1}
    if identity is not None:
        if height != width:
            raise InputError(
                f"identity compares aligned faces, which are square, but the reference has {width}x{height} pixels. "
                "Give aligned crops, or leave identity out",
                "identity_not_square",
            )
        measures[IDENTITY] = Identity(identity).measure
    report = on_progress or no_progress
    rows: list[tuple[float, ...]] = []
    for index in range(count):
        report(MEASURING, index, count)
        made_13HW = _resized(made.rgb_BHW3, index, height, width)
        reference_13HW = _resized(reference.rgb_BHW3, index, height, width)
        rows.append(tuple(float(measure(made_13HW, reference_13HW)) for measure in measures.values()))
    report(MEASURING, count, count)
    return Measured(tuple(measures), tuple(rows), tuple(_notes(images_BHWC, reference_BHWC)))


def _pairs(made: int, references: int) -> int:
    if made != references and 1 not in (made, references):
        raise ValueError(
            f"{made} images can't be compared with {references} references. "
            "Give one reference for each image, or one for all"
        )
    return max(made, references)


def _resized(rgb_BHW3: Tensor, index: int, height: int, width: int) -> Tensor:
    one_1HW3 = rgb_BHW3[index : index + 1] if len(rgb_BHW3) > 1 else rgb_BHW3
    return imaging.resize(one_1HW3, height, width).permute(0, 3, 1, 2).cpu().clamp(0, 1)


def _l1(made_13HW: Tensor, reference_13HW: Tensor) -> Tensor:
    return (made_13HW - reference_13HW).abs().double().mean() * 255


def _notes(images_BHWC: Tensor, reference_BHWC: Tensor) -> list[Event]:
    notes: list[Event] = []
    (height, width), (wanted_height, wanted_width) = images_BHWC.shape[1:3], reference_BHWC.shape[1:3]
    if (height, width) != (wanted_height, wanted_width):
        sizes = {"width": width, "height": height, "to_width": wanted_width, "to_height": wanted_height}
        notes.append(Event("measured_resized", values=sizes))
        if abs(width * wanted_height / (height * wanted_width) - 1) > SAME_PROPORTIONS:
            notes.append(Event("proportions_differ"))
    if len(images_BHWC) != len(reference_BHWC):
        notes.append(Event("one_reference" if len(reference_BHWC) == 1 else "one_image"))
    if images_BHWC.shape[-1] in (2, 4) or reference_BHWC.shape[-1] in (2, 4):
        notes.append(Event("alpha_ignored"))
    return notes
