"""Whether two faces are the same person's: dlib's face recognition network on faces aligned to the 512 template.

Shape legend: B faces, H W height and width (square), S = 150 side of a chip, D = 128 numbers of a descriptor.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import cast

import torch
from torch import Tensor

from ..networks.face_recognition import CHIP_SIDE, FaceRecognition
from .geometry import CROP_SIZE
from .identity_weights import load_face_recognition

# Descriptors nearer than this are taken for the same person's (dlib's own threshold).
SAME_PERSON = 0.6
# Where dlib's chip lies in a crop of 512: fitted, see `cut_chips`.
CHIP_CENTER_XY = (258.0, 310.5)
CHIP_SPAN = 344.0


@dataclass(frozen=True, eq=False)
class FaceIdentity:
    """Descriptors of faces, differentiable.

    network: chips_B3SS -> descriptors_BD, frozen.
    """

    network: FaceRecognition

    def descriptors(self, faces_B3HW: Tensor) -> Tensor:
        """Who each face is: descriptors_BD float32, computed in float32 also under autocast.

        faces_B3HW: float RGB in [0, 1], square, any size, aligned to the 512 template, on the network's device.
        Raises ValueError for other shapes.
        """
        if faces_B3HW.ndim != 4 or faces_B3HW.shape[1] != 3 or faces_B3HW.shape[2] != faces_B3HW.shape[3]:
            raise ValueError(f"aligned faces must be (n, 3, side, side), got {tuple(faces_B3HW.shape)}")
        with torch.autocast(faces_B3HW.device.type, enabled=False):
            return self.network(cut_chips(faces_B3HW.float()))


def load_identity(device: torch.device | str = "cpu") -> FaceIdentity:
    """The network that comes with the pack, on `device`.

    Raises WeightsError where its file is missing or damaged.
    """
    return FaceIdentity(load_face_recognition().to(device))


@cache
def cached_identity(device: torch.device) -> FaceIdentity:
    """`load_identity`, once for each device: 22 MB, for which no memory manager need be asked."""
    return load_identity(device)


def distance(a_BD: Tensor, b_BD: Tensor) -> Tensor:
    """Euclidean distance_B. Below SAME_PERSON: the same person, by dlib's rule."""
    return cast(Tensor, torch.linalg.vector_norm(a_BD - b_BD, dim=-1))


def cut_chips(faces_B3HW: Tensor) -> Tensor:
    """dlib's face chips, cut from the aligned faces: chips_B3SS.

    Two matrices resample rows and columns: deterministic on every device, where a sampled grid's gradient is not.
    """
    size = faces_B3HW.shape[2]
    x, y = ((center + 0.5) * (size / CROP_SIZE) for center in CHIP_CENTER_XY)
    span = CHIP_SPAN * (size / CROP_SIZE)
    rows_SH, columns_SW = (_resampling(size, middle - span / 2, span).to(faces_B3HW) for middle in (y, x))
    return rows_SH @ faces_B3HW @ columns_SW.T


def _resampling(size: int, start: float, span: float) -> Tensor:
    """(S, size) float64: `span` pixels from the edge `start` on, as S pixels. A triangle as wide as a new pixel, but at
    least bilinear, which also averages where it shrinks."""
    scale = span / CHIP_SIDE
    centers_S = start + (torch.arange(CHIP_SIDE, dtype=torch.float64) + 0.5) * scale
    places = torch.arange(size, dtype=torch.float64) + 0.5
    weights = (1 - (centers_S[:, None] - places).abs() / max(scale, 1.0)).clamp(min=0)
    return weights / weights.sum(1, keepdim=True)
