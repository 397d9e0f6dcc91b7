"""What a restoration gives back, and how it is told to people.

Shape legend: B pictures, H W their height and width, C channels (3 or 4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ..faces.components import ComponentBoxes
from ..faces.selection import SkippedFace
from ..faces.types import Face
from .align import AlignedFace


@dataclass(frozen=True, eq=False)
class RestoredFace:
    """One face before and after.

    aligned: where it lies.
    crop_3HW, restored_3HW: RGB [0, 1], 512x512, before and after the network.
    mask_HW: [0, 1], how much of it is to show; None for the soft box alone.
    components: boxes of its components, where the restorer asked for them.
    """

    aligned: AlignedFace
    crop_3HW: Tensor
    restored_3HW: Tensor
    mask_HW: Tensor | None = None
    components: ComponentBoxes | None = None


@dataclass(frozen=True, eq=False)
class RestoredImages:
    """One entry per picture that came in.

    images_BHWC: float32 [0, 1], RGB or RGBA; the official recipe leaves that range in gray images.
    masks_BHW: how much of a pasted face shows, 0..1, at the result's size.
    faces: the restored faces, and skipped: the others with the reason, in pixels of the pictures that came in.
    crops: every restored face before and after; empty where they were not to be kept.
    finder, restorer: what looked for the faces (None when they were given) and what restored and pasted them, in words.
    remarks: what else is to know.
    """

    images_BHWC: Tensor
    masks_BHW: Tensor
    faces: tuple[tuple[Face, ...], ...]
    skipped: tuple[tuple[SkippedFace, ...], ...]
    crops: tuple[RestoredFace, ...]
    face_source: str | None
    restorer: str
    remarks: tuple[str, ...] = ()

    def describe(self, index: int) -> list[str]:
        """What became of one picture: a line of numbers, then one for each skipped face."""
        restored, skipped = self.faces[index], self.skipped[index]
        came = len(restored) + len(skipped)
        how = "found" if self.face_source else "given"
        if came == 0:
            return [f"no face {how}"]
        return [f"{face_count(came)} {how}, {len(restored)} restored", *describe_skipped(skipped)]

    def made_with(self) -> str:
        """Which detector looked and, if there was anything to restore, which model restored."""
        if any(self.faces):
            return f"restored by {self.restorer}" + (f", found by {self.face_source}" if self.face_source else "")
        return f"looked for by {self.face_source}; nothing to restore" if self.face_source else "nothing to restore"

    def summary(self) -> str:
        """All pictures, a few lines each, and what they were made with."""
        lines = []
        for index in range(len(self.faces)):
            first, *rest = self.describe(index)
            lines += [f"picture {index + 1}: {first}", *(f"  {line}" for line in rest)]
        return "\n".join([*lines, *self.remarks, self.made_with()])


def face_count(count: int) -> str:
    """ "no face", "1 face", "2 faces" """
    return {0: "no face", 1: "1 face"}.get(count, f"{count} faces")


def describe_skipped(skipped: Sequence[SkippedFace]) -> list[str]:
    """A line for each face that was left out: where, and why."""
    return [f"skipped at ({x:.0f}, {y:.0f}): {entry.reason}" for entry in skipped for x, y in [entry.face.center_xy]]
