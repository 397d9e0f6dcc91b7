"""Which of the detected faces are kept, and in which order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from ..faces.batch import FaceBatch, check_same_images
from ..faces.events import Event, SkippedFace
from ..faces.manual_selection import apply_picks
from ..faces.order import Order, check_order, has_number, order_faces, parse_numbers
from ..faces.selection import Selection, skip_small_faces
from ..faces.types import Face
from ..faces.yaw import MAX_YAW, skip_by_yaw
from ..imaging import tensors as imaging
from .align import align_face
from .person import Person
from .results import counts, notes_of


@dataclass(frozen=True, eq=False)
class SelectedFaces:
    """The selected faces of a batch of images.

    faces: the selected ones, in the wanted order and so with new numbers.
    kept: per image, for each input face, whether it is selected.
    picked: per image, for each input face, whether the manual selection alone keeps it.
    changed: numbers, from 1, of the images in which none of the manually selected faces was found again.
    events: of each image how many are selected, why the others are left out, and what else is to know.
    """

    faces: FaceBatch
    kept: tuple[tuple[bool, ...], ...]
    picked: tuple[tuple[bool, ...], ...]
    changed: tuple[int, ...]
    events: tuple[Event, ...]


def select_faces(
    faces: FaceBatch,
    *,
    numbers: str = "",
    order: Order = "as found",
    keep: int = 0,
    confidence: float = 0.0,
    min_face_size: float = 0.0,
    max_yaw: float = MAX_YAW,
    picked: str = "",
    person: Person | None = None,
    images_BHWC: Tensor | None = None,
) -> SelectedFaces:
    """The faces that pass every filter, in the wanted order.

    numbers: "1, 3-5", of the faces as they come in; empty for all.
    order: of the result.
    keep: so many of each image, the first in that order; 0 for all.
    confidence: detections that scored below are left out, 0 to 1.
    min_face_size: shorter side of the box in pixels.
    max_yaw: degrees to either side, see `faces.yaw`; 90 for any.
    picked: see `faces.manual_selection`.
    person: whose faces are kept, see `person.load_person`; anybody's if None.
    images_BHWC: in which the faces were found; only needed with a person.
    Raises ValueError naming the input and the fix.
    """
    check_order(order, keep)
    if not 0 <= confidence <= 1:
        raise ValueError(f"confidence must be from 0 to 1, got {confidence}. Use 0 to keep every face")
    ranges = parse_numbers(numbers)
    picks = apply_picks(faces, picked)
    filters: tuple[Callable[[Sequence[Face]], Selection], ...] = (
        lambda found: _skip_unsure(found, confidence),
        lambda found: skip_small_faces(found, min_face_size),
        lambda found: skip_by_yaw(found, max_yaw),
    )
    for refuse_wrong_limits in filters:
        refuse_wrong_limits(())
    strangers, known = _judged(faces, person, images_BHWC)
    selected: list[list[Face]] = []
    kept: list[tuple[bool, ...]] = []
    events = [*notes_of(picks.events), *known]
    for image, (found, is_picked) in enumerate(zip(faces.per_image, picks.kept, strict=True)):
        skipped = _skipped(found, filters)
        for index, stranger in strangers.get(image, {}).items():
            skipped.setdefault(index, stranger)
        for index, face in enumerate(found):
            if not has_number(ranges, index + 1):
                skipped.setdefault(index, SkippedFace(face, "not_numbered"))
            if not is_picked[index]:
                skipped.setdefault(index, SkippedFace(face, "not_picked"))
        in_order = [index for index in order_faces(found, order, faces.image_size_hw) if index not in skipped]
        chosen = in_order[: keep or None]
        skipped |= {
            index: SkippedFace(found[index], "not_first", {"keep": keep, "order": order})
            for index in in_order
            if index not in chosen
        }
        selected.append([found[index] for index in chosen])
        kept.append(tuple(index in chosen for index in range(len(found))))
        if ranges and max(last for _, last in ranges) > len(found):
            events.append(Event("numbers_beyond", image, values={"count": len(found)}))
        events += [numbered(skipped[index], index + 1).as_event(image) for index in sorted(skipped)]
        events.append(counts(image, given=len(found), selected=len(chosen)))
    return SelectedFaces(faces.with_faces(selected), tuple(kept), picks.kept, picks.changed, tuple(events))


def _judged(
    faces: FaceBatch, person: Person | None, images_BHWC: Tensor | None
) -> tuple[dict[int, dict[int, SkippedFace]], list[Event]]:
    """Whom the person excludes, by image and index; and what there is to know of the others."""
    strangers: dict[int, dict[int, SkippedFace]] = {}
    known: list[Event] = []
    if person is None:
        return strangers, known
    if images_BHWC is None:
        raise ValueError("to find a person the images are needed in which the faces were found. Give them, too")
    check_same_images(faces, images_BHWC)
    rgb_BHW3 = imaging.split_alpha(images_BHWC).rgb_BHW3
    aligned = [
        (index, one)
        for image, found in enumerate(faces.per_image)
        for index, face in enumerate(found)
        if (one := align_face(image, face)) is not None
    ]
    distances = person.distances(rgb_BHW3, [one for _, one in aligned])
    for (index, one), distance in zip(aligned, distances, strict=True):
        judged = person.judged(one, distance)
        if isinstance(judged, SkippedFace):
            strangers.setdefault(one.image, {})[index] = judged
        else:
            known.append(judged)
    return strangers, known


def numbered(skipped: SkippedFace, number: int) -> SkippedFace:
    """A skipped face that a report calls by its number."""
    return replace(skipped, values={**skipped.values, "number": number})


def _skipped(found: Sequence[Face], filters: Sequence[Callable[[Sequence[Face]], Selection]]) -> dict[int, SkippedFace]:
    """Why faces are left out, by index: the first filter's word. Each is asked about alone, for equals may come."""
    reasons: dict[int, SkippedFace] = {}
    for index, face in enumerate(found):
        skipped = [entry for filter_faces in filters for entry in filter_faces([face]).skipped]
        if skipped:
            reasons[index] = skipped[0]
    return reasons


def _skip_unsure(faces: Sequence[Face], confidence: float) -> Selection:
    return Selection(
        tuple(face for face in faces if face.score >= confidence),
        tuple(
            SkippedFace(face, "low_score", {"score": face.score, "limit": confidence})
            for face in faces
            if face.score < confidence
        ),
    )
