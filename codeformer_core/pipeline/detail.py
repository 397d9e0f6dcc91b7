"""The photo's own detail, where a restorer wiped it out or could not see it.

Band by band: what the photo shows above its own noise (`networks.detail_gates` says how much that is), and the restored
face lacks, comes back. Noise, blocks and halftone screens stay away, and what the restorer painted is not touched.
Shape legend: S side of a face, N bands.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..faces.geometry import CROP_SIZE, crop_face, scale_of
from ..imaging import tensors as imaging
from ..networks.detail_gates import SIGMAS, DetailGates
from ..networks.pixel_path import split_bands
from ..weights.folders import ASSETS_FOLDER
from ..weights.reading import read_state_dict

FILENAME = "detail_gates.safetensors"
# Pixels: windows over which the energies of photo and face are compared.
_WINDOW = 16
# Energies below that of rounding to 8 bits are none; in [0, 1].
_EMPTY = (1 / 255) ** 2 / 12
_LUMA = (0.299, 0.587, 0.114)  # BT.601


# Detail is looked for at these sides, as far as the photo has as many pixels.
SIDES = (CROP_SIZE, 2 * CROP_SIZE, 4 * CROP_SIZE)


@torch.no_grad()
def with_photos_detail(face_3SS: Tensor, image_HW3: Tensor, matrix: np.ndarray, seen: float, unseen: float) -> Tensor:
    """The restored face with the detail of its image; larger than it came where the image shows it larger.

    face_3SS: RGB [0, 1], 512 pixels. image_HW3: RGB [0, 1]. matrix: image -> 512 crop.
    seen, unseen: how much comes back of what the restorer saw and wiped out, and of what is too fine for its 512
    pixels, 0 to 1.
    """
    pixels = CROP_SIZE / scale_of(matrix)
    for side, amount in zip(SIDES, (seen, unseen, unseen), strict=True):
        if amount == 0 or (side > CROP_SIZE and pixels <= side / 2):
            continue
        face_3SS = _resized(face_3SS, side)
        face_3SS = keep_detail(face_3SS, crop_face(image_HW3, matrix, side), amount)
    return face_3SS


@torch.no_grad()
def keep_detail(face_3SS: Tensor, photo_3SS: Tensor, amount: float) -> Tensor:
    """The restored face with what the photo has and it lacks.

    face_3SS, photo_3SS: RGB [0, 1], the same place at the same size. amount: 0 nothing, 1 all of it.
    """
    if amount == 0:
        return face_3SS
    face_1SS, photo_1SS = luma(face_3SS), luma(photo_3SS)
    gates_NSS = open_gates(photo_1SS)
    bands = zip(split_bands(photo_1SS[None], SIGMAS), split_bands(face_1SS[None], SIGMAS), strict=True)
    added_1SS = torch.zeros_like(face_1SS)
    for gate_SS, (of_photo, of_face) in zip(gates_NSS, bands, strict=False):
        added_1SS += gate_SS * lacking(of_face, of_photo)[0] * (of_photo - of_face)[0]
    return (face_3SS + amount * added_1SS).clamp(0, 1)


def lacking(of_face_11SS: Tensor, of_photo_11SS: Tensor) -> Tensor:
    """-> (1, 1, S, S) in [0, 1]: which part of the photo's energy in a band the face does not have."""
    of_face, of_photo = (_local_mean(band.square()) for band in (of_face_11SS, of_photo_11SS))
    return (1 - (of_face + _EMPTY) / (of_photo + _EMPTY)).clamp(0, 1)


def open_gates(photo_1SS: Tensor) -> Tensor:
    """-> (N, S, S) in [0, 1]: how much of each band is detail, finest first. photo_1SS: luma [0, 1]."""
    logits_1Nhw = _gates(photo_1SS.device)(photo_1SS[None].float() * 2 - 1)
    gates_1NSS = F.interpolate(torch.sigmoid(logits_1Nhw), photo_1SS.shape[1:], mode="bilinear", align_corners=False)
    return gates_1NSS[0]


def luma(rgb_3SS: Tensor) -> Tensor:
    """(1, S, S)"""
    return (rgb_3SS.float() * torch.tensor(_LUMA, device=rgb_3SS.device).view(3, 1, 1)).sum(0, keepdim=True)


def _local_mean(values_11SS: Tensor) -> Tensor:
    small = F.avg_pool2d(values_11SS, _WINDOW // 2, ceil_mode=True, count_include_pad=False)
    return F.interpolate(small, values_11SS.shape[2:], mode="bilinear", align_corners=False)


def _resized(face_3SS: Tensor, side: int) -> Tensor:
    if face_3SS.shape[-1] == side:
        return face_3SS
    return imaging.resize(face_3SS.permute(1, 2, 0)[None], side, side)[0].permute(2, 0, 1)


@cache
def _gates(device: torch.device) -> DetailGates:
    """So small that no memory manager need hold it."""
    network = DetailGates()
    network.load_state_dict(read_state_dict(ASSETS_FOLDER / FILENAME))
    return network.requires_grad_(False).eval().to(device)
