"""The photo's own detail, where a restorer wiped it out or could not see it.

Band by band: what the photo shows above its own noise (`models.detail_gates` says how much that is), and the restored
face lacks, comes back. Noise, blocks and halftone screens stay away, and what the restorer painted is not touched.
Shape legend: S side of a face, N bands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..faces.geometry import CROP_SIZE, crop_face, scale_of
from ..models.detail_gates import detail_bands, open_gates
from ..models.restorer import FaceRestorer
from .composite import resized

# Detail is also looked for at these sides, as far as the photo has as many pixels.
LARGER_SIDES = (2 * CROP_SIZE, 4 * CROP_SIZE)
# Pixels: windows over which the energies of photo and face are compared.
_WINDOW = 16
# Energies below that of rounding to 8 bits are none; in [0, 1].
_EMPTY = (1 / 255) ** 2 / 12
_LUMA = (0.299, 0.587, 0.114)  # BT.601


def detail_of(wanted: float | None, restorer: FaceRestorer, fidelity: float) -> tuple[float, float]:
    """How much of the photo's detail comes back: of what the restorer saw, and of what is too fine for it.

    wanted: `RestoreOptions.detail`.
    fidelity: at which the restorer runs.
    """
    if wanted is not None:
        return wanted, wanted
    # Fidelity says how far the restorer may go from what it saw. What it can't see it can't better either.
    return (fidelity if restorer.uses_fidelity else 1.0), 1.0


@dataclass(frozen=True, eq=False)
class PhotoDetail:
    """What a photo shows of a face above its noise.

    bands: (1, S, S) each, finest first.
    gates_NSS: how much of each is detail, [0, 1].
    """

    bands: Sequence[Tensor]
    gates_NSS: Tensor

    @classmethod
    def of(cls, photo_3SS: Tensor) -> PhotoDetail:
        """The detail of a photo.

        photo_3SS: the aligned crop, RGB [0, 1].
        """
        photo_1SS = luma(photo_3SS)
        return cls(detail_bands(photo_1SS), open_gates(photo_1SS))

    def given_back(self, face_3SS: Tensor, amount: float) -> Tensor:
        """The restored face with what the photo has and it lacks.

        face_3SS: RGB [0, 1], the same place at the same size.
        amount: 0 nothing, 1 all of it.
        """
        if amount == 0:
            return face_3SS
        face_1SS = luma(face_3SS)
        added_1SS = torch.zeros_like(face_1SS)
        for gate_SS, of_photo_1SS, of_face_1SS in zip(self.gates_NSS, self.bands, detail_bands(face_1SS), strict=True):
            added_1SS += gate_SS * lacking(of_face_1SS, of_photo_1SS) * (of_photo_1SS - of_face_1SS)
        return (face_3SS + amount * added_1SS).clamp(0, 1)


@torch.no_grad()
def with_photos_detail(
    face_3SS: Tensor, photo: PhotoDetail, image_HW3: Tensor, matrix: np.ndarray, seen: float, unseen: float
) -> Tensor:
    """The restored face with the detail of its image; enlarged where the image shows it larger.

    face_3SS: RGB [0, 1], 512 pixels.
    photo: of the crop that was restored.
    image_HW3: RGB [0, 1].
    matrix: image -> 512 crop.
    seen, unseen: how much comes back of what the restorer saw and wiped out, and of what is too fine for its 512
    pixels, 0 to 1.
    """
    face_3SS = photo.given_back(face_3SS, seen)
    pixels = CROP_SIZE / scale_of(matrix)
    for side in LARGER_SIDES:
        if unseen > 0 and pixels > side / 2:
            larger = PhotoDetail.of(crop_face(image_HW3, matrix, side))
            face_3SS = larger.given_back(resized(face_3SS, side), unseen)
    return face_3SS


def lacking(of_face_1SS: Tensor, of_photo_1SS: Tensor) -> Tensor:
    """(1, S, S) in [0, 1]: which part of the photo's energy in a band the face does not have."""
    of_face, of_photo = local_energy(of_face_1SS), local_energy(of_photo_1SS)
    return (1 - (of_face + _EMPTY) / (of_photo + _EMPTY)).clamp(0, 1)


def luma(rgb_3SS: Tensor) -> Tensor:
    """(1, S, S)"""
    return (rgb_3SS.float() * torch.tensor(_LUMA, device=rgb_3SS.device).view(3, 1, 1)).sum(0, keepdim=True)


def local_energy(band_1SS: Tensor) -> Tensor:
    """(1, S, S): the mean of its squares around each pixel."""
    small = F.avg_pool2d(band_1SS.square()[None], _WINDOW // 2, ceil_mode=True, count_include_pad=False)
    return F.interpolate(small, band_1SS.shape[1:], mode="bilinear", align_corners=False)[0]
