"""The one face that is compared, and what can be said of versions of it in numbers.

Shape legend: B images, H W height and width, C channels; N restored faces, S = 512.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..faces.batch import FaceBatch, check_same_images
from ..faces.events import Event
from ..faces.geometry import CROP_SIZE
from ..imaging import tensors as imaging
from ..metrics.descriptors import DlibIdentity
from ..metrics.kinds import FaceMetric
from ..metrics.niqe import Niqe, read_pristine_model
from ..metrics.pixels import Sharpness
from ..pipeline.crop import cut_crops
from ..pipeline.plan import faces_of, plan

PLACEHOLDER_GRAY = 0.5
Measure = Literal["identity", "sharpness", "NIQE"]


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


@dataclass(frozen=True)
class FaceNumbers:
    """How one version of a face compares with the input.

    label: what made it.
    l1: mean absolute difference to the input, of 255.
    sharpness: times the input's; None where the input has a single colour.
    identity: distance of dlib's descriptors, 0 and up; 0.6 and more are another person.
    niqe: how far its statistics are from a good photo's, lower is better; None where the face has a single colour.
    """

    label: str
    l1: float
    sharpness: float | None
    identity: float
    niqe: float | None

    @property
    def event(self) -> Event:
        if self.sharpness is None:
            return Event("distance", values={"label": self.label, "l1": self.l1})
        values = {"label": self.label, "l1": self.l1, "sharpness": self.sharpness, "identity": self.identity}
        return Event("sharpness", values={**values, "niqe": "-" if self.niqe is None else round(self.niqe, 2)})


def measure_faces(labels: Sequence[str], faces_NSS3: Tensor, crop_1SS3: Tensor) -> tuple[FaceNumbers, ...]:
    """The numbers of each face, by its label."""
    made_N3SS = faces_NSS3.permute(0, 3, 1, 2).clamp(0, 1)
    given_N3SS = crop_1SS3.to(made_N3SS).permute(0, 3, 1, 2).clamp(0, 1).expand_as(made_N3SS)
    apart_N = ((made_N3SS - given_N3SS).abs().mean((1, 2, 3)) * 255).cpu().numpy().tolist()
    metrics: tuple[FaceMetric, ...] = (Sharpness(), DlibIdentity(made_N3SS.device), Niqe(read_pristine_model()))
    sharpness_N, identity_N, niqe_N = (metric.measure(made_N3SS, given_N3SS).numpy().tolist() for metric in metrics)
    return tuple(
        FaceNumbers(label, apart, _finite(sharpness), identity, _finite(niqe))
        for label, apart, sharpness, identity, niqe in zip(
            labels, apart_N, sharpness_N, identity_N, niqe_N, strict=True
        )
    )


def best_of(faces: Sequence[FaceNumbers]) -> dict[Measure, frozenset[int]]:
    """Of each measure, the indices of the best faces: nearest in identity, sharpest, of the lowest NIQE.

    Equal to two digits is equally good. Empty where there is nothing to compare.
    """
    if len(faces) < 2:
        return {"identity": frozenset(), "sharpness": frozenset(), "NIQE": frozenset()}
    return {
        "identity": _smallest([face.identity for face in faces]),
        "sharpness": _smallest([None if face.sharpness is None else -face.sharpness for face in faces]),
        "NIQE": _smallest([face.niqe for face in faces]),
    }


def number_events(faces: Sequence[FaceNumbers]) -> list[Event]:
    """The numbers of each face, then which are the best."""
    best = best_of(faces)
    return [
        *(face.event for face in faces),
        *(
            Event("best", values={"measure": measure, "labels": tuple(faces[index].label for index in sorted(indices))})
            for measure, indices in best.items()
            if indices
        ),
    ]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _smallest(values: Sequence[float | None]) -> frozenset[int]:
    rounded = [None if value is None else round(value, 2) for value in values]
    smallest = min((value for value in rounded if value is not None), default=None)
    return frozenset(index for index, value in enumerate(rounded) if value is not None and value == smallest)


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
