"""What comes out where the faces of whole images are edited.

Shape legend: B images, H W their height and width, C channels (1 to 4).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..faces.batch import FaceBatch
from ..faces.events import Event


@dataclass(frozen=True, eq=False)
class EditedPhotos:
    """Images with edited faces.

    images_BHWC: float32 [0, 1], as many as came in and of their size, alpha kept.
    masks_BHW: how much of a new face shows, 0..1.
    faces: those that were worked on.
    events: what was found and done.
    """

    images_BHWC: Tensor
    masks_BHW: Tensor
    faces: FaceBatch
    events: tuple[Event, ...]
