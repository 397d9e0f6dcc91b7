"""The one face that is compared, and what can be said of versions of it in numbers.

Shape legend: B images, H W height and width, C channels; N restored faces, S = 512.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..faces.batch import FaceBatch, check_same_images
from ..faces.events import Event
from ..faces.geometry import CROP_SIZE
from ..imaging import tensors as imaging
from ..metrics.pixels import Sharpness
from ..pipeline.crop import cut_crops
from ..pipeline.plan import faces_of, plan

PLACEHOLDER_GRAY = 0.5


@dataclass(frozen=True, eq=False)
class OneFace:
    """The face that is compared.

    crop_1SS3: RGB [0, 1]; None if there was no face.
    events: which face it is.
    faces: that face alone, if it was cropped.
    """

    crop_1SS3: Tensor | None
    events: tuple[Event, ...]
    faces: FaceBatch | None = None


def one_face(images_BHWC: Tensor, faces: FaceBatch | None) -> OneFace:
    """The first image, taken for an aligned face of any size.

    Or, with `faces`, the first of those found in these images that can be aligned, cropped.
    """
    return _first_image(images_BHWC) if faces is None else _first_crop(images_BHWC, faces)


def placeholder() -> Tensor:
    """gray_1SS3, which stands for the face where there is none."""
    return torch.full((1, CROP_SIZE, CROP_SIZE, 3), PLACEHOLDER_GRAY)


def numbers(labels: Sequence[str], faces_NSS3: Tensor, crop_1SS3: Tensor) -> list[Event]:
    """Of each face, by its label, how far it is from the input (L1 of 255), and how sharp beside it."""
    made_N3SS = faces_NSS3.permute(0, 3, 1, 2).clamp(0, 1)
    given_N3SS = crop_1SS3.to(made_N3SS).permute(0, 3, 1, 2).clamp(0, 1).expand_as(made_N3SS)
    apart_N = ((made_N3SS - given_N3SS).abs().mean((1, 2, 3)) * 255).cpu().numpy().tolist()
    sharpness_N = Sharpness().measure(made_N3SS, given_N3SS).cpu().numpy().tolist()
    return [
        # An input of one colour has no sharpness.
        Event("sharpness", values={"label": label, "l1": apart, "sharpness": sharpness})
        if math.isfinite(sharpness)
        else Event("distance", values={"label": label, "l1": apart})
        for label, apart, sharpness in zip(labels, apart_N, sharpness_N, strict=True)
    ]


def _first_image(images_BHWC: Tensor) -> OneFace:
    imaging.check_layout(images_BHWC)
    first = imaging.split_alpha(images_BHWC[:1])
    height, width = first.rgb_BHW3.shape[1:3]
    events = [Event("compared_first", values={"count": len(images_BHWC)})]
    if height != width:
        events.append(Event("not_square", values={"width": width, "height": height}))
    return OneFace(imaging.resize(first.rgb_BHW3, CROP_SIZE, CROP_SIZE), tuple(events))


def _first_crop(images_BHWC: Tensor, faces: FaceBatch) -> OneFace:
    imaging.check_layout(images_BHWC)
    check_same_images(faces, images_BHWC)
    rgb_BHW3 = imaging.split_alpha(images_BHWC).rgb_BHW3
    planned = plan(rgb_BHW3, faces)
    for one in planned.aligned[:1]:
        number = faces.per_image[one.image].index(one.face) + 1
        compared = Event("compared_face", values={"number": number, "image": one.image + 1})
        notes = [event for event in planned.events if event.image == one.image]
        return OneFace(cut_crops(rgb_BHW3, [one]), (compared, *notes), faces_of(faces, rgb_BHW3, [one]))
    return OneFace(None, (Event("no_face"),))
