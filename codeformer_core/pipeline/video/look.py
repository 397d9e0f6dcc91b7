"""The first look at each frame: a small view, whether a new scene begins, the faces, whose they are.

What was found is recorded as plain values, so that a run that continues another one sees what that saw.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, cast

import numpy as np
import torch

from ...faces.detection import FaceDetector
from ...faces.geometry import crop_face, estimate_alignment
from ...faces.identity import cached_identity
from ...faces.types import Face, Point
from ...runtime.packages import place_of
from ..options import RestoreOptions
from ..recipe import USUAL
from .cuts import CUT, difference, thumbnail
from .read import Frame
from .source import Picture
from .tracker import Describe

# Frames whose faces are looked for, and restored, together. The blocks begin at multiples of it, also in a run that
# continues another one, so that both compute the same.
BLOCK = 8
# Pixels of the shorter side of the view in which faces are looked for: what detectors see anyway.
VIEW_SIDE = 640


class _HasNumber(Protocol):
    @property
    def number(self) -> int: ...


Numbered = TypeVar("Numbered", bound=_HasNumber)


@dataclass(frozen=True, eq=False)
class Look:
    """What was seen in a frame.

    number: of the frame.
    frame: None where its samples are not needed.
    is_cut: whether a new scene begins with it.
    faces: in pixels of the upright frame.
    view_HW3: uint8 RGB, upright; without it no face can be described.
    scale: pixels of the view per pixel of the frame.
    recorded: descriptors by a face's index that another run computed.
    described: descriptors that were asked for, by the face's index.
    is_written: whether another run has written the frame, so that nothing but its faces matters.
    """

    number: int
    frame: Frame | None
    is_cut: bool
    faces: tuple[Face, ...]
    view_HW3: np.ndarray | None = None
    scale: float = 1.0
    recorded: Mapping[int, tuple[float, ...]] | None = None
    described: dict[int, tuple[float, ...]] = field(default_factory=dict[int, "tuple[float, ...]"])
    is_written: bool = False

    def as_record(self) -> dict[str, Any]:
        """Plain values for a journal; `of_record` makes the same of them."""
        record: dict[str, Any] = {
            "faces": [[*face.box_xyxy, *itertools.chain(*face.landmarks_xy), face.score] for face in self.faces]
        }
        if self.is_cut:
            record["cut"] = True
        if self.described:
            record["described"] = {str(index): values for index, values in self.described.items()}
        return record

    @classmethod
    def of_record(cls, number: int, record: Mapping[str, Any]) -> Look:
        described = cast("Mapping[str, Sequence[float]]", record.get("described", {}))
        known = {int(index): tuple(values) for index, values in described.items()}
        faces = tuple(_face(cast("Sequence[float]", row)) for row in record["faces"])
        return cls(number, None, bool(record.get("cut")), faces, recorded=known, described=dict(known), is_written=True)

    @property
    def describe(self) -> Describe:
        """Descriptors of its faces; see `tracker.Describe`."""

        def described(index: int) -> np.ndarray | None:
            if self.recorded is not None:
                values = self.recorded.get(index)
                return None if values is None else np.array(values)
            if index not in self.described:
                found = self._descriptor(index)
                if found is None:
                    return None
                self.described[index] = found
            return np.array(self.described[index])

        return described

    @torch.no_grad()
    def _descriptor(self, index: int) -> tuple[float, ...] | None:
        matrix = estimate_alignment(self.faces[index].scaled(self.scale))
        if matrix is None or self.view_HW3 is None:
            return None
        crop_3SS = crop_face(torch.from_numpy(self.view_HW3).float() / 255, matrix)
        descriptor_D = cached_identity(torch.device("cpu")).descriptors(crop_3SS[None].clamp(0, 1))[0]
        # Rounded, so that a journal holds all of it.
        return tuple(round(float(value), 4) for value in descriptor_D)


def looks(
    frames: Iterable[Frame],
    rotation: int,
    detector: FaceDetector,
    options: RestoreOptions,
    known: Mapping[int, Look],
) -> Iterator[Look]:
    """What is seen in each frame.

    rotation: degrees counter-clockwise, by which frames are turned to be upright.
    options: which detections count.
    known: what another run saw, by the number of the frame.
    """
    last: np.ndarray | None = None
    for block in blocks_of(frames):
        views = [small_view(frame.picture, rotation) for frame in block]
        new = [index for index, frame in enumerate(block) if frame.number not in known]
        found = _detected([views[index][0] for index in new], detector, options, [views[index][1] for index in new])
        detected = dict(zip(new, found, strict=True))
        for index, frame in enumerate(block):
            # Not kept here when it is handed on: the window lets go of it at once.
            view_HW3, scale = views.pop(0)
            thumb = thumbnail(view_HW3)
            if (seen := known.get(frame.number)) is not None:
                # What was described is described again only where it is asked for again: from the record.
                yield Look(frame.number, frame, seen.is_cut, seen.faces, view_HW3, scale, seen.recorded, seen.described)
            else:
                is_cut = last is not None and difference(last, thumb) > CUT
                yield Look(frame.number, frame, is_cut, detected[index], view_HW3, scale)
            last = thumb


def recorded(looks: Iterable[Look], records: list[dict[str, Any]], first: int) -> Iterator[Look]:
    """The looks; when one was worked with, its record is added to `records`, for frames from number `first` on."""
    for look in looks:
        yield look
        if look.number >= first:
            records.append(look.as_record())


def blocks_of(frames: Iterable[Numbered]) -> Iterator[list[Numbered]]:
    """Lists of frames that begin at multiples of `BLOCK`, each before a frame of the next is asked for.

    Whoever takes frames out of a list is the last to hold them.
    """
    block: list[Numbered] = []
    for frame in frames:
        block.append(frame)
        if (frame.number + 1) % BLOCK == 0:
            yield block
            block = []
    if block:
        yield block


def small_view(picture: Picture, rotation: int) -> tuple[np.ndarray, float]:
    """The upright frame as uint8 RGB of at most `VIEW_SIDE` pixels on the shorter side, and its scale."""
    scale = min(1.0, VIEW_SIDE / min(picture.width, picture.height))
    width, height = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    view_HW3 = picture.reformat(width, height, "rgb24", interpolation="AREA").to_ndarray()
    return (np.ascontiguousarray(np.rot90(view_HW3, rotation // 90)) if rotation else view_HW3), scale


def _detected(
    views: Sequence[np.ndarray], detector: FaceDetector, options: RestoreOptions, scales: Sequence[float]
) -> list[tuple[Face, ...]]:
    """The faces of each view that count, in pixels of the frames."""
    found: list[list[Face]] = []
    at_once = _at_once(detector)
    for start in range(0, len(views), at_once):
        part = [torch.from_numpy(view) for view in views[start : start + at_once]]
        found += detector.detect(torch.stack(part).float().div_(255), options.confidence)
    chosen: list[tuple[Face, ...]] = []
    for view, faces, scale in zip(views, found, scales, strict=True):
        selection = USUAL.choose(faces, (view.shape[0], view.shape[1]), options, scale)
        usable = [face for face in selection.kept if estimate_alignment(face) is not None]
        chosen.append(tuple(face if scale == 1 else face.scaled(1 / scale) for face in usable))
    return chosen


def _at_once(detector: FaceDetector) -> int:
    """How many views a call of `detect` gets: on a CPU one, because more take memory and save no time."""
    host = getattr(detector, "host", None)
    if host is not None:
        device = host.compute_device()
    else:
        device = torch.device("cpu") if detector.module is None else place_of(detector.module)[0]
    return 1 if device.type == "cpu" else BLOCK


def _face(row: Sequence[float]) -> Face:
    left, top, right, bottom = row[:4]
    a, b, c, d, e = (_point(row, start) for start in range(4, 14, 2))
    return Face((left, top, right, bottom), (a, b, c, d, e), row[14])


def _point(row: Sequence[float], start: int) -> Point:
    return row[start], row[start + 1]
