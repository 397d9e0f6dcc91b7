"""JPEG's losses on a batch of images, in integers and on any device: what a baseline file at 4:2:0 gives back.

Only the entropy coding is left out, which loses nothing. The rest follows libjpeg(-turbo) as OpenCV calls it, to the
last bit: ITU-T T.81 tables scaled by the quality, 16-bit fixed-point colours, 2x2 chroma means, the 8x8 transform of
Loeffler, Ligtenberg and Moschytz (ICASSP 1989) in 13-bit fixed point, and chroma interpolated by a triangle.

Shape legend: B images, P side of the canvas, Q the same rounded up to whole 16x16 units, N blocks, 8 8 one block.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .resize import take_columns, take_rows

BLOCK = 8
UNIT = 16  # a unit holds 2x2 luma blocks and one block of each chroma plane
COLOR_BITS = 16
TRANSFORM_BITS = 13
CARRIED_BITS = 2  # precision kept between the transform's two passes

# ITU-T T.81, tables K.1 and K.2.
LUMA_TABLE = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)
CHROMA_TABLE = np.full((8, 8), 99)
CHROMA_TABLE[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]


def quality_tables(quality: int) -> np.ndarray:
    """Quantisation steps, (2, 8, 8) int32 in [1, 255], luma first (IJG's scale).

    quality: 1..100.
    """
    if not 1 <= quality <= 100:
        raise ValueError(f"the JPEG quality must be from 1 to 100, got {quality}")
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    scaled_288 = (np.stack([LUMA_TABLE, CHROMA_TABLE]) * percent + 50) // 100
    return scaled_288.clip(1, 255).astype(np.int32)


def _transform_matrix() -> np.ndarray:
    """-> (frequency, place) int: the one-dimensional transform, times sqrt(8) and 2^13.

    The published scheme multiplies by twelve rounded constants and adds. Between its two roundings it is linear, so
    those constants and signs give one integer matrix; rounding the true cosines would give a slightly different one.
    """

    def fixed(value: float) -> int:
        return round(value * (1 << TRANSFORM_BITS))

    identity = np.eye(8, dtype=np.int64)
    mirrored = identity[::-1]
    sums, differences = (identity + mirrored)[:4], (identity - mirrored)[:4]
    matrix = np.zeros((8, 8), dtype=np.int64)

    outer, inner = sums[0] + sums[3], sums[1] + sums[2]
    matrix[0] = (outer + inner) << TRANSFORM_BITS
    matrix[4] = (outer - inner) << TRANSFORM_BITS
    outer, inner = sums[0] - sums[3], sums[1] - sums[2]
    shared = (outer + inner) * fixed(0.541196100)
    matrix[2] = shared + outer * fixed(0.765366865)
    matrix[6] = shared - inner * fixed(1.847759065)

    first, second, third, fourth = differences
    rotated = (differences.sum(0)) * fixed(1.175875602)
    ends = -(fourth + first) * fixed(0.899976223)
    middles = -(third + second) * fixed(2.562915447)
    odd = rotated - (fourth + second) * fixed(1.961570560)
    even = rotated - (third + first) * fixed(0.390180644)
    matrix[1] = first * fixed(1.501321110) + ends + even
    matrix[3] = second * fixed(3.072711026) + middles + odd
    matrix[5] = third * fixed(2.053119869) + middles + even
    matrix[7] = fourth * fixed(0.298631336) + ends + odd
    return matrix


TRANSFORM = _transform_matrix()


def jpeg_round_trip(canvas_B3PP: Tensor, sizes: Sequence[int], qualities: Sequence[int]) -> Tensor:
    """The images after a JPEG file, uint8 (B, 3, P, P), in the upper left corners of the canvas.

    canvas_B3PP: uint8 RGB, square images in its upper left corners.
    sizes: each image's side, 1..P; what lies outside is not read, and has no meaning in the result.
    qualities: 1..100.
    Raises ValueError for other sizes and qualities, or other lengths.
    """
    side = canvas_B3PP.shape[-1]
    if not len(canvas_B3PP) == len(sizes) == len(qualities):
        raise ValueError(
            f"each of {len(canvas_B3PP)} images needs a size and a quality, got {len(sizes)} and {len(qualities)}"
        )
    if not all(1 <= size <= side for size in sizes):
        raise ValueError(f"the sizes must be from 1 to the canvas's {side} pixels, got {list(sizes)}")
    device = canvas_B3PP.device
    tables_B288 = torch.from_numpy(np.stack([quality_tables(quality) for quality in qualities])).to(device)
    last_B = torch.tensor(sizes, device=device) - 1
    last_chroma_B = last_B // 2

    luma_BQQ, chroma_B2hh = _encoded_planes(canvas_B3PP, last_B, last_chroma_B)
    luma_BQQ = _quantised(luma_BQQ.unsqueeze(1), tables_B288[:, :1]).squeeze(1)
    chroma_B2hh = _quantised(chroma_B2hh, tables_B288[:, 1:])
    return _to_rgb(luma_BQQ, _enlarged(chroma_B2hh, last_chroma_B))[:, :, :side, :side]


def _encoded_planes(canvas_B3PP: Tensor, last_B: Tensor, last_chroma_B: Tensor) -> tuple[Tensor, Tensor]:
    """-> luma (B, Q, Q) and chroma (B, 2, Q/2, Q/2), int32 in [0, 255], edges repeated up to whole units."""
    side = -(-canvas_B3PP.shape[-1] // UNIT) * UNIT
    places_BQ = torch.minimum(torch.arange(side, device=last_B.device), last_B[:, None])
    rgb_B3QQ = take_columns(take_rows(canvas_B3PP, places_BQ), places_BQ).int()
    red, green, blue = rgb_B3QQ.unbind(1)

    def weighted(of_red: float, of_green: float, of_blue: float, offset: int) -> Tensor:
        total = red * _fixed_color(of_red)
        total = total.add_(green, alpha=_fixed_color(of_green)).add_(blue, alpha=_fixed_color(of_blue))
        return total.add_(offset) >> COLOR_BITS

    half = 1 << (COLOR_BITS - 1)
    middle = (128 << COLOR_BITS) + half - 1
    luma_BQQ = weighted(0.29900, 0.58700, 0.11400, half)
    chroma_B2QQ = torch.stack(
        [weighted(-0.16874, -0.33126, 0.50000, middle), weighted(0.50000, -0.41869, -0.08131, middle)], dim=1
    )
    # Means of 2x2, rounded down and up in turn along a row, so that no drift builds up.
    totals_B2Qh = torch.unflatten(chroma_B2QQ, -1, (-1, 2)).sum(-1, dtype=torch.int32)
    totals_B2hh = torch.unflatten(totals_B2Qh, -2, (-1, 2)).sum(-2, dtype=torch.int32)
    bias_h = 1 + torch.arange(side // 2, device=last_B.device, dtype=torch.int32) % 2
    chroma_B2hh = (totals_B2hh + bias_h) >> 2
    # To the right the full plane's edge is repeated, downwards the halved plane's.
    rows_Bh = torch.minimum(torch.arange(side // 2, device=last_B.device), last_chroma_B[:, None])
    return luma_BQQ, take_rows(chroma_B2hh, rows_Bh)


def _quantised(planes_BCQQ: Tensor, steps_BC88: Tensor) -> Tensor:
    """Planes in [0, 255] -> transform, rounding to multiples of the steps, and back; int32 in [0, 255]."""
    columns_BCQN8 = torch.unflatten(planes_BCQQ - 128, -1, (-1, BLOCK))
    blocks_BCNN88 = torch.unflatten(columns_BCQN8, -3, (-1, BLOCK)).transpose(-3, -2)
    matrix_88 = torch.from_numpy(TRANSFORM).to(planes_BCQQ.device, torch.int32)
    spectrum = _descale(_along_rows(blocks_BCNN88, matrix_88), TRANSFORM_BITS - CARRIED_BITS)
    spectrum = _descale(_along_columns(spectrum, matrix_88), TRANSFORM_BITS + CARRIED_BITS)

    # The transform leaves everything 8 times too large. Halves are rounded away from zero.
    steps_BC1188 = steps_BC88[:, :, None, None]
    divisors_BC1188 = steps_BC1188 * 8
    magnitude = (spectrum.abs() + (divisors_BC1188 >> 1)).div_(divisors_BC1188, rounding_mode="floor")
    spectrum = magnitude * spectrum.sign() * steps_BC1188

    inverse_88 = matrix_88.T
    blocks = _descale(_along_columns(spectrum, inverse_88), TRANSFORM_BITS - CARRIED_BITS)
    blocks = _descale(_along_rows(blocks, inverse_88), TRANSFORM_BITS + CARRIED_BITS + 3)
    return (blocks + 128).clamp_(0, 255).transpose(-3, -2).flatten(-4, -3).flatten(-2)


def _along_rows(blocks_88: Tensor, matrix_88: Tensor) -> Tensor:
    """matrix x each row of each block. Integer products have no `matmul` on GPUs, and 8 terms need none."""
    total = blocks_88[..., :, 0, None] * matrix_88[:, 0]
    for place in range(1, BLOCK):
        total.addcmul_(blocks_88[..., :, place, None], matrix_88[:, place])
    return total


def _along_columns(blocks_88: Tensor, matrix_88: Tensor) -> Tensor:
    total = blocks_88[..., 0, None, :] * matrix_88[:, 0, None]
    for place in range(1, BLOCK):
        total.addcmul_(blocks_88[..., place, None, :], matrix_88[:, place, None])
    return total


def _enlarged(chroma_B2hh: Tensor, last_B: Tensor) -> Tensor:
    """-> (B, 2, Q, Q) int32: 3/4 of the nearest sample and 1/4 of the next, along both axes, rounded once.

    Planes of one or two samples are repeated instead, as the library does: a sample's neighbour is then itself.
    """
    side = chroma_B2hh.shape[-1]
    own_h = torch.arange(side, device=last_B.device)
    reach_B1 = (last_B > 1).long()[:, None]
    before_Bh = (own_h - reach_B1).clamp_min(0)
    after_Bh = torch.minimum(own_h + reach_B1, last_B[:, None])
    near = 3 * chroma_B2hh
    rows = torch.stack([near + take_rows(chroma_B2hh, before_Bh), near + take_rows(chroma_B2hh, after_Bh)], dim=-2)
    rows_B2Qh = rows.flatten(-3, -2)
    near = 3 * rows_B2Qh
    left = (near + take_columns(rows_B2Qh, before_Bh) + 8) >> 4
    right = (near + take_columns(rows_B2Qh, after_Bh) + 7) >> 4
    return torch.stack([left, right], dim=-1).flatten(-2)


def _to_rgb(luma_BQQ: Tensor, chroma_B2QQ: Tensor) -> Tensor:
    blue_BQQ, red_BQQ = (chroma_B2QQ - 128).unbind(1)
    half = 1 << (COLOR_BITS - 1)
    red = (red_BQQ * _fixed_color(1.40200) + half) >> COLOR_BITS
    green = (blue_BQQ * -_fixed_color(0.34414) + red_BQQ * -_fixed_color(0.71414) + half) >> COLOR_BITS
    blue = (blue_BQQ * _fixed_color(1.77200) + half) >> COLOR_BITS
    return torch.stack([luma_BQQ + red, luma_BQQ + green, luma_BQQ + blue], dim=1).clamp_(0, 255).to(torch.uint8)


def _fixed_color(value: float) -> int:
    """Rounded half away from zero, so that a weight and its negative are the same number."""
    return int(abs(value) * (1 << COLOR_BITS) + 0.5) * (1 if value >= 0 else -1)


def _descale(values: Tensor, bits: int) -> Tensor:
    """Rounded values / 2^bits; takes the tensor over."""
    return values.add_(1 << (bits - 1)) >> bits
