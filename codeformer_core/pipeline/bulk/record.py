"""What is to know of a finished image: where it came from and went, and every face of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...faces.types import Face
from ...imaging.codecs.content import Picture
from ..judge import Judgement
from ..steps import Pasted
from .source import BulkSource

_DIGITS = 4


def image_record(
    source: BulkSource, place: str, picture: Picture, shape: Sequence[int], faces: list[dict[str, Any]]
) -> dict[str, Any]:
    """JSON values.

    place: of the result below the target.
    shape: of the result: height, width, channels.
    faces: see `face_records`.
    """
    height, width = picture.image_HWC.shape[:2]
    return {
        "key": source.key,
        "source": source.address,
        "member": source.member,
        "result": place,
        "width": width,
        "height": height,
        "result_width": shape[1],
        "result_height": shape[0],
        "faces": faces,
    }


def face_records(pasted: Pasted) -> list[dict[str, Any]]:
    """A record for each face of the image, in its pixels: those that were restored, then the others with the reason."""
    judged = pasted.judged or [None] * len(pasted.faces[0])
    records = [
        {**_place(face), "restored": True, "reason": "", **_judgement(*(entry[1:] if entry else (None, 1.0)))}
        for face, entry in zip(pasted.faces[0], judged, strict=True)
    ]
    for entry in pasted.skipped[0]:
        numbers = {"identity": entry.values.get("identity"), "sharpness": entry.values.get("sharpness")}
        rounded = {name: round(value, _DIGITS) for name, value in numbers.items() if isinstance(value, float)}
        nothing = _judgement(None, 0.0)
        records.append({**_place(entry.face), "restored": False, "reason": entry.kind, **nothing, **rounded})
    return records


def _place(face: Face) -> dict[str, Any]:
    return {
        "box": [round(value, 2) for value in face.box_xyxy],
        "landmarks": [round(value, 2) for point in face.landmarks_xy for value in point],
        "score": round(face.score, _DIGITS),
    }


def _judgement(judgement: Judgement | None, shown: float) -> dict[str, Any]:
    """How it compares with what it was; no numbers where that was not asked.

    shown: how much of it shows, 0 to 1.
    """
    numbers = {"identity": None, "sharpness": None, "sharpness_before": None, "sharpness_after": None}
    if judgement is not None:
        numbers = {
            "identity": round(judgement.identity, _DIGITS),
            "sharpness": round(judgement.sharpness, _DIGITS),
            "sharpness_before": round(judgement.before, 6),
            "sharpness_after": round(judgement.after, 6),
        }
    return {"shown": round(shown, _DIGITS), **numbers}
