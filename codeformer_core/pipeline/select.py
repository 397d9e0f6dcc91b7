"""Which of the faces that were found go on, and in which order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..faces.batch import FaceBatch
from ..faces.manual_selection import apply_picks
from ..faces.order import Order, check_order, has_number, order_faces, parse_numbers
from ..faces.selection import Selection, SkippedFace, skip_small_faces
from ..faces.types import Face
from ..faces.yaw import MAX_YAW, skip_by_yaw
from .results import face_count


@dataclass(frozen=True, eq=False)
class SelectedFaces:
    """faces: the selected ones, in the wanted order and so with new numbers.

    kept: per picture, for each face that came in, whether it is selected. picked: whether the picks alone keep it.
    changed: numbers of the pictures in which none of the picked faces was found again. remarks: a line for each face
    that is left out, and what else is to know.
    """

    faces: FaceBatch
    kept: tuple[tuple[bool, ...], ...]
    picked: tuple[tuple[bool, ...], ...]
    changed: tuple[int, ...]
    remarks: tuple[str, ...]

    def summary(self) -> str:
        """How many of how many, then the remarks."""
        came = sum(map(len, self.kept))
        return "\n".join((f"{face_count(self.faces.count)} selected of {came}", *self.remarks))


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
) -> SelectedFaces:
    """The faces that pass every filter, in the wanted order.

    numbers: "1, 3-5", of the faces as they come in; empty for all. keep: so many of each picture, the first in that
    order; 0 for all. confidence: detections that scored below are left out. min_face_size: shorter side of the box in
    pixels. largest_turn: degrees to either side, see `faces.turn`; 90 for any. picked: see `faces.picks`.
    Raises ValueError naming the input and the cure.
    """
    check_order(order, keep)
    if not 0 <= confidence <= 1:
        raise ValueError(f"confidence must be from 0 to 1, got {confidence}. Cure: 0 keeps every face")
    ranges = parse_numbers(numbers)
    picks = apply_picks(faces, picked)
    filters: tuple[Callable[[Sequence[Face]], Selection], ...] = (
        lambda found: _skip_unsure(found, confidence),
        lambda found: skip_small_faces(found, min_face_size),
        lambda found: skip_by_yaw(found, max_yaw),
    )
    for refuse_wrong_limits in filters:
        refuse_wrong_limits(())
    selected, kept, remarks = [], [], list(picks.remarks)
    for picture, (found, is_picked) in enumerate(zip(faces.per_image, picks.kept, strict=True), 1):
        reasons = _reasons(found, filters)
        for index in range(len(found)):
            if not has_number(ranges, index + 1):
                reasons.setdefault(index, "not one of the numbers")
            if not is_picked[index]:
                reasons.setdefault(index, "not picked")
        in_order = [index for index in order_faces(found, order, faces.image_size_hw) if index not in reasons]
        chosen = in_order[: keep or None]
        reasons |= {index: f"not among the first {keep} ({order})" for index in in_order if index not in chosen}
        selected.append([found[index] for index in chosen])
        kept.append(tuple(index in chosen for index in range(len(found))))
        if ranges and max(last for _, last in ranges) > len(found):
            remarks.append(f"picture {picture}: {face_count(len(found))} came, so higher numbers select nothing")
        remarks += [f"picture {picture}, face {index + 1}: {reasons[index]}" for index in sorted(reasons)]
    return SelectedFaces(faces.with_faces(selected), tuple(kept), picks.kept, picks.changed, tuple(remarks))


def _reasons(found: Sequence[Face], filters: Sequence[Callable[[Sequence[Face]], Selection]]) -> dict[int, str]:
    """Why faces are left out, by index: the first filter's word. Each is asked about alone, for equals may come."""
    reasons: dict[int, str] = {}
    for index, face in enumerate(found):
        skipped = [entry for filter_faces in filters for entry in filter_faces([face]).skipped]
        if skipped:
            reasons[index] = skipped[0].reason
    return reasons


def _skip_unsure(faces: Sequence[Face], confidence: float) -> Selection:
    return Selection(
        tuple(face for face in faces if face.score >= confidence),
        tuple(
            SkippedFace(face, f"its score {face.score:.2f} is below {confidence:g}")
            for face in faces
            if face.score < confidence
        ),
    )
