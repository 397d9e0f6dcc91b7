"""The network that tells a photo's detail from its noise, and the bands that it works on. It comes with the pack.

Shape legend: S side of an image, N bands.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from ..networks.detail_gates import SIGMAS, DetailGates
from ..networks.pixel_path import split_bands
from ..weights.folders import ASSETS_FOLDER
from ..weights.reading import read_state_dict

FILENAME = "detail_gates.safetensors"


def detail_bands(luma_1SS: Tensor) -> list[Tensor]:
    """N bands (1, S, S), finest first; what is coarser than detail is not among them."""
    return [band_11SS[0] for band_11SS in split_bands(luma_1SS[None], SIGMAS)[: len(SIGMAS)]]


@torch.no_grad()
def open_gates(luma_1SS: Tensor) -> Tensor:
    """(N, S, S) in [0, 1]: how much of each band is detail.

    luma_1SS: [0, 1].
    """
    logits_1Nhw = _gates(luma_1SS.device)(luma_1SS[None].float() * 2 - 1)
    gates_1NSS = F.interpolate(torch.sigmoid(logits_1Nhw), luma_1SS.shape[1:], mode="bilinear", align_corners=False)
    return gates_1NSS[0]


@cache
def _gates(device: torch.device) -> DetailGates:
    """So small that a memory manager doesn't need to hold it."""
    network = DetailGates()
    network.load_state_dict(read_state_dict(ASSETS_FOLDER / FILENAME))
    return network.requires_grad_(False).eval().to(device)
