"""Whether a restored face is worse than it was: softer than its photo, or another person.

Shape legend: S side of a face, N bands.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..faces.events import Event, SkipKind
from ..faces.geometry import CROP_SIZE
from ..faces.identity import SAME_PERSON, cached_identity, distance
from ..models.detail_gates import detail_bands
from .align import AlignedFace
from .composite import resized
from .detail import PhotoDetail, local_energy, luma
from .options import WhenWorse

# Rows and columns of an aligned face of 512 that hold the face itself: no hair, no background.
_FACE = (slice(60, 480), slice(90, 430))
# Sharpness, after / before, from which on a face is not worse, and at which nothing of it shows.
SHARP_ENOUGH, TOO_SOFT = 0.8, 0.5
# The same of identity's distance: SAME_PERSON is dlib's limit.
SAME_ENOUGH, ANOTHER_PERSON = 0.4, SAME_PERSON
# A gate of which less is open says that a band is noise; the network never closes them wholly.
_NOISE = 0.35
# How much of the coarsest band is open in photos that show little of a face, and in those that show who it is.
_BLURRED, _RECOGNISABLE = 0.35, 0.7
# Energies below that of two levels of 8 bits say nothing.
_EMPTY = (2 / 255) ** 2
# Less of a face can't be seen.
_SHOWS = 0.1


@dataclass(frozen=True)
class Judgement:
    """A restored face beside what it was.

    sharpness: after / before, of what the photo shows above its noise; 1 where it shows no detail.
    identity: distance of dlib's descriptors; 0.6 and more are another person.
    recognisable: how far the photo shows who it is, 0 to 1. A blurred face has no identity that could be lost.
    before, after: the detail whose ratio the sharpness is, root mean square, of values in [0, 1].
    """

    sharpness: float
    identity: float
    recognisable: float
    before: float = 0.0
    after: float = 0.0

    @property
    def softer(self) -> float:
        """0: as sharp as it was; 1: much softer."""
        return _ramp(self.sharpness, SHARP_ENOUGH, TOO_SOFT)

    @property
    def other(self) -> float:
        """0: the same person, as far as the photo tells; 1: another one."""
        return self.recognisable * _ramp(self.identity, SAME_ENOUGH, ANOTHER_PERSON)

    def shown(self, when_worse: WhenWorse) -> float:
        """How much of the restored face is to show, 0 to 1."""
        share = 1 - max(self.softer, self.other)
        if when_worse == "paste":
            return 1.0
        if when_worse == "leave":
            return float(share > 0.5)
        return share if share > _SHOWS else 0.0

    @property
    def fault(self) -> SkipKind:
        return "already_sharper" if self.softer >= self.other else "other_person"

    @property
    def values(self) -> dict[str, float]:
        return {"sharpness": self.sharpness, "identity": self.identity}


@torch.no_grad()
def judge(face_3SS: Tensor, crop_3SS: Tensor, photo: PhotoDetail) -> Judgement:
    """How a restored face compares with its crop.

    face_3SS: RGB [0, 1], any size.
    crop_3SS: RGB [0, 1], 512 pixels.
    photo: of the crop.
    """
    face_3SS = resized(face_3SS, CROP_SIZE)
    after = before = torch.zeros((), device=crop_3SS.device)
    for gate_SS, of_photo_1SS, of_face_1SS in zip(
        photo.gates_NSS, photo.bands, detail_bands(luma(face_3SS)), strict=True
    ):
        detail_SS = ((gate_SS - _NOISE) / (1 - _NOISE)).clamp(min=0)[_FACE]
        after = after + (detail_SS * local_energy(of_face_1SS)[0][_FACE]).mean()
        before = before + (detail_SS * local_energy(of_photo_1SS)[0][_FACE]).mean()
    sharpness = ((after + _EMPTY) / (before + _EMPTY)).sqrt()
    descriptors_2D = cached_identity(crop_3SS.device).descriptors(torch.stack((crop_3SS, face_3SS)).clamp(0, 1))
    identity = distance(descriptors_2D[:1], descriptors_2D[1:])[0]
    recognisable = _ramp(float(photo.gates_NSS[-1][_FACE].mean()), _BLURRED, _RECOGNISABLE)
    return Judgement(float(sharpness), float(identity), recognisable, float(before.sqrt()), float(after.sqrt()))


def judged_events(faces: list[tuple[AlignedFace, Judgement, float]], unscale: float) -> list[Event]:
    """What was judged: of all faces, and of each that is faded.

    faces: those that were pasted, each with how much of it shows.
    unscale: pixels as they are worked on -> those of the image that came.
    """
    events = [
        Event(
            "faded_softer" if judgement.fault == "already_sharper" else "faded_other",
            one.image,
            one.face if unscale == 1 else one.face.scaled(unscale),
            {"share": share, **judgement.values},
        )
        for one, judgement, share in faces
        if share < 1
    ]
    if faces:
        sharpness = sum(judgement.sharpness for _, judgement, _ in faces) / len(faces)
        identity = max(judgement.identity for _, judgement, _ in faces)
        events.append(Event("judged", values={"sharpness": sharpness, "identity": identity}))
    return events


def _ramp(value: float, start: float, end: float) -> float:
    """0 up to `start`, 1 from `end` on."""
    return min(1.0, max(0.0, (value - start) / (end - start)))
