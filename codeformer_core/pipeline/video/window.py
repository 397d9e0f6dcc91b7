"""Faces of frames whose future is known far enough: on steady paths, softly beginning and ending.

Shape legend: T frames.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from ...faces.types import Face
from ..align import AlignedFace, align_face
from .look import BLOCK, Look
from .options import VideoOptions
from .read import Frame
from .smoother import LOOK_BACK, matrix_of, measured, smoothed, steady_face
from .tracker import MAX_GAP, MIN_DETECTIONS, Track, Tracker, size_of

# Over so many frames a face fades in or out where its track begins or ends within a scene.
FADE = 3
# Deviation in frames of the Gaussian that steadies where landmarks lie within a crop.
_SHAPE_SIGMA = 2.0

# Whether the person of a track is one of those who are worked on; asked once for each track.
Choose = Callable[[Track], bool]


@dataclass(frozen=True, eq=False)
class TrackedFace:
    """A face of a frame that is to be restored.

    aligned: with the number of its track; `image` is the number of the frame.
    opacity: how much of it may show, where its track begins or ends softly.
    age: frames since its track began.
    """

    aligned: AlignedFace
    opacity: float
    age: int


@dataclass(frozen=True, eq=False)
class TrackedFrame:
    """A frame with the faces that are to be restored.

    frame: None where its samples are not needed.
    """

    number: int
    frame: Frame | None
    is_cut: bool
    faces: tuple[TrackedFace, ...]


@dataclass
class TrackStatistics:
    """What tracking found.

    tracks: how many persons' paths; short: how many were too short to be one.
    bridged: in how many frames a face was put between two detections; cuts: where scenes begin.
    shown: first and last frame of each track that was worked on.
    """

    tracks: int = 0
    short: int = 0
    bridged: int = 0
    cuts: list[int] = field(default_factory=list[int])
    shown: dict[int, tuple[int, int]] = field(default_factory=dict[int, "tuple[int, int]"])


class Window:
    """Tracks faces and hands out frames whose faces are settled."""

    def __init__(self, options: VideoOptions, choose: Choose = lambda track: True) -> None:
        """choose: see `Choose`."""
        self.options = options
        self.statistics = TrackStatistics()
        self._tracker = Tracker(min(MAX_GAP, options.look_ahead))
        self._choose = choose
        self._chosen: dict[int, bool] = {}
        self._largest: Track | None = None
        self._waiting: list[Look] = []
        self._scene = 0

    @property
    def look_ahead(self) -> int:
        """Frames seen before one is settled: those of the smoother, and those that tell that a track has ended."""
        return self.options.look_ahead + FADE

    def frames(self, looks: Iterable[Look]) -> Iterator[TrackedFrame]:
        """The frames in order, each with its faces."""
        newest = -1
        for look in looks:
            newest = look.number
            self._tracker.step(newest, look.faces, is_cut=look.is_cut, describe=look.describe)
            if look.is_cut:
                self.statistics.cuts.append(newest)
            # Nobody looks at the view any more.
            self._waiting.append(replace(look, view_HW3=None))
            while len(self._waiting) >= BLOCK + self.look_ahead:
                yield from self._settled(BLOCK, newest, ended=False)
        while self._waiting:
            yield from self._settled(min(BLOCK, len(self._waiting)), newest, ended=True)

    def _settled(self, count: int, newest: int, *, ended: bool) -> Iterator[TrackedFrame]:
        block = self._waiting[:count]
        first, last = block[0].number, block[-1].number
        next_cuts = [look.number for look in self._waiting if look.is_cut]
        paths = {
            track.number: self._path(track, first, last, needed=not all(look.is_written for look in block))
            for track in self._tracker.tracks.values()
            if track.first <= last and track.last >= first
        }
        made: list[TrackedFrame] = []
        for look in block:
            if look.is_cut:
                self._scene = look.number
            end = next((cut for cut in next_cuts if cut > look.number), newest + 1 if ended else None)
            present = [
                track
                for track in self._tracker.tracks.values()
                if track.scene == self._scene
                and look.number in paths.get(track.number, ())
                and self._counts(track, end)
            ]
            faces = [self._faded(track, look.number, end, paths[track.number]) for track in self._wanted(present)]
            made.append(TrackedFrame(look.number, look.frame, look.is_cut, tuple(filter(None, faces))))
        del self._waiting[:count]
        self._forget(last + 1)
        # Frames are many megabytes: none is kept here when it is handed on.
        del block
        while made:
            yield made.pop(0)

    def _forget(self, next_first: int) -> None:
        self._tracker.forget(next_first - 1, next_first - LOOK_BACK - 1)
        ended = [number for number in self._chosen if number not in self._tracker.tracks]
        for number in ended:
            del self._chosen[number]

    def _counts(self, track: Track, end: int | None) -> bool:
        """Whether a track is long enough to be a face: as long as its scene, if that is short."""
        needed = MIN_DETECTIONS if end is None else min(MIN_DETECTIONS, end - track.scene)
        return track.detections >= needed

    def _wanted(self, present: list[Track]) -> list[Track]:
        for track in present:
            if track.number not in self._chosen:
                self._chosen[track.number] = self._choose(track)
        wanted = [track for track in present if self._chosen[track.number]]
        if self.options.faces == "all" or not wanted:
            return wanted
        if self._largest is None or all(track is not self._largest for track in wanted):
            self._largest = max(wanted, key=_usual_size)
        return [self._largest]

    def _faded(self, track: Track, number: int, end: int | None, path: dict[int, AlignedFace]) -> TrackedFace | None:
        opacity = 1.0
        if track.first > track.scene:
            opacity = min(opacity, (number - track.first + 1) / (FADE + 1))
        if end is None or track.last + 1 < end:
            opacity = min(opacity, (track.last - number + 1) / (FADE + 1))
        if self.options.smoothing == "off":
            opacity = 1.0
        shown = self.statistics.shown
        if track.number not in shown:
            self.statistics.tracks += 1
        shown[track.number] = (shown.get(track.number, (number, number))[0], number)
        if number not in track.faces:
            self.statistics.bridged += 1
        return TrackedFace(path[number], opacity, number - track.first)

    def _path(self, track: Track, first: int, last: int, *, needed: bool) -> dict[int, AlignedFace]:
        """The track's faces of the frames `first` to `last`. Where these are not needed, only which frames."""
        span = range(max(first, track.first), min(last, track.last) + 1)
        if not needed:
            return dict.fromkeys(span, _NOTHING)
        horizon = last + self.options.look_ahead
        faces = {number: face for number, face in track.faces.items() if number <= horizon}
        if self.options.smoothing == "off":
            alone = {number: align_face(number, faces[number]) for number in span if number in faces}
            return {
                number: AlignedFace(number, one.face, one.matrix, track.number)
                for number, one in alone.items()
                if one is not None
            }
        return steady_path(faces, span, track.number)


