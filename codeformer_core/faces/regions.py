"""Masks of single parts of a face, and masks made larger, smaller or softer.

Shape legend: N faces, S side of the aligned crop.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from .choices import REGIONS
from .masks import gaussian_operator

# Also those of a Chinese keyboard.
SEPARATORS = "[,;\uff0c\u3001\uff1b]"
# Pixels of a 512 crop: without it the parse's edges show as a line.
REGION_BLUR_SIGMA = 3.0


def parse_regions(text: str) -> tuple[str, ...]:
    """ "eyes, mouth" -> ("eyes", "mouth").

    Raises ValueError for an empty list and for unknown names.
    """
    parts = (name.strip().lower() for name in re.split(SEPARATORS, text))
    names = tuple(dict.fromkeys(filter(None, parts)))
    unknown = [name for name in names if name not in REGIONS]
    if unknown or not names:
        given = f"unknown face regions {', '.join(unknown)[:60]}" if unknown else "no face region is named"
        raise ValueError(f"{given}. Give some of {', '.join(REGIONS)}, with commas between them")
    return names


def region_masks(labels_NSS: Tensor, regions: Sequence[str]) -> Tensor:
    """masks_NSS float32 [0, 1] of these regions together, soft at the edges.

    labels_NSS: parse labels, uint8, 19 classes.
    regions: names in `REGIONS`.
    """
    is_wanted = torch.zeros(256, dtype=torch.float32, device=labels_NSS.device)
    is_wanted[[number for region in regions for number in REGIONS[region]]] = 1
    return blurred(is_wanted[labels_NSS.long()], REGION_BLUR_SIGMA)


def grown(masks_NSS: Tensor, pixels: float) -> Tensor:
    """The masks with their edges moved. The rim counts as outside.

    pixels: how far outwards; inwards if negative.
    """
    steps = round(abs(pixels))
    if steps == 0:
        return masks_NSS
    if pixels > 0:
        return _widest(F.pad(masks_NSS[:, None], (steps,) * 4), steps)
    return 1 - _widest(F.pad(1 - masks_NSS[:, None], (steps,) * 4, value=1.0), steps)


def _widest(padded_N1PP: Tensor, steps: int) -> Tensor:
    """The maximum over squares; one axis after the other, which costs the window's side instead of its area."""
    across_N1PS = F.max_pool2d(padded_N1PP, (1, 2 * steps + 1), stride=1)
    return F.max_pool2d(across_N1PS, (2 * steps + 1, 1), stride=1)[:, 0]


def blurred(images_NSS: Tensor, sigma: float) -> Tensor:
    """A Gaussian blur, mirrored at the rim.

    sigma: pixels; none at 0.
    """
    if sigma <= 0:
        return images_NSS
    size = images_NSS.shape[-1]
    taps = 2 * min(round(3 * sigma) + 1, size - 1) + 1
    blur_SS = _operator(size, taps, sigma).to(images_NSS.device)
    return blur_SS @ images_NSS @ blur_SS.T


@lru_cache(maxsize=8)
@torch.inference_mode(False)
def _operator(size: int, taps: int, sigma: float) -> Tensor:
    """Of the sizes of faces, which come again and again."""
    return gaussian_operator(size, taps, sigma)
