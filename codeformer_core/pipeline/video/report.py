"""What was done to a video, as facts.

`pipeline.report` makes sentences of its events.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ...faces.events import Event
from ...models.restorer import FaceRestorer, restored_by
from .encoding import Encoding
from .look import small_view
from .pasting import PastedFrame
from .read import Repairs
from .source import Picture, VideoInfo
from .window import TrackStatistics


@dataclass(frozen=True, eq=False)
class Preview:
    """One frame before and after, at the size of a view: RGB float32 [0, 1].

    Before, each restored face is in a box of its track's colour.
    """

    before_HW3: Tensor
    after_HW3: Tensor

    @classmethod
    def of(cls, before: Picture, pasted: PastedFrame, rotation: int) -> Preview:
        """The preview of a frame."""
        before_HW3, scale = small_view(before, rotation)
        after_HW3, _ = small_view(pasted.picture, rotation)
        drawn = Image.fromarray(before_HW3)
        pencil = ImageDraw.Draw(drawn)
        for track in pasted.pasted:
            left, top, right, bottom = pasted.restored.faces[track].tracked.aligned.face.scaled(scale).box_xyxy
            pencil.rectangle((left, top, max(left, right), max(top, bottom)), outline=track_colour(track), width=3)
        return cls(*(torch.from_numpy(np.array(view)).float() / 255 for view in (drawn, after_HW3)))


def track_colour(track: int) -> tuple[int, int, int]:
    """A track's own colour, RGB 0..255; those of following numbers lie far apart."""
    red, green, blue = colorsys.hsv_to_rgb(track * _GOLDEN % 1, 0.8, 1.0)
    return round(red * 255), round(green * 255), round(blue * 255)


@dataclass(frozen=True, eq=False)
class VideoReport:
    """A restored video.

    target: its file.
    frames: how many it has; changed: how many of them show a restored face; faces: how many these are together.
    resumed: frames that a run before had finished.
    copied: whether no face was restored, so that the source's packets were copied.
    encoding: how it is written.
    tracking: persons, cuts.
    repairs: what was mended while reading.
    info: of the source.
    restorer, fidelity, detector: what it was made with.
    least_shown: of each track, how much of its face showed where it showed least, by what was judged of it.
    preview: of a frame with restored faces; None where this run has pasted none.
    """

    target: Path
    frames: int
    faces: int
    changed: int
    resumed: int
    copied: bool
    encoding: Encoding
    tracking: TrackStatistics
    repairs: Repairs
    info: VideoInfo
    restorer: FaceRestorer
    fidelity: float
    detector: str
    least_shown: dict[int, float]
    preview: Preview | None = None

    @property
    def events(self) -> tuple[Event, ...]:
        """What is to know, for `pipeline.report`."""
        tracking, repairs, info = self.tracking, self.repairs, self.info
        events = [
            Event("video_frames", values={"frames": self.frames, "changed": self.changed, "faces": self.faces}),
            Event("video_tracks", values={"tracks": tracking.tracks, "cuts": len(tracking.cuts)}),
        ]
        if self.resumed:
            events.append(Event("video_resumed", values={"frames": self.resumed}))
        if tracking.bridged:
            events.append(Event("video_bridged", values={"frames": tracking.bridged}))
        faded = [share for share in self.least_shown.values() if share < _FADED]
        if faded:
            events.append(Event("video_faded", values={"persons": len(faded), "share": max(faded)}))
        if repairs.repeated:
            at = info.time_of(repairs.repeated[0])
            events.append(
                Event("video_broken", values={"count": len(repairs.repeated), "frames": self.frames, "at": at})
            )
        if repairs.restamped:
            events.append(Event("video_restamped", values={"count": repairs.restamped}))
        if repairs.cut_short:
            events.append(Event("video_cut_short", values={"frames": self.frames}))
        if self.encoding.left_out:
            events.append(Event("video_left_out", values={"streams": self.encoding.left_out}))
        if info.colours[3] in _HDR:
            events.append(Event("video_hdr", values={"transfer": _HDR[info.colours[3]]}))
        if self.copied:
            events.append(Event("video_copied"))
        else:
            events.append(Event("video_encoder", values={"encoder": self.encoding.encoder}))
        if self.changed:
            events += restored_by(self.restorer, self.fidelity)
        return (*events, Event("detector", values={"detector": self.detector}))

    def as_record(self) -> dict[str, Any]:
        """Plain values, for a file."""
        return {
            "file": str(self.target),
            "frames": self.frames,
            "changed": self.changed,
            "faces": self.faces,
            "resumed": self.resumed,
            "copied": self.copied,
            "cuts": self.tracking.cuts,
            "tracks": {str(track): list(span) for track, span in self.tracking.shown.items()},
            "bridged": self.tracking.bridged,
            "repeated": self.repairs.repeated,
            "restamped": self.repairs.restamped,
            "cut_short": self.repairs.cut_short,
            "encoder": self.encoding.encoder,
            "left_out": list(self.encoding.left_out),
            "restorer": self.restorer.name,
            "fidelity": self.fidelity,
            "detector": self.detector,
        }


# Less of a face is worth telling.
_FADED = 0.9
# Of a circle of hues.
_GOLDEN = 0.618033988749895
# Transfer characteristics as FFmpeg numbers them, in whose values faces are restored as they are.
_HDR = {16: "PQ", 18: "HLG"}
