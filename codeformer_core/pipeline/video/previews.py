"""Frames of a video before and after, for looking at while it is restored and afterwards.

Shape legend: H W height and width of a view.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ...faces.visualization import Box, box_fractions
from .look import small_view
from .pasting import PastedFrame
from .source import Picture

MAX_PREVIEWS = 16
# A preview is made of one of so many frames at most.
PREVIEW_EVERY = 8


@dataclass(frozen=True, eq=False)
class Preview:
    """One frame before and after, at the size of a view: RGB uint8.

    number: of the frame, from 0.
    boxes: track -> of its restored face left, top, right, bottom as parts of the frame.
    """

    number: int
    before_HW3: np.ndarray
    after_HW3: np.ndarray
    boxes: Mapping[int, Box]

    @classmethod
    def of(cls, number: int, before: Picture, pasted: PastedFrame, rotation: int) -> Preview:
        """The preview of a frame."""
        before_HW3, scale = small_view(before, rotation)
        after_HW3, _ = small_view(pasted.picture, rotation)
        size_hw = before_HW3.shape[0], before_HW3.shape[1]
        faces = {track: pasted.restored.faces[track].tracked.aligned.face.scaled(scale) for track in pasted.pasted}
        boxes = {track: box_fractions(face, size_hw) for track, face in faces.items()}
        return cls(number, before_HW3, after_HW3, boxes)


class Previews:
    """Some frames of a video whose length nobody knows before its end: at most MAX_PREVIEWS, evenly spread."""

    def __init__(self) -> None:
        self._every = PREVIEW_EVERY
        self._next = 0
        self.kept: list[Preview] = []

    def wants(self, number: int) -> bool:
        """Whether a preview of this frame is to be made."""
        return number >= self._next

    def add(self, preview: Preview) -> None:
        """Of a frame that is wanted."""
        self._next = (preview.number // PREVIEW_EVERY + 1) * PREVIEW_EVERY
        if self.kept and preview.number // self._every == self.kept[-1].number // self._every:
            return
        self.kept.append(preview)
        if len(self.kept) > MAX_PREVIEWS:
            self.kept = self.kept[::2]
            self._every *= 2
