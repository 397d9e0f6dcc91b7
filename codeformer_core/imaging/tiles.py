"""Images cut into overlapping tiles, and the results merged without a visible seam.

Neighbours are cross-faded in the middle of their overlap; what lies beyond on either side, where a network sees too
little of the image, is thrown away.
Shape legend: H W an image, h w a tile, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# Pixels that neighbours share at least, and over how many of them one fades into the other.
OVERLAP = 64
FADE = 16
# Of smaller tiles more than half would be overlap.
MIN_TILE = 2 * OVERLAP


@dataclass(frozen=True)
class Span:
    """A tile's part of an axis, in pixels.

    start, stop: as of a slice.
    fade_in, fade_out: where the fades with its neighbours begin; None at the image's edges.
    """

    start: int
    stop: int
    fade_in: float | None
    fade_out: float | None

    def enlarged(self, scale: int) -> slice:
        return slice(self.start * scale, self.stop * scale)

    def weights(self, scale: int, device: torch.device) -> Tensor:
        """How much each pixel counts, [0, 1], once there are `scale` times as many; those of all tiles add up to 1."""
        x = self.start + (torch.arange((self.stop - self.start) * scale, device=device) + 0.5) / scale
        weights = torch.ones_like(x) if self.fade_in is None else ((x - self.fade_in) / FADE).clamp(0, 1)
        return weights if self.fade_out is None else weights - ((x - self.fade_out) / FADE).clamp(0, 1)


@dataclass(frozen=True)
class Tile:
    """The part of an image that it covers."""

    rows: Span
    columns: Span

    def cut(self, image_HWC: Tensor) -> Tensor:
        return image_HWC[self.rows.start : self.rows.stop, self.columns.start : self.columns.stop]

    def add_to(self, canvas_HWC: Tensor, made_hwC: Tensor, scale: int) -> None:
        """Adds the tile's result, in place, to a canvas that was 0 before its first tile.

        canvas_HWC, made_hwC: `scale` times as large as the image and as the tile.
        """
        part_hwC = canvas_HWC[self.rows.enlarged(scale), self.columns.enlarged(scale)]
        down_h11 = self.rows.weights(scale, canvas_HWC.device)[:, None, None]
        across_w1 = self.columns.weights(scale, canvas_HWC.device)[:, None]
        part_hwC.addcmul_(made_hwC.to(canvas_HWC), down_h11 * across_w1)


def smallest_tile(multiple: int = 1) -> int:
    """Side of the smallest tiles that make sense where they begin at multiples of so many pixels."""
    return max(MIN_TILE, 2 * multiple)


def make_tiles(height: int, width: int, tile: int, multiple: int = 1) -> list[Tile]:
    """Tiles that cover an image, row by row, evenly spread.

    tile: their side in pixels; an image's side that is not larger stays whole.
    multiple: every tile begins at a multiple of so many pixels.
    Raises ValueError for tiles below `smallest_tile`.
    """
    if tile < smallest_tile(multiple):
        raise ValueError(f"a tile must have at least {smallest_tile(multiple)} pixels, got {tile}")
    rows, columns = (_spans(length, tile, multiple) for length in (height, width))
    return [Tile(down, across) for down in rows for across in columns]


def _spans(length: int, tile: int, multiple: int) -> list[Span]:
    starts = _starts(length, tile, multiple)
    stops = [min(start + tile, length) for start in starts]
    # Around the middle of each overlap.
    fades = [(stop + start - FADE) / 2 for start, stop in zip(starts[1:], stops, strict=False)]
    return [Span(*each) for each in zip(starts, stops, [None, *fades], [*fades, None], strict=True)]


def _starts(length: int, tile: int, multiple: int) -> list[int]:
    # In units of `multiple`, rounded up: the last tile may be a little smaller.
    last = max(0, -(-(length - tile) // multiple))
    steps = -(-last // ((tile - OVERLAP) // multiple))
    return [-(-index * last // max(1, steps)) * multiple for index in range(steps + 1)]
