"""Which detections of following frames are one person: tracks.

A face continues the track whose predicted place and size it fits best. Tracks end at cuts, and where a face stays away
for longer than `MAX_GAP` frames. Where two persons come so near that place and size don't tell, descriptors of their
faces decide.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ...faces.identity import SAME_PERSON
from ...faces.types import Face

# Frames for which a face may stay away and still continue its track.
MAX_GAP = 12
# A track has at least so many detections, or as many as its scene has frames: false ones have no track.
MIN_DETECTIONS = 5
# Distance from the predicted place in sizes of the face, plus the logarithm of the sizes' ratio, up to which a face can
# continue a track; with every frame of a gap it may be farther off.
_MAX_COST, _COST_PER_FRAME = 0.6, 0.1
# Of a velocity, what is left after each frame of a gap.
_DAMPING = 0.8
# Faces nearer than this, in sizes of a face, may be mistaken for each other.
_NEAR = 1.0
# A descriptor's distance counts as so much of a place's.
_IDENTITY_WEIGHT = 1.0
# Every so many detections of a track its face is described.
DESCRIBE_EVERY = 24
# The first ones are described sooner: the descriptor must be there before somebody comes near.
_DESCRIBE_FIRST = (2, 8, 14)
# So many descriptors of a track are remembered.
_MAX_DESCRIPTORS = 4

# Describes a face of the frame that is tracked, by its index; None where it can't be.
Describe = Callable[[int], "np.ndarray | None"]


@dataclass(eq=False)
class Track:
    """One person from a first to a last detection, within a scene.

    number: from 1, in order of their beginnings.
    scene: number of the first frame of its scene.
    first, last: frames of the first and of the last detection.
    faces: the detections by frame; old ones may be forgotten.
    detections: how many there were.
    descriptors: who it is, the latest last.
    """

    number: int
    scene: int
    first: int
    last: int
    faces: dict[int, Face] = field(default_factory=dict[int, Face])
    detections: int = 0
    descriptors: list[np.ndarray] = field(default_factory=list[np.ndarray])
    velocity: np.ndarray = field(default_factory=lambda: np.zeros(2))

    def predicted(self, frame: int) -> np.ndarray:
        """Where the middle of the face is expected."""
        gap = frame - self.last
        return _middle(self.faces[self.last]) + self.velocity * ((1 - _DAMPING**gap) / (1 - _DAMPING))

    def add(self, frame: int, face: Face) -> None:
        if self.faces:
            gap = frame - self.last
            moved = (_middle(face) - _middle(self.faces[self.last])) / gap
            self.velocity = moved if self.detections == 1 else 0.5 * (self.velocity + moved)
        self.faces[frame] = face
        self.last = frame
        self.detections += 1

    def distance(self, descriptor: np.ndarray) -> float | None:
        """Of a face from the nearest that was described; None without any."""
        return min((float(np.linalg.norm(descriptor - known)) for known in self.descriptors), default=None)

    def forget_before(self, frame: int) -> None:
        """Drops old detections, never the last one."""
        for old in [number for number in self.faces if number < frame and number != self.last]:
            del self.faces[old]


class Tracker:
    """Follows faces from frame to frame."""

    def __init__(self, max_gap: int = MAX_GAP) -> None:
        """max_gap: see `MAX_GAP`."""
        self.max_gap = max_gap
        self.tracks: dict[int, Track] = {}
        """Those that may still matter, by number."""
        self.scene = 0
        self._numbers: Iterator[int] = itertools.count(1)

    def step(self, frame: int, faces: Sequence[Face], *, is_cut: bool, describe: Describe) -> Mapping[int, int]:
        """Follow the faces into the next frame.

        is_cut: whether a new scene begins with it.
        describe: called where place and size don't tell, and now and then.
        Returns the number of each face's track, by the face's index.
        """
        if is_cut:
            self.scene = frame
        open_tracks = [
            track
            for track in self.tracks.values()
            if track.scene == self.scene and frame - track.last <= self.max_gap + 1
        ]
        matched = self._match(frame, faces, open_tracks, describe)
        numbers: dict[int, int] = {}
        for index, face in enumerate(faces):
            track = matched.get(index)
            if track is None:
                track = Track(next(self._numbers), self.scene, frame, frame)
                self.tracks[track.number] = track
            track.add(frame, face)
            numbers[index] = track.number
            if track.detections in _DESCRIBE_FIRST or track.detections % DESCRIBE_EVERY == 0:
                alone = all(_apart(face, other) > _NEAR for other in faces if other is not face)
                if alone and (descriptor := describe(index)) is not None:
                    track.descriptors = [*track.descriptors, descriptor][-_MAX_DESCRIPTORS:]
        return numbers

    def forget(self, before: int, detections_before: int) -> None:
        """Drop tracks whose last detection is before a frame, and of the others the detections before another."""
        self.tracks = {number: track for number, track in self.tracks.items() if track.last >= before}
        for track in self.tracks.values():
            track.forget_before(detections_before)

    @staticmethod
    def _match(frame: int, faces: Sequence[Face], tracks: Sequence[Track], describe: Describe) -> dict[int, Track]:
        """The track that each face continues, the surest pairs first."""
        costs: dict[tuple[int, int], float] = {}
        for (index, face), (place, track) in itertools.product(enumerate(faces), enumerate(tracks)):
            cost = _cost(face, track, frame)
            if cost <= _MAX_COST + _COST_PER_FRAME * (frame - track.last - 1):
                costs[index, place] = cost
        described: dict[int, np.ndarray | None] = {}
        for index, place in list(costs):
            rivals = sum(pair[0] == index or pair[1] == place for pair in costs)
            if rivals < 2 or not any(track.descriptors for track in tracks):
                continue
            if index not in described:
                described[index] = describe(index)
            descriptor = described[index]
            distance = None if descriptor is None else tracks[place].distance(descriptor)
            if distance is not None:
                costs[index, place] += _IDENTITY_WEIGHT * (distance / SAME_PERSON - 0.5)
        matched: dict[int, Track] = {}
        taken: set[int] = set()
        for index, place in sorted(costs, key=lambda pair: costs[pair]):
            if index not in matched and place not in taken:
                matched[index] = tracks[place]
                taken.add(place)
        return matched


def _middle(face: Face) -> np.ndarray:
    return np.array(face.center_xy)


def size_of(face: Face) -> float:
    return math.sqrt(max(face.width * face.height, 1e-6))


def _apart(face: Face, other: Face) -> float:
    return math.dist(face.center_xy, other.center_xy) / max(size_of(face), size_of(other))


def _cost(face: Face, track: Track, frame: int) -> float:
    was = track.faces[track.last]
    apart = float(np.linalg.norm(_middle(face) - track.predicted(frame))) / max(size_of(face), size_of(was))
    return apart + abs(math.log(size_of(face) / size_of(was)))
