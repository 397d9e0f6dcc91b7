"""How strongly each pixel of a pasted face counts: the face's shape from its parse, and a soft box.

Shape legend: B faces, S side of the aligned crop, H W area of the image that the crop covers.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from .geometry import scale_of

# ParseNet's classes from skin (1) to hair (13), and earrings (15); not background, hat, necklace, neck and clothes.
FACE_CLASSES = (*range(1, 14), 15)
PARSE_BLUR_TAPS = 101
PARSE_BLUR_SIGMA = 11.0
PARSE_BORDER = 10


def face_shape_mask(labels_BSS: Tensor) -> Tensor:
    """mask_BSS float32 [0, 1], soft at the face's outline, 0 at the crop's rim.

    The published recipe: a 101-tap Gaussian of sigma 11, twice, then 10 pixels of zeros on every side.

    labels_BSS: parse labels, uint8, 19 classes.
    """
    is_face = torch.zeros(256, dtype=torch.float32, device=labels_BSS.device)
    is_face[list(FACE_CLASSES)] = 1
    mask_BSS = is_face[labels_BSS.long()]
    twice_SS = _parse_blur(labels_BSS.shape[-1]).to(mask_BSS.device)
    mask_BSS = twice_SS @ mask_BSS @ twice_SS.T
    inside_BSS = torch.zeros_like(mask_BSS)
    kept = slice(PARSE_BORDER, -PARSE_BORDER)
    inside_BSS[:, kept, kept] = mask_BSS[:, kept, kept]
    return inside_BSS


@lru_cache(maxsize=2)
@torch.inference_mode(False)
def _parse_blur(size: int) -> Tensor:
    """twice_SS: the blur of `face_shape_mask`, twice; kept, so made outside of inference mode."""
    blur_SS = gaussian_operator(size, PARSE_BLUR_TAPS, PARSE_BLUR_SIGMA)
    return blur_SS @ blur_SS


def gaussian_operator(size: int, taps: int, sigma: float) -> Tensor:
    """A Gaussian blur of one axis as a matrix (size, size), mirrored at the ends without repeating the last pixel.

    As a product with this matrix two passes cost as much as one, and a batch costs one call.
    """
    offsets = torch.arange(taps, dtype=torch.float64) - taps // 2
    kernel = torch.exp(-offsets.square() / (2 * sigma**2))
    kernel /= kernel.sum()
    rows = torch.arange(size)[:, None].expand(size, taps)
    period = max(2 * (size - 1), 1)
    wrapped = (rows + offsets.long()) % period
    columns = torch.where(wrapped < size, wrapped, period - wrapped)
    operator = torch.zeros(size, size, dtype=torch.float64)
    operator.index_put_((rows, columns), kernel.expand(size, taps), accumulate=True)
    return operator.float()


def soft_box(x_HW: Tensor, y_HW: Tensor, matrix: np.ndarray, crop_size: int) -> Tensor:
    """mask_HW in [0, 1]: 1 in the crop's middle, fading out before its rim; in closed form.

    The published mask erodes the warped square by 1/10 of its side and blurs it (see `published_soft_box`). A square
    under a similarity is a band in crop x times a band in crop y; erosion moves each band's rims inwards, and a
    Gaussian turns each rim into an error function. So no pixel has to look at its neighbours.

    x_HW, y_HW: each pixel's place in the crop (`geometry.crop_coordinates` under `matrix`).
    matrix: image -> crop of `crop_size`.
    """
    scale = scale_of(matrix)
    edge = max(crop_size / scale / 20, 1.0)
    slope = 1 / (math.sqrt(2) * opencv_sigma(edge) * scale)
    mask_HW = torch.ones_like(x_HW)
    for coordinate_HW, (per_column, per_row) in zip((x_HW, y_HW), matrix[:, :2].tolist(), strict=True):
        inset = edge * (abs(per_column) + abs(per_row)) - 0.5
        inside_low = torch.erf((coordinate_HW - inset).mul_(slope))
        inside_high = torch.erf((crop_size - 1 - inset - coordinate_HW).mul_(slope))
        mask_HW *= inside_low.add_(inside_high).mul_(0.5)
    return mask_HW.clamp_(min=0)


def opencv_sigma(edge: float) -> float:
    """The sigma that OpenCV takes for 2 * edge + 1 taps when none is given."""
    return 0.3 * (edge - 1) + 0.8
