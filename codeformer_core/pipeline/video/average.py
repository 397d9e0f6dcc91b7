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

from ...faces.geometry import CROP_SIZE
from ...runtime.packages import import_for_faces
from .restored import SMALL_SIDE, RestoredFrame, RestoredTrackFace

# Frames before and after one that are averaged with it. Four are hardly better, and cost twice as much.
REACH = 2
# Levels of 255: by so much neighbours differ by noise alone, at least and at most.
_NOISE = (1.5, 8.0)
# Of the median difference.
_NOISE_FACTOR = 1.5
# Pixels of the small view over which differences are blurred.
_BLUR = 3.0


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
        total_SSC = _layers(face)
        weight_SS1 = np.ones((CROP_SIZE, CROP_SIZE, 1), np.float32)
        for other in others:
            if (other.mask_SS is None) != (face.mask_SS is None):
                continue
            moved_SSC, agrees_SS1 = self._moved(face, other)
            total_SSC += moved_SSC * agrees_SS1
            weight_SS1 += agrees_SS1
        total_SSC /= weight_SS1
        mask_SS = None if face.mask_SS is None else np.ascontiguousarray(total_SSC[..., 3])
        return replace(face, face_SS3=np.ascontiguousarray(total_SSC[..., :3]), mask_SS=mask_SS)

    def _moved(self, face: RestoredTrackFace, other: RestoredTrackFace) -> tuple[np.ndarray, np.ndarray]:
        """The other's layers where the face is, and how far the two looked the same there, 0..1."""
        cv2 = import_for_faces("cv2")
        flow_ss2 = self._flow.calc(face.small_ss, other.small_ss, None)
        there_ss = cv2.remap(
            other.small_ss, self._grid_ss2 + flow_ss2, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        differs_ss = np.abs(there_ss.astype(np.float32) - face.small_ss)
        differs_ss = cv2.GaussianBlur(differs_ss, (0, 0), _BLUR)
        noise = float(np.clip(np.median(differs_ss) * _NOISE_FACTOR, *_NOISE))
        agrees_ss = np.exp(-np.square(differs_ss / noise))
        size = (CROP_SIZE, CROP_SIZE)
        flow_SS2 = cv2.resize(flow_ss2, size, interpolation=cv2.INTER_LINEAR) * (CROP_SIZE / SMALL_SIDE)
        moved_SSC = cv2.remap(
            _layers(other), self._grid_SS2 + flow_SS2, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        agrees_SS = cv2.resize(agrees_ss, size, interpolation=cv2.INTER_LINEAR)
        return moved_SSC, agrees_SS[..., None]


def _layers(face: RestoredTrackFace) -> np.ndarray:
    """Colour, and the mask where there is one: a copy in float32."""
    if face.mask_SS is None:
        return face.face_SS3.astype(np.float32)
    return np.concatenate((face.face_SS3, face.mask_SS[..., None]), axis=-1).astype(np.float32)
