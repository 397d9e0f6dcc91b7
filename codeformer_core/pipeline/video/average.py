"""Restored faces averaged with their neighbours in time, each moved to where the face is now.

A network that invents detail invents a little other detail in each frame. The motion is found in the faces as they were
(DIS optical flow), and a neighbour counts where, after the motion, it looked the same: a mouth that opens stays open.
Shape legend: S = 512 side of a crop, s = 256 side of its small view, C channels.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ...faces.geometry import CROP_SIZE
from ...runtime.packages import import_for_faces
from .restored import SMALL_SIDE, RestoredFrame, RestoredTrackFace

# Frames before and after one that are averaged with it. Four are hardly better, and cost twice as much.
REACH = 2
# Levels of 255: by so much neighbours may differ, at least and at most.
_NOISE = (2.0, 12.0)
# Of the median difference.
_NOISE_FACTOR = 4.0
# Pixels of the small view over which differences are blurred.
_BLUR = 3.0
# The motion is that of a field of so many places a side, blurred over as many of them: a finer one follows noise and
# blocks of the codec, and keeps them.
_MOTION_SIDE, _MOTION_BLUR = 64, 6.0


class Averager:
    """Averages the faces of frames over time."""

    def __init__(self) -> None:
        cv2 = import_for_faces("cv2")
        self._flow: Any = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        rows, columns = np.mgrid[0:SMALL_SIDE, 0:SMALL_SIDE].astype(np.float32)
        self._grid_ss2 = np.stack((columns, rows), -1)
        rows, columns = np.mgrid[0:CROP_SIZE, 0:CROP_SIZE].astype(np.float32)
        self._grid_SS2 = np.stack((columns, rows), -1)

    def frames(self, frames: Iterable[RestoredFrame]) -> Iterator[RestoredFrame]:
        """The frames in order, their faces averaged."""
        around: deque[RestoredFrame] = deque()
        place = 0  # in `around`, of the next frame to be averaged
        for frame in frames:
            around.append(frame)
            if len(around) - place > REACH:
                yield self._averaged(around, place)
                if place < REACH:
                    place += 1
                else:
                    around.popleft()
        while place < len(around):
            yield self._averaged(around, place)
            place += 1

    def _averaged(self, around: Sequence[RestoredFrame], place: int) -> RestoredFrame:
        frame = around[place]
        near = range(max(0, place - REACH), min(len(around), place + REACH + 1))
        faces: dict[int, RestoredTrackFace] = {}
        for track, face in frame.faces.items():
            # A track never reaches over a cut.
            others = [around[index].faces[track] for index in near if index != place and track in around[index].faces]
            faces[track] = self.average(face, others) if others else face
        return replace(frame, faces=faces)

    def average(self, face: RestoredTrackFace, others: Sequence[RestoredTrackFace]) -> RestoredTrackFace:
        """The face averaged with the same face in other frames."""
        totals = _layers(face)
        weight_SS = np.ones((CROP_SIZE, CROP_SIZE), np.float32)
        for other in others:
            if (other.mask_SS is None) != (face.mask_SS is None):
                continue
            places_SS2, agrees_SS = self._motion(face, other)
            for total, layer in zip(totals, _layers(other), strict=True):
                moved = _at(layer, places_SS2)
                moved *= agrees_SS if moved.ndim == 2 else agrees_SS[..., None]
                total += moved
            weight_SS += agrees_SS
        for total in totals:
            total /= weight_SS if total.ndim == 2 else weight_SS[..., None]
        return replace(face, face_SS3=totals[0], mask_SS=totals[1] if len(totals) > 1 else None)

    def _motion(self, face: RestoredTrackFace, other: RestoredTrackFace) -> tuple[np.ndarray, np.ndarray]:
        """Where the face's pixels lie in the other one, and how far the two look the same there, 0..1."""
        cv2 = import_for_faces("cv2")
        flow_ss2 = self._flow.calc(face.small_ss, other.small_ss, None)
        motion = cv2.resize(flow_ss2, (_MOTION_SIDE, _MOTION_SIDE), interpolation=cv2.INTER_AREA)
        motion = cv2.GaussianBlur(motion, (0, 0), _MOTION_BLUR)
        places_ss2 = self._grid_ss2 + cv2.resize(motion, (SMALL_SIDE, SMALL_SIDE), interpolation=cv2.INTER_LINEAR)
        differs_ss = np.abs(_at(other.small_ss, places_ss2).astype(np.float32) - face.small_ss)
        differs_ss = cv2.GaussianBlur(differs_ss, (0, 0), _BLUR)
        noise = float(np.clip(np.median(differs_ss) * _NOISE_FACTOR, *_NOISE))
        agrees_ss = np.exp(-np.square(differs_ss / noise))
        size = (CROP_SIZE, CROP_SIZE)
        flow_SS2 = cv2.resize(motion, size, interpolation=cv2.INTER_LINEAR) * (CROP_SIZE / SMALL_SIDE)
        return self._grid_SS2 + flow_SS2, cv2.resize(agrees_ss, size, interpolation=cv2.INTER_LINEAR)


def _at(image: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Samples of an image; beyond its rim it continues as there."""
    cv2 = import_for_faces("cv2")
    return cv2.remap(image, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _layers(face: RestoredTrackFace) -> list[np.ndarray]:
    """Colour, and the mask where there is one: copies in float32."""
    # By torch, which converts half precision several times as fast as numpy.
    layers = (face.face_SS3,) if face.mask_SS is None else (face.face_SS3, face.mask_SS)
    return [torch.from_numpy(layer).to(torch.float32, copy=True).numpy() for layer in layers]