def steady_path(faces: dict[int, Face], span: range, track: int) -> dict[int, AlignedFace]:
    """Faces on a steady path.

    faces: the detections of one track by frame, as far as they are known.
    span: the frames that are wanted; those without a detection lie between two that have one.
    track: its number.
    """
    similarities = {number: value for number, face in faces.items() if (value := measured(face)) is not None}
    if not similarities:
        return {}
    steady = smoothed(similarities, min(similarities), max(similarities))
    shapes = {number: _in_crop(faces[number], matrix_of(steady[number])) for number in similarities}
    made: dict[int, AlignedFace] = {}
    for number in span:
        if number not in steady:
            continue
        matrix = matrix_of(steady[number])
        nearest = min(similarities, key=lambda known: (abs(known - number), known))
        weights = {known: math.exp(-(((known - number) / _SHAPE_SIGMA) ** 2) / 2) for known in shapes}
        total = sum(weights.values())
        shape_52 = sum((shapes[known] * weight for known, weight in weights.items()), np.zeros((5, 2))) / total
        made[number] = AlignedFace(number, steady_face(faces[nearest], shape_52, matrix), matrix, track)
    return made


def _in_crop(face: Face, matrix: np.ndarray) -> np.ndarray:
    return face.landmarks_array() @ matrix[:, :2].T + matrix[:, 2]


def _usual_size(track: Track) -> float:
    return float(np.median([size_of(face) for face in track.faces.values()]))


_NOTHING = AlignedFace(-1, Face((0, 0, 1, 1), ((0, 0), (1, 0), (0, 1), (0, 2), (1, 2)), 0.0), np.eye(2, 3))
