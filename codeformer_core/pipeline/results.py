"""What a restoration gives back.

Shape legend: B images, H W their height and width, C channels (3 or 4).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from torch import Tensor

from ..faces.components import ComponentBoxes
from ..faces.events import Event, SkippedFace
from ..faces.types import Face
from .align import AlignedFace
from .judge import Judgement
from .report import report

# Called with image_HW3, RGB [0, 1], as it stands now; it is for looking only.
OnPasted = Callable[[Tensor], None]


@dataclass(frozen=True, eq=False)
class RestoredFace:
    """One face before and after.

    aligned: where it lies.
    crop_3HW, restored_3HW: RGB [0, 1], 512x512, before and after the network.
    mask_HW: [0, 1], how much of it is to show; None for the soft box alone.
    components: boxes of its components, where the restorer asked for them.
    judgement: how it compares with what it was, where that was asked.
    """

    aligned: AlignedFace
    crop_3HW: Tensor
    restored_3HW: Tensor
    mask_HW: Tensor | None = None
    components: ComponentBoxes | None = None
    judgement: Judgement | None = None


@dataclass(frozen=True, eq=False)
class RestoredImages:
    """One entry per input image.

    images_BHWC: float32 [0, 1], RGB or RGBA; the official recipe leaves that range in gray images.
    masks_BHW: how much of a pasted face shows, 0..1, at the result's size.
    faces: the restored faces, in pixels of the input images.
    skipped: the other faces with the reason, in pixels of the input images.
    crops: every restored face before and after; empty where they were not to be kept.
    events: how many faces of each image were found and restored, why others were skipped, and what made the result.
    judgements: of each of `faces`, how it compares with what it was; None where that was not asked.
    """

    images_BHWC: Tensor
    masks_BHW: Tensor
    faces: tuple[tuple[Face, ...], ...]
    skipped: tuple[tuple[SkippedFace, ...], ...]
    crops: tuple[RestoredFace, ...]
    events: tuple[Event, ...]
    judgements: tuple[tuple[Judgement | None, ...], ...] = ()

    def summary(self) -> str:
        """The report in English."""
        return report(self)


def counts(image: int, **steps: int) -> Event:
    """How many faces of an image were found, restored and so on."""
    return Event("faces", image, values=steps)


def skip_events(skipped: Sequence[Sequence[SkippedFace]]) -> list[Event]:
    """An event for each skipped face.

    skipped: per image.
    """
    return [entry.as_event(image) for image, entries in enumerate(skipped) for entry in entries]


def notes_of(events: Iterable[Event]) -> list[Event]:
    """All but the counts, for a step that counts anew."""
    return [event for event in events if event.kind != "faces"]
