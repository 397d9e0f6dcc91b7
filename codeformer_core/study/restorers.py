"""One face through several restorers, as a grid and in numbers.

Shape legend: B images, H W height and width, C channels; N restored faces, S = 512.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

import torch
from torch import Tensor

from ..faces.batch import FaceBatch
from ..faces.events import Event
from ..models.restorer import FaceRestorer, check_task, fidelity_of, without_fidelity
from ..pipeline.aligned_faces import restore_aligned
from ..runtime.progress import OnProgress, no_progress
from .one_face import FaceNumbers, measure_faces, number_events, one_face, placeholder
from .tiles import draw_grid

COMPARING = "comparing restorers"
# What fits above a tile.
LONGEST_WORD = 28


@dataclass(frozen=True, eq=False)
class ComparedRestorers:
    """One face through several restorers.

    grid_HW3: RGB [0, 1], labelled tiles, the input first.
    faces_NSS3: RGB [0, 1], the restored faces alone, in the order of the restorers; one gray image if there was no
    face.
    events: what was compared, and the numbers.
    crop_1SS3: RGB [0, 1], the face as it came; None if there was no face.
    numbers: of each restored face; empty if there was no face.
    """

    grid_HW3: Tensor
    faces_NSS3: Tensor
    events: tuple[Event, ...]
    crop_1SS3: Tensor | None = None
    numbers: tuple[FaceNumbers, ...] = ()


@torch.no_grad()
def compare_restorers(
    images_BHWC: Tensor,
    *,
    restorers: Sequence[FaceRestorer],
    fidelity: float | None = None,
    faces: FaceBatch | None = None,
    on_progress: OnProgress | None = None,
) -> ComparedRestorers:
    """Restore one face with each of the restorers.

    images_BHWC: floats in [0, 1]; the first one is an aligned face of any size, or, with `faces`, they are the images
    in which these were found, and the first face is cropped.
    fidelity: 0 to 1, for those that know one; each one's own if None.
    faces: found in the images.
    on_progress: called with (stage, done, total) before each tile; may raise to cancel.
    Raises ValueError naming the input and the fix.
    """
    if not restorers:
        raise ValueError("there is no restorer to compare. Give one or more")
    for restorer in restorers:
        check_task(restorer, "restoration")
    fidelities = [fidelity_of(restorer, fidelity) for restorer in restorers]
    face = one_face(images_BHWC, faces)
    if face.crop_1SS3 is None:
        return ComparedRestorers(draw_grid(["no face"], placeholder()).image_HW3, placeholder(), face.events)
    report = on_progress or no_progress
    restored: list[Tensor] = []
    notes: list[Event] = []
    for done, (restorer, chosen) in enumerate(zip(restorers, fidelities, strict=True)):
        report(COMPARING, done, len(restorers))
        # The restorers' own faces: the photo's detail would make them alike.
        made = restore_aligned(face.crop_1SS3, restorer=restorer, faces=face.faces, fidelity=chosen, detail=0)
        restored.append(made.images_BHWC)
        notes += [event for event in made.events if event.face is not None and event not in notes]
    report(COMPARING, len(restorers), len(restorers))
    faces_NSS3 = torch.cat(restored)
    names = [restorer.name for restorer in restorers]
    labels = ["input", *map(_short, names)]
    grid = draw_grid(labels, torch.cat((face.crop_1SS3.to(faces_NSS3), faces_NSS3)))
    numbers = measure_faces(names, faces_NSS3, face.crop_1SS3)
    events = [
        *face.events,
        *notes,
        *number_events(numbers),
        *without_fidelity(*restorers),
    ]
    used = {
        restorer.name: chosen for restorer, chosen in zip(restorers, fidelities, strict=True) if restorer.uses_fidelity
    }
    if len(set(used.values())) == 1:
        events.append(Event("fidelity", values={"fidelity": next(iter(used.values()))}))
    else:
        events += [Event("own_fidelity", values={"label": name, "fidelity": chosen}) for name, chosen in used.items()]
    return ComparedRestorers(grid.image_HW3, faces_NSS3, tuple(events), face.crop_1SS3, numbers)


def _short(name: str) -> str:
    stem = PurePath(name).stem
    return stem if len(stem) <= LONGEST_WORD else stem[: LONGEST_WORD - 1] + "…"
