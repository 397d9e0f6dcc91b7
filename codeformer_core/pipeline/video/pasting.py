"""Restored faces back into the samples of their frames.

Shape legend: H W a rectangle of a frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from ...faces.geometry import CROP_SIZE, covered_rectangle
from ..composite import NewFace, Target, composite
from ..judge import Judgement
from ..options import RestoreOptions, WhenWorse
from .planes import Planes, copied
from .restored import RestoredFrame, RestoredTrackFace, moved
from .source import Picture
from .tracker import MAX_GAP

# Judgements of a track that are remembered.
_REMEMBERED = 4
# Of the way to a new opacity that is gone in each frame.
_PACE = 1 / 12


@dataclass
class _Shown:
    """Of one track: when it was last asked for, how much of it shows, and what the last judgements say."""

    frame: int
    opacity: float
    shares: list[float]


@dataclass
class Opacities:
    """How much of each person's face shows, by what was judged of it; changes slowly, so that nothing pops."""

    tracks: dict[int, _Shown] = field(default_factory=dict[int, _Shown])

    def of(self, frame: int, track: int, judgement: Judgement | None, when_worse: WhenWorse) -> float:
        """Of a track's face in a frame; asked for each frame, in order.

        judgement: of this face, where it was judged.
        """
        if when_worse == "paste":
            return 1.0
        shown = self.tracks.get(track)
        shares = [] if shown is None else shown.shares
        if judgement is not None:
            shares = [*shares, judgement.shown(when_worse)][-_REMEMBERED:]
        wanted = sum(shares) / len(shares) if shares else 1.0
        if when_worse == "leave":
            wanted = float(wanted > 0.5)
        opacity = wanted if shown is None else shown.opacity + (wanted - shown.opacity) * _PACE
        self.tracks[track] = _Shown(frame, opacity, shares)
        return opacity

    def forget_before(self, frame: int) -> None:
        """Forget tracks that were last asked for before a frame."""
        self.tracks = {track: shown for track, shown in self.tracks.items() if shown.frame >= frame}

    def as_record(self) -> dict[str, Any]:
        """Plain values for a journal."""
        return {str(track): [shown.frame, shown.opacity, *shown.shares] for track, shown in self.tracks.items()}

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> Opacities:
        return cls({int(track): _Shown(row[0], row[1], list(row[2:])) for track, row in record.items()})


@dataclass(frozen=True, eq=False)
class PastedFrame:
    """A frame as it is encoded.

    picture: the source's own where nothing was pasted.
    pasted: the tracks whose faces it shows restored.
    shown: how much of each track's face shows, by what was judged of it.
    """

    restored: RestoredFrame
    picture: Picture
    pasted: tuple[int, ...]
    shown: dict[int, float]


@torch.no_grad()
def pasted_frame(frame: RestoredFrame, rotation: int, options: RestoreOptions, opacities: Opacities) -> PastedFrame:
    """The frame with its faces pasted; whatever they don't cover stays bit for bit."""
    source = frame.tracked.frame
    assert source is not None
    picture = source.picture
    pasted: list[int] = []
    shown: dict[int, float] = {}
    number = frame.tracked.number
    opacities.forget_before(number - 2 * MAX_GAP)
    for track, face in frame.faces.items():
        shown[track] = opacities.of(number, track, face.judgement, options.when_worse)
        opacity = face.tracked.opacity * shown[track]
        if opacity <= 0:
            continue
        if not pasted:
            picture = copied(source.picture)
        if _paste(Planes.of(picture, rotation), face, opacity, options):
            pasted.append(track)
    return PastedFrame(frame, picture if pasted else source.picture, tuple(pasted), shown)


def _paste(planes: Planes, face: RestoredTrackFace, opacity: float, options: RestoreOptions) -> bool:
    """Blend one face into the samples. False where nothing of it shows."""
    area = covered_rectangle(face.tracked.aligned.matrix, CROP_SIZE, *planes.size_hw)
    if area.is_empty:
        return False
    area = planes.around(area)
    before_HW3 = planes.rgb(area)
    canvas_HW3 = before_HW3.clone()
    new = NewFace(
        moved(face.tracked.aligned, 0, area),
        torch.from_numpy(face.face_SS3).float().permute(2, 0, 1),
        None if face.mask_SS is None else torch.from_numpy(face.mask_SS).float(),
        opacity,
    )
    target = Target(canvas_HW3, torch.zeros(canvas_HW3.shape[:2]))
    if composite(target, new, options.paste) is not None:
        return False
    planes.add(area, canvas_HW3 - before_HW3)
    return True
