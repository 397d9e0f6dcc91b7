"""One face restored with several fidelities, as a grid and in numbers.

Shape legend: B images, H W height and width, C channels; N restored faces, S = 512.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..faces.batch import FaceBatch
from ..faces.events import Event
from ..models.restorer import FaceRestorer, check_task, made_by, without_fidelity
from ..pipeline.aligned_faces import restore_aligned
from ..runtime.progress import OnProgress, no_progress
from .limits import MAX_STEPS, MIN_STEPS
from .one_face import FaceNumbers, measure_faces, number_events, one_face, placeholder
from .tiles import Box, draw_grid

COMPARING = "comparing fidelities"
# Fidelity widgets go in steps of 0.01: what a tile shows is then exactly what its number gives.
DIGITS = 2


@dataclass(frozen=True, eq=False)
class ComparedFidelities:
    """One face with several fidelities.

    grid_HW3: RGB [0, 1], labelled tiles, the input first.
    faces_NSS3: RGB [0, 1], the restored faces alone; one gray image if there was no face.
    fidelities: of each restored face; empty if there was no face.
    boxes: of each restored face's tile, as fractions of the grid; empty if there was no face.
    events: what was compared, and the numbers.
    crop_1SS3: RGB [0, 1], the face as it came; None if there was no face.
    numbers: of each restored face; empty if there was no face.
    """

    grid_HW3: Tensor
    faces_NSS3: Tensor
    fidelities: tuple[float, ...]
    boxes: tuple[Box, ...]
    events: tuple[Event, ...]
    crop_1SS3: Tensor | None = None
    numbers: tuple[FaceNumbers, ...] = ()


@torch.no_grad()
def compare_fidelities(
    images_BHWC: Tensor,
    *,
    restorer: FaceRestorer,
    faces: FaceBatch | None = None,
    steps: int = 5,
    on_progress: OnProgress | None = None,
) -> ComparedFidelities:
    """Restore one face with `steps` fidelities from 0 to 1, evenly, rounded to 0.01.

    images_BHWC: floats in [0, 1]; the first one is an aligned face of any size, or, with `faces`, they are the images
    in which these were found, and the first face is cropped.
    faces: found in the images.
    steps: 2..21.
    on_progress: called with (stage, done, total) before each tile; may raise to cancel.
    Raises ValueError naming the input and the fix.
    """
    check_task(restorer, "restoration")
    if not MIN_STEPS <= steps <= MAX_STEPS:
        raise ValueError(f"steps must be from {MIN_STEPS} to {MAX_STEPS}, got {steps}")
    face = one_face(images_BHWC, faces)
    if face.crop_1SS3 is None:
        gray_1SS3 = placeholder()
        return ComparedFidelities(draw_grid(["no face"], gray_1SS3).image_HW3, gray_1SS3, (), (), face.events)
    fidelities = tuple(round(step / (steps - 1), DIGITS) for step in range(steps))
    report = on_progress or no_progress
    restored: list[Tensor] = []
    for done, fidelity in enumerate(fidelities):
        report(COMPARING, done, steps)
        restored.append(restore_aligned(face.crop_1SS3, restorer=restorer, fidelity=fidelity, detail=0).images_BHWC)
    report(COMPARING, steps, steps)
    faces_NSS3 = torch.cat(restored)
    labels = [f"w {fidelity:g}" for fidelity in fidelities]
    grid = draw_grid(["input", *labels], torch.cat((face.crop_1SS3.to(faces_NSS3), faces_NSS3)))
    numbers = measure_faces(labels, faces_NSS3, face.crop_1SS3)
    events = [
        *face.events,
        *number_events(numbers),
        *without_fidelity(restorer),
        *made_by("restored_by", restorer),
    ]
    return ComparedFidelities(
        grid.image_HW3, faces_NSS3, fidelities, grid.boxes[1:], tuple(events), face.crop_1SS3, numbers
    )
