"""What was done to a video, as facts.

`pipeline.report` makes sentences of its events.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...faces.events import Event
from ...models.restorer import FaceRestorer, restored_by
from .encoding import Encoding
from .previews import Preview
from .read import Repairs
from .source import VideoInfo
from .window import TrackStatistics


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
    previews: of some frames with restored faces, in order; none where this run has pasted none.
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
    previews: tuple[Preview, ...] = ()

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
