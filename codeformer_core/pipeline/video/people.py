"""Who is in a video, and which of them are worked on.

A survey follows the faces without restoring any, puts tracks of one person together by descriptors of their faces, and
keeps the best view of each. Its file says which person is where, so that persons can be chosen by number.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from ...faces.detection import FaceDetector
from ...faces.geometry import Rectangle, box_iou, boxes_of, covered_rectangle, crop_face, estimate_alignment
from ...faces.types import Face
from ...runtime.foreign import is_object
from ...runtime.progress import FINDING, OnProgress, no_progress
from ..options import RestoreOptions
from ..person import Person
from .journal import source_identity
from .look import looks
from .overlap import ahead
from .planes import Planes
from .read import Reader
from .restored import moved_matrix
from .source import VideoInfo, probe
from .tracker import MIN_DETECTIONS, Track, Tracker, size_of
from .window import Choose

# Boxes of every so many frames are kept.
BOX_EVERY = 5
# Tracks whose descriptors are nearer than this are one person's; stricter than for photos, as nobody looks on.
_ONE_PERSON = 0.45
# Pixels of the best view of a person.
VIEW_SIDE = 256
# A view must be so much better than the last best one.
_BETTER = 1.15
# How much of two boxes must overlap to be one face.
_SAME_BOX = 0.3


@dataclass(eq=False)
class SurveyedTrack:
    """A person's path through a scene.

    first, last: frames. detections: how many.
    boxes: left, top, right, bottom by frame, of some frames.
    descriptors: who it is. view_SS3: its best view, uint8 RGB. quality: of that view.
    """

    first: int
    last: int
    detections: int = 0
    boxes: dict[int, tuple[float, float, float, float]] = field(
        default_factory=dict[int, "tuple[float, float, float, float]"]
    )
    descriptors: list[np.ndarray] = field(default_factory=list[np.ndarray])
    view_SS3: np.ndarray | None = None
    quality: float = 0.0


@dataclass(frozen=True, eq=False)
class SurveyedPerson:
    """Tracks of one person, in order."""

    number: int
    tracks: tuple[SurveyedTrack, ...]

    @property
    def frames(self) -> int:
        return sum(track.last - track.first + 1 for track in self.tracks)

    @property
    def best(self) -> SurveyedTrack:
        return max(self.tracks, key=lambda track: track.quality)


@dataclass(frozen=True, eq=False)
class Survey:
    """Who is in a video.

    people: who is seen longest first. frames: how many there are. cuts: frames at which scenes begin.
    """

    info: VideoInfo
    people: tuple[SurveyedPerson, ...]
    frames: int
    cuts: tuple[int, ...]

    def as_record(self) -> dict[str, Any]:
        """Plain values, for a file that `chosen_from` reads."""
        return {
            "source": {"name": self.info.path.name, **source_identity(self.info.path)},
            "part": [self.info.start, self.info.end],
            "size": list(reversed(self.info.size_hw)),
            "rate": float(self.info.rate),
            "frames": self.frames,
            "cuts": list(self.cuts),
            "people": [
                {
                    "number": person.number,
                    "frames": person.frames,
                    "tracks": [
                        {
                            "first": track.first,
                            "last": track.last,
                            "boxes": {str(frame): [round(v, 1) for v in box] for frame, box in track.boxes.items()},
                        }
                        for track in person.tracks
                    ],
                }
                for person in self.people
            ],
        }


def survey(
    source: Path,
    detector: FaceDetector,
    options: RestoreOptions,
    start: float = 0.0,
    end: float | None = None,
    report: OnProgress = no_progress,
) -> Survey:
    """Who is in a video. Raises as `probe`."""
    info = probe(source, start, end)
    tracker = Tracker()
    tracks: dict[int, SurveyedTrack] = {}
    cuts: list[int] = []
    frames = 0
    reading = ahead(Reader(info).frames(), 8)
    try:
        for look in looks(reading, info.rotation, detector, options, {}):
            assert look.frame is not None
            report(FINDING, look.number, max(info.expected, look.number + 1))
            frames += 1
            if look.is_cut:
                cuts.append(look.number)
            numbers = tracker.step(look.number, look.faces, is_cut=look.is_cut, describe=look.describe)
            for index, number in numbers.items():
                track = tracks.setdefault(number, SurveyedTrack(look.number, look.number))
                track.last, track.detections = look.number, track.detections + 1
                track.descriptors = tracker.tracks[number].descriptors
                face = look.faces[index]
                if look.number % BOX_EVERY == 0 or look.number == track.first:
                    track.boxes[look.number] = face.box_xyxy
                quality = size_of(face) * face.score
                if quality > track.quality * _BETTER:
                    track.quality = quality
                    track.view_SS3 = _view(Planes.of(look.frame.picture, info.rotation), face)
            tracker.forget(look.number - 32, look.number - 32)
    finally:
        reading.close()
    long_enough = [track for track in tracks.values() if track.detections >= min(MIN_DETECTIONS, frames)]
    return Survey(info, _people(long_enough), frames, tuple(cuts))


def _people(tracks: list[SurveyedTrack]) -> tuple[SurveyedPerson, ...]:
    """Tracks put together, nearest first found, never two that are seen in one frame."""
    groups: list[list[SurveyedTrack]] = []
    for track in sorted(tracks, key=lambda each: each.detections, reverse=True):
        fitting = [
            (distance, index)
            for index, group in enumerate(groups)
            if all(track.last < other.first or other.last < track.first for other in group)
            and (distance := _distance(track, group)) is not None
            and distance <= _ONE_PERSON
        ]
        if fitting:
            groups[min(fitting)[1]].append(track)
        else:
            groups.append([track])
    groups.sort(key=lambda group: sum(track.detections for track in group), reverse=True)
    return tuple(
        SurveyedPerson(number, tuple(sorted(group, key=lambda track: track.first)))
        for number, group in enumerate(groups, 1)
    )


def _distance(track: SurveyedTrack, group: list[SurveyedTrack]) -> float | None:
    """Mean distance of descriptors; None where there is none."""
    theirs = [descriptor for other in group for descriptor in other.descriptors]
    if not theirs or not track.descriptors:
        return None
    return float(np.mean([[np.linalg.norm(mine - their) for their in theirs] for mine in track.descriptors]))


@torch.no_grad()
def _view(planes: Planes, face: Face) -> np.ndarray | None:
    matrix = estimate_alignment(face)
    if matrix is None:
        return None
    area: Rectangle = covered_rectangle(matrix, 512, *planes.size_hw)
    if area.is_empty:
        return None
    area = planes.around(area)
    crop_3SS = crop_face(planes.rgb(area).clamp(0, 1), moved_matrix(matrix, area), VIEW_SIDE)
    return crop_3SS.clamp(0, 1).mul(255).round().to(torch.uint8).permute(1, 2, 0).numpy()


def choose_person(person: Person) -> Choose:
    """The tracks whose faces are a person's, or all others, by reference photos."""
    known_ND = person.descriptors_ND.cpu().numpy()

    def choose(track: Track) -> bool:
        if not track.descriptors:  # too small or too short to tell: nobody in particular
            return person.excluded
        distances = [float(np.linalg.norm(known_ND - mine, axis=1).min()) for mine in track.descriptors]
        return (float(np.median(distances)) <= person.max_distance) != person.excluded

    return choose


