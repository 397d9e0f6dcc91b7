"""Which faces of a batch of images are worked on: detected or given, selected, aligned.

Shape legend: B images, H W their height and width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ..faces.batch import FaceBatch, unlike_images
from ..faces.detection import FaceDetector
from ..faces.events import Event, SkippedFace
from ..faces.selection import Selection
from ..faces.types import Face
from ..runtime.progress import OnProgress
from .align import AlignedFace, align_faces
from .detect import detect_in_batches
from .options import RestoreOptions
from .recipe import Recipe
from .sizes import Sizes

# What says which faces are worked on: a detector, faces, or faces with their alignments.
FaceSource = FaceDetector | FaceBatch | Sequence[AlignedFace]


@dataclass(frozen=True, eq=False)
class Plan:
    """aligned: the faces to work on, image after image, in pixels of the images as they are worked on.

    skipped: per image, the others with the reason. events: what else is to know.
    """

    aligned: tuple[AlignedFace, ...]
    skipped: tuple[tuple[SkippedFace, ...], ...]
    events: tuple[Event, ...]


def plan(
    rgb_BHW3: Tensor,
    source: FaceSource,
    options: RestoreOptions,
    recipe: Recipe,
    sizes: Sizes,
    report: OnProgress,
) -> Plan:
    """The faces of images that are worked on.

    rgb_BHW3: the images as they are worked on, RGB [0, 1].
    source: looks for the faces; or the faces themselves, in pixels of the images as they came, which are then all
    taken, whatever the options say. Those that are aligned already, as a video's tracker aligns them, stay so.
    """
    events: list[Event] = []
    if isinstance(source, Sequence):
        return _inside([one.scaled(sizes.enlarged) for one in source], [()] * len(rgb_BHW3), sizes, events)
    if isinstance(source, FaceBatch):
        events = unlike_images(source, rgb_BHW3)
        chosen = [Selection(tuple(scaled(face, sizes.enlarged) for face in given), ()) for given in source.per_image]
    else:
        found = detect_in_batches(rgb_BHW3, source, options.confidence, report)
        min_face_size = options.min_face_size * sizes.enlarged
        chosen = [recipe.choose(faces, sizes.working, options, min_face_size) for faces in found]
    batch = align_faces([selection.kept for selection in chosen])
    skipped = _joined([selection.skipped for selection in chosen], batch.skipped)
    return _inside(batch.aligned, skipped, sizes, events)


def _inside(
    aligned: Sequence[AlignedFace],
    skipped: Sequence[Sequence[SkippedFace]],
    sizes: Sizes,
    events: Sequence[Event],
) -> Plan:
    """The plan without the faces outside their images, which no network need see."""
    outside = [one for one in aligned if one.lies_outside(sizes.working)]
    lost = [
        [SkippedFace(one.face, "outside_image") for one in outside if one.image == index]
        for index in range(len(skipped))
    ]
    kept = tuple(one for one in aligned if one not in outside)
    return Plan(kept, _joined(skipped, lost), tuple(events))


def scaled(face: Face, factor: float) -> Face:
    """The face in its image resized by `factor`."""
    return face if factor == 1 else face.scaled(factor)


def _joined(*skipped: Sequence[Sequence[SkippedFace]]) -> tuple[tuple[SkippedFace, ...], ...]:
    return tuple(tuple(entry for part in parts for entry in part) for parts in zip(*skipped, strict=True))
