"""Tracking and smoothing for frames that are a batch of images already.

Shape legend: B frames, H W their height and width, C channels; N crops of all frames, S their side.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...faces.batch import OTHER_IMAGE, FaceBatch, check_same_images
from ...faces.events import Event
from ...faces.geometry import CROP_SIZE
from ...imaging import tensors as imaging
from ..align import AlignedFace, align_faces
from ..options import options_of
from ..person import Person
from ..results import counts
from .average import REACH, Averager
from .cuts import CUT, difference, thumbnail
from .look import VIEW_SIDE, Look
from .options import VideoOptions
from .people import choose_person
from .restored import RestoredTrackFace, small_view_of
from .tracker import size_of
from .window import TrackedFace, Window

# In sizes of the face: farther away in the next frame it is another one.
_NEAR = 0.6


@dataclass(frozen=True, eq=False)
class TrackedFaces:
    """The faces of following frames, each on a steady path.

    faces: those of each frame in the order of their tracks; with landmarks that are steady, too.
    aligned: the same faces, aligned and with the numbers of their tracks.
    events: of each frame how many faces are there, how many tracks and cuts there are.
    """

    faces: FaceBatch
    aligned: tuple[AlignedFace, ...]
    events: tuple[Event, ...]


@torch.no_grad()
def track_faces(
    faces: FaceBatch,
    images_BHWC: Tensor,
    *,
    look_ahead: int | None = None,
    person: Person | None = None,
) -> TrackedFaces:
    """Follow the faces of following frames: one person is one track, and its faces lie on a steady path.

    Single false detections are left out, gaps within a track are bridged, and no track reaches over a cut.

    faces: as they were found in the frames.
    images_BHWC: the frames, in order; floats in [0, 1], gray, RGB or RGBA.
    look_ahead: frames after one that its path depends on; as many as are of any use if None.
    person: whose faces are kept; anybody's if None.
    Raises ValueError for other images, and a look-ahead out of range.
    """
    check_same_images(faces, images_BHWC)
    longest = int(options_of(VideoOptions)["look_ahead"].maximum or 0)
    options = VideoOptions(look_ahead=longest if look_ahead is None else look_ahead)
    window = Window(options, choose_person(person) if person else lambda track: True)
    frames = list(window.frames(_looks(faces, images_BHWC)))
    aligned = tuple(
        tracked.aligned for frame in frames for tracked in sorted(frame.faces, key=lambda each: each.aligned.track or 0)
    )
    per_image = [[one.face for one in aligned if one.image == number] for number in range(len(frames))]
    statistics = window.statistics
    events = [
        *(
            counts(number, given=len(faces.per_image[number]), tracked=len(kept))
            for number, kept in enumerate(per_image)
        ),
        Event("video_tracks", values={"tracks": statistics.tracks, "cuts": len(statistics.cuts)}),
    ]
    if statistics.bridged:
        events.append(Event("video_bridged", values={"frames": statistics.bridged}))
    return TrackedFaces(faces.with_faces(per_image), aligned, tuple(events))


def _looks(faces: FaceBatch, images_BHWC: Tensor) -> Iterator[Look]:
    last: np.ndarray | None = None
    for number, (image_HWC, found) in enumerate(zip(images_BHWC, faces.per_image, strict=True)):
        rgb_1HW3 = imaging.split_alpha(image_HWC[None]).rgb_BHW3
        height, width = rgb_1HW3.shape[1:3]
        scale = min(1.0, VIEW_SIDE / min(height, width))
        small_HW3 = imaging.resize(rgb_1HW3, max(1, round(height * scale)), max(1, round(width * scale)))[0]
        view_HW3 = small_HW3.clamp(0, 1).mul(255).round().to(torch.uint8).cpu().numpy()
        thumb = thumbnail(view_HW3)
        is_cut = last is not None and difference(last, thumb) > CUT
        last = thumb
        alignable = tuple(one.face for one in align_faces([found]).aligned)
        yield Look(number, None, is_cut, alignable, view_HW3, scale)


@torch.no_grad()
def smooth_crops(before_NHW3: Tensor, restored_NHW3: Tensor, faces: FaceBatch) -> Tensor:
    """Restored crops averaged over time: each with those of the two frames before and after it, moved to where it is.

    before_NHW3: the crops as they were, RGB [0, 1], in the order of `faces`; any size.
    restored_NHW3: the same crops restored.
    faces: tracked, see `track_faces`: a face continues the one of the frame before that lies nearest.
    Returns restored_NHW3, averaged, of the same size.
    Raises ValueError where the numbers don't fit.
    """
    count = faces.count
    if len(before_NHW3) != count or len(restored_NHW3) != count:
        raise ValueError(
            f"there are {count} faces, {len(before_NHW3)} crops before and {len(restored_NHW3)} restored ones. Give "
            "the crops of these faces, and the same ones restored"
        )
    if count == 0:
        return restored_NHW3
    height, width = restored_NHW3.shape[1:3]
    entries = _crop_entries(before_NHW3, restored_NHW3, faces)
    after = _continued(faces)
    before = {following: index for index, following in after.items()}
    averager = Averager()
    made_NHW3 = torch.empty_like(restored_NHW3, memory_format=torch.contiguous_format)
    for index, entry in enumerate(entries):
        others = [entries[other] for chain in (before, after) for other in _along(chain, index)]
        face_SS3 = averager.average(entry, others).face_SS3 if others else entry.face_SS3
        square_1SS3 = torch.from_numpy(face_SS3).float()[None]
        made_NHW3[index] = imaging.resize(square_1SS3, height, width)[0].to(made_NHW3)
    return made_NHW3


def _crop_entries(before_NHW3: Tensor, restored_NHW3: Tensor, faces: FaceBatch) -> list[RestoredTrackFace]:
    entries: list[RestoredTrackFace] = []
    for (number, face), before_HW3, restored_HW3 in zip(faces.in_order(), before_NHW3, restored_NHW3, strict=True):
        squares = [
            imaging.resize(imaging.split_alpha(crop_HW3[None]).rgb_BHW3, CROP_SIZE, CROP_SIZE)[0]
            for crop_HW3 in (before_HW3, restored_HW3)
        ]
        tracked = TrackedFace(AlignedFace(number, face, np.eye(2, 3)), 1.0, 0)
        face_SS3 = np.ascontiguousarray(squares[1].float().cpu().numpy())
        entries.append(RestoredTrackFace(tracked, face_SS3, None, small_view_of(squares[0].permute(2, 0, 1))))
    return entries


def _along(chain: dict[int, int], index: int) -> list[int]:
    """The faces that follow one in a chain, at most `REACH`."""
    found: list[int] = []
    while len(found) < REACH and index in chain:
        index = chain[index]
        found.append(index)
    return found


def _continued(faces: FaceBatch) -> dict[int, int]:
    """The number of each face's crop -> that of the same face in the next frame: the nearest one, never over a cut."""
    continued: dict[int, int] = {}
    start = 0
    for number, (here, there) in enumerate(itertools.pairwise(faces.per_image)):
        thumbs_288 = faces.thumbnails_B88[number : number + 2]
        if float(np.abs(thumbs_288[1] - thumbs_288[0]).mean()) < OTHER_IMAGE:
            pairs = sorted(
                (math.dist(face.center_xy, other.center_xy) / size_of(face), index, place)
                for index, face in enumerate(here)
                for place, other in enumerate(there)
            )
            taken: set[int] = set()
            for distance, index, place in pairs:
                if distance <= _NEAR and start + index not in continued and place not in taken:
                    continued[start + index] = start + len(here) + place
                    taken.add(place)
        start += len(here)
    return continued
