"""Which faces of a batch of images are worked on: detected or given, selected, aligned.

Shape legend: B images, H W their height and width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torch import Tensor

from ..faces.batch import FaceBatch, unlike_images
from ..faces.detection import FaceDetector
from ..faces.events import Event, SkippedFace
from ..faces.selection import Selection
from ..faces.types import Face
from ..runtime.progress import OnProgress, no_progress
from .align import AlignedFace, align_faces
from .detect import detect_in_batches
from .options import RESTORE_DEFAULTS, RestoreOptions
from .recipe import USUAL, Recipe
from .results import counts
from .sizes import Sizes, plan_sizes

if TYPE_CHECKING:
    from .person import Person

# What says which faces are worked on: a detector, faces, or faces with their alignments.
FaceSource = FaceDetector | FaceBatch | Sequence[AlignedFace]


@dataclass(frozen=True, eq=False)
class Plan:
    """The faces of a batch of images that are worked on, and the others.

    aligned: the faces to work on, image after image, in pixels of the images as they are worked on.
    skipped: per image, the others with the reason.
    events: what else is to know of the images.
    detector: the name of what found the faces; None for faces that were given.
    """

    aligned: tuple[AlignedFace, ...]
    skipped: tuple[tuple[SkippedFace, ...], ...]
    events: tuple[Event, ...]
    detector: str | None = None

    def counts(self, step: str, done: Sequence[int]) -> list[Event]:
        """Of each image how many faces there were, and with how many of them something was done.

        step: what was done, as "restored".
        done: faces per image.
        """
        came = [len(left_out) for left_out in self.skipped]
        for one in self.aligned:
            came[one.image] += 1
        word = "found" if self.detector else "given"
        return [counts(image, **{word: came[image], step: number}) for image, number in enumerate(done)]

    @property
    def found_by(self) -> list[Event]:
        return [Event("detector", values={"detector": self.detector})] if self.detector else []


def plan(
    rgb_BHW3: Tensor,
    source: FaceSource,
    options: RestoreOptions = RESTORE_DEFAULTS,
    recipe: Recipe = USUAL,
    sizes: Sizes | None = None,
    report: OnProgress = no_progress,
    person: Person | None = None,
) -> Plan:
    """The faces of images that are worked on.

    rgb_BHW3: the images as they are worked on, RGB [0, 1].
    source: looks for the faces; or the faces themselves, in pixels of the images as they came, which are then all
    taken, whatever the options say. Those that are aligned already, as a video's tracker aligns them, stay so.
    sizes: of the images as they came and as they are worked on; None where these are the same.
    person: of whom faces are worked on; anybody's if None.
    """
    sizes = sizes or plan_sizes(rgb_BHW3.shape[1], rgb_BHW3.shape[2])
    if isinstance(source, Sequence):
        given = tuple(one.scaled(sizes.enlarged) for one in source)
        return _of_person(_inside(Plan(given, ((),) * len(rgb_BHW3), ()), sizes), rgb_BHW3, person, 1 / sizes.enlarged)
    if isinstance(source, FaceBatch):
        events, detector = unlike_images(source, rgb_BHW3), None
        chosen = [Selection(tuple(scaled(face, sizes.enlarged) for face in given), ()) for given in source.per_image]
    else:
        events, detector = [], source.name
        found = detect_in_batches(rgb_BHW3, recipe.detector(source), options.confidence, report)
        chosen = [recipe.choose(faces, sizes.working, options, sizes.enlarged) for faces in found]
    batch = align_faces([selection.kept for selection in chosen])
    skipped = _joined([selection.skipped for selection in chosen], batch.skipped)
    return _of_person(
        _inside(Plan(batch.aligned, skipped, tuple(events), detector), sizes), rgb_BHW3, person, 1 / sizes.enlarged
    )


def faces_of(source: FaceSource, rgb_BHW3: Tensor, aligned: Sequence[AlignedFace]) -> FaceBatch:
    """Aligned faces as the faces of their images.

    source: where they came from; if it was faces, the result remembers the images in which those were found.
    rgb_BHW3: the images, RGB [0, 1].
    """
    per_image = [[one.face for one in aligned if one.image == image] for image in range(len(rgb_BHW3))]
    return source.with_faces(per_image) if isinstance(source, FaceBatch) else FaceBatch.of(rgb_BHW3, per_image)


def _inside(planned: Plan, sizes: Sizes) -> Plan:
    """The plan without the faces outside their images, so that no network runs on them."""
    outside = [one for one in planned.aligned if one.lies_outside(sizes.working)]
    lost = [
        [SkippedFace(one.face, "outside_image") for one in outside if one.image == index]
        for index in range(len(planned.skipped))
    ]
    kept = tuple(one for one in planned.aligned if one not in outside)
    return replace(planned, aligned=kept, skipped=_joined(planned.skipped, lost))


def _of_person(planned: Plan, rgb_BHW3: Tensor, person: Person | None, unscale: float) -> Plan:
    """The plan without the faces that the user's person excludes.

    unscale: pixels as they are worked on -> those of the image that came.
    """
    if person is None:
        return planned
    kept: list[AlignedFace] = []
    events = list(planned.events)
    others: list[list[SkippedFace]] = [[] for _ in planned.skipped]
    for one, distance in zip(planned.aligned, person.distances(rgb_BHW3, planned.aligned), strict=True):
        judged = person.judged(one, distance)
        if isinstance(judged, SkippedFace):
            others[one.image].append(judged)
        else:
            kept.append(one)
            events.append(replace(judged, face=scaled(one.face, unscale)))
    return replace(planned, aligned=tuple(kept), skipped=_joined(planned.skipped, others), events=tuple(events))


def scaled(face: Face, factor: float) -> Face:
    """The face in its image resized by `factor`."""
    return face if factor == 1 else face.scaled(factor)


def _joined(*skipped: Sequence[Sequence[SkippedFace]]) -> tuple[tuple[SkippedFace, ...], ...]:
    return tuple(tuple(entry for part in parts for entry in part) for parts in zip(*skipped, strict=True))