def choose_numbers(file: Path, numbers: Collection[int], info: VideoInfo) -> Choose:
    """The tracks of the persons whom a survey's file calls by these numbers.

    Raises ValueError where the file is none of this video, or has no such person; OSError.
    """
    record = read_survey(file)
    identity = {"name": info.path.name, **source_identity(info.path)}
    was = cast("Mapping[str, Any]", record["source"])
    if was.get("sha256_of_ends") != identity["sha256_of_ends"]:
        raise ValueError(f"{file}: is about another video, {was.get('name')}. Make one of this video")
    if record.get("part") != [info.start, info.end]:
        raise ValueError(f"{file}: is about another part of the video. Give the same start and end")
    people = {int(person["number"]): person for person in cast("list[dict[str, Any]]", record["people"])}
    unknown = [str(number) for number in numbers if number not in people]
    if unknown:
        raise ValueError(f"{file}: has no person {', '.join(unknown)}, only 1 to {len(people)}")
    boxes: dict[int, list[tuple[bool, list[float]]]] = {}
    for number, person in people.items():
        for track in person["tracks"]:
            for frame, box in track["boxes"].items():
                boxes.setdefault(int(frame), []).append((number in numbers, box))

    def choose(track: Track) -> bool:
        votes = [_is_wanted(face, boxes[frame]) for frame, face in track.faces.items() if frame in boxes]
        return sum(votes) > 0

    return choose


def read_survey(file: Path) -> dict[str, Any]:
    """A survey's file. Raises ValueError naming it where it is none, OSError."""
    try:
        record: object = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{file}: is not a list of faces ({error}). Make one of the video first") from error
    if not is_object(record) or not {"source", "people"} <= set(record):
        raise ValueError(f"{file}: is not a list of faces. Make one of the video first")
    return cast("dict[str, Any]", record)


def _is_wanted(face: Face, boxes: list[tuple[bool, list[float]]]) -> int:
    """1 where the box that fits best is a wanted person's, -1 where it is another's, 0 where none fits."""
    overlaps = box_iou(boxes_of([face]), torch.tensor([box for _, box in boxes], dtype=torch.float64))
    best = int(overlaps.argmax())
    if float(overlaps[best]) < _SAME_BOX:
        return 0
    return 1 if boxes[best][0] else -1
