"""Choosing one person's faces, by reference photos.

Shape legend: B images, H W their height and width, C channels (1 to 4); N faces, D = 128 numbers of a descriptor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..faces.detection import FaceDetector
from ..faces.events import Event, SkippedFace
from ..faces.geometry import crop_face
from ..faces.identity import SAME_PERSON, cached_identity
from ..imaging import tensors as imaging
from .align import AlignedFace
from .options import RestoreOptions
from .plan import plan

# Crops whose descriptors are computed together.
FACES_AT_ONCE = 16


@dataclass(frozen=True, eq=False)
class Person:
    """Whose faces are worked on.

    descriptors_ND: of the reference photos.
    excluded: everybody else's faces instead.
    max_distance: up to which a face is this person's; 0.6 is dlib's limit.
    """

    descriptors_ND: Tensor
    excluded: bool = False
    max_distance: float = SAME_PERSON

    def __post_init__(self) -> None:
        if not 0 < self.max_distance <= 2:
            raise ValueError(
                f"distance of a person must be above 0 and at most 2, got {self.max_distance}. 0.6 is the usual limit"
            )

    def distances(self, rgb_BHW3: Tensor, aligned: Sequence[AlignedFace]) -> list[float]:
        """How far each face is from the nearest reference photo.

        rgb_BHW3: RGB [0, 1].
        """
        found: list[float] = []
        for start in range(0, len(aligned), FACES_AT_ONCE):
            descriptors_nD = _descriptors(rgb_BHW3, aligned[start : start + FACES_AT_ONCE])
            found += torch.cdist(descriptors_nD, self.descriptors_ND.to(descriptors_nD)).amin(1).tolist()
        return found

    def judged(self, face: AlignedFace, distance: float) -> Event | SkippedFace:
        """What there is to know of a face: that it is worked on, or why it is not."""
        values = {"distance": distance, "limit": self.max_distance}
        if (distance <= self.max_distance) == self.excluded:
            return SkippedFace(face.face, "is_person" if self.excluded else "not_person", values)
        return Event("person", face.image, face.face, values)


@torch.no_grad()
def load_person(
    references: Sequence[Tensor],
    *,
    detector: FaceDetector,
    excluded: bool = False,
    max_distance: float = SAME_PERSON,
    names: Sequence[str] = (),
) -> Person:
    """The person whom reference photos show: of each photo the largest face.

    references: images_BHWC, floats in [0, 1], gray, RGB or RGBA; of any sizes, one or more in each.
    detector: finds their faces.
    excluded, max_distance: see `Person`.
    names: of the photos, for messages.
    Raises ValueError where there is no reference photo, or one shows no face.
    """
    descriptors: list[Tensor] = []
    for images_BHWC in references:
        imaging.check_layout(images_BHWC, "reference photos")
        for image_HWC in images_BHWC:
            rgb_1HW3 = imaging.split_alpha(image_HWC[None], "reference photos").rgb_BHW3
            aligned = plan(rgb_1HW3, detector, RestoreOptions(faces="largest")).aligned
            if not aligned:
                number = len(descriptors)
                name = names[number] if number < len(names) else f"reference photo {number + 1}"
                raise ValueError(f"{name} shows no face. Choose photos on which the person's face is seen well")
            descriptors.append(_descriptors(rgb_1HW3, aligned))
    if not descriptors:
        raise ValueError("there is no reference photo of the person. Give one or more")
    return Person(torch.cat(descriptors), excluded, max_distance)


def _descriptors(rgb_BHW3: Tensor, aligned: Sequence[AlignedFace]) -> Tensor:
    crops_N3SS = torch.stack([crop_face(rgb_BHW3[one.image], one.matrix) for one in aligned])
    return cached_identity(crops_N3SS.device).descriptors(crops_N3SS.clamp(0, 1))
