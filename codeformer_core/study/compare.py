"""One face restored with several fidelities, as a grid and in numbers.

Shape legend: B pictures, H W height and width, C channels; N restored faces, S = 512.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import images as pictures
from ..aligned import restore_aligned
from ..faces.found import Faces
from ..faces.geometry import CROP_SIZE, estimate_alignment
from ..progress import OnProgress, no_progress
from ..restore import check_restorer
from ..restorer import FaceRestorer
from ..steps.crop import crop_faces
from ..training.metrics.pixels import Sharpness
from .limits import FEWEST_STEPS, MOST_STEPS
from .tiles import Box, draw_grid

COMPARING = "comparing fidelities"
# Fidelity widgets go in steps of 0.01: what a tile shows is then exactly what its number gives.
DIGITS = 2
PLACEHOLDER_GRAY = 0.5


@dataclass(frozen=True, eq=False)
class ComparedFidelities:
    """grid_HW3: labelled tiles, the input first. faces_NSS3: the restored faces alone. Both RGB [0, 1].

    fidelities: of each restored face; boxes: of its tile, as fractions of the grid. Both are empty where there was no
    face; faces_NSS3 then holds one gray picture. lines: what was compared, and the numbers.
    """

    grid_HW3: Tensor
    faces_NSS3: Tensor
    fidelities: tuple[float, ...]
    boxes: tuple[Box, ...]
    lines: tuple[str, ...]

    def summary(self) -> str:
        return "\n".join(self.lines)


@torch.no_grad()
def compare_fidelities(
    images_BHWC: Tensor,
    *,
    restorer: FaceRestorer,
    faces: Faces | None = None,
    steps: int = 5,
    on_progress: OnProgress | None = None,
) -> ComparedFidelities:
    """Restore one face with `steps` fidelities from 0 to 1, evenly, rounded to 0.01.

    images_BHWC: floats in [0, 1]; the first one is an aligned face of any size, or, with `faces`, they are the pictures
    in which these were found, and the first face is cropped. steps: 2..21. on_progress is told before each tile and may
    raise to cancel. Raises ValueError naming the input and the cure.
    """
    check_restorer(restorer, 0.0, None)
    if not FEWEST_STEPS <= steps <= MOST_STEPS:
        raise ValueError(f"steps must be from {FEWEST_STEPS} to {MOST_STEPS}, got {steps}")
    crop_1SS3, lines = _aligned_face(images_BHWC) if faces is None else _first_crop(images_BHWC, faces)
    if crop_1SS3 is None:
        gray_1SS3 = torch.full((1, CROP_SIZE, CROP_SIZE, 3), PLACEHOLDER_GRAY)
        return ComparedFidelities(draw_grid(["no face"], gray_1SS3).image_HW3, gray_1SS3, (), (), tuple(lines))
    fidelities = tuple(round(step / (steps - 1), DIGITS) for step in range(steps))
    report = on_progress or no_progress
    restored = []
    for done, fidelity in enumerate(fidelities):
        report(COMPARING, done, steps)
        restored.append(restore_aligned(crop_1SS3, restorer=restorer, fidelity=fidelity))
    report(COMPARING, steps, steps)
    faces_NSS3 = torch.cat(restored)
    grid = draw_grid(
        ["input", *(f"w {fidelity:g}" for fidelity in fidelities)], torch.cat((crop_1SS3.to(faces_NSS3), faces_NSS3))
    )
    lines += [f"restored by {restorer.name}", *_numbers(fidelities, faces_NSS3, crop_1SS3)]
    return ComparedFidelities(grid.image_HW3, faces_NSS3, fidelities, grid.boxes[1:], tuple(lines))


def _aligned_face(images_BHWC: Tensor) -> tuple[Tensor, list[str]]:
    pictures.check_layout(images_BHWC)
    first = pictures.take_apart(images_BHWC[:1])
    height, width = first.rgb_BHW3.shape[1:3]
    lines = [f"compared: the first of {len(images_BHWC)} aligned faces" if len(images_BHWC) > 1 else "compared: 1 face"]
    if height != width:
        lines.append(
            f"the picture of {width}x{height} pixels is not square and was taken for an aligned face: connect faces to "
            "compare a face of a whole picture"
        )
    return pictures.resize(first.rgb_BHW3, CROP_SIZE, CROP_SIZE), lines


def _first_crop(images_BHWC: Tensor, faces: Faces) -> tuple[Tensor | None, list[str]]:
    """The first face that can be aligned; None where there is none."""
    for index, face in faces.in_order():
        if estimate_alignment(face) is None:
            continue
        alone = [[face] if place == index else [] for place in range(len(faces.per_picture))]
        cropped = crop_faces(images_BHWC, faces.with_faces(alone))
        if len(cropped.crops_NHW3):
            number = faces.per_picture[index].index(face) + 1
            return cropped.crops_NHW3, [f"compared: face {number} of picture {index + 1}", *cropped.remarks]
    return None, ["nothing was compared: there is no face; the gray picture stands for it"]


def _numbers(fidelities: tuple[float, ...], faces_NSS3: Tensor, crop_1SS3: Tensor) -> list[str]:
    """A line for each fidelity: how far the face is from the input, and how sharp beside it."""
    made_N3SS = faces_NSS3.permute(0, 3, 1, 2).clamp(0, 1)
    given_N3SS = crop_1SS3.to(made_N3SS).permute(0, 3, 1, 2).clamp(0, 1).expand_as(made_N3SS)
    apart_N = ((made_N3SS - given_N3SS).abs().mean((1, 2, 3)) * 255).tolist()
    sharpness_N = Sharpness().measure(made_N3SS, given_N3SS).tolist()
    return [
        f"w {fidelity:g}: L1 to the input {apart:.2f} of 255"
        # An input of one colour has no sharpness.
        + (f", sharpness {sharpness:.2f} times the input's" if math.isfinite(sharpness) else "")
        for fidelity, apart, sharpness in zip(fidelities, apart_N, sharpness_N, strict=True)
    ]
