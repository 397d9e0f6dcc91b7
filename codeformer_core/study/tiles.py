"""Images with a word above each, drawn as one image.

Shape legend: N tiles, S side of a tile in pixels, H W height and width of the grid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

GAP = 8
HEADER = 44
LETTERS = 30
PAPER = (24, 24, 24)
INK = (235, 235, 235)

Box = tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class Grid:
    """Tiles drawn as one image.

    image_HW3: RGB [0, 1].
    boxes: of each tile and its word, left, top, right, bottom as fractions of the grid.
    """

    image_HW3: Tensor
    boxes: tuple[Box, ...]


def draw_grid(words: Sequence[str], tiles_NSS3: Tensor) -> Grid:
    """Tiles row by row, in so many columns that the grid is about square.

    tiles_NSS3: RGB, shown within [0, 1].
    """
    from PIL import Image, ImageDraw, ImageFont

    assert len(words) == len(tiles_NSS3) > 0
    side = tiles_NSS3.shape[1]
    across, down = side + GAP, side + HEADER + GAP
    columns = square_columns(len(words), across, down)
    rows = math.ceil(len(words) / columns)
    width, height = columns * across - GAP, rows * down - GAP
    paper = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(paper)
    font = ImageFont.load_default(LETTERS)
    levels_NSS3 = (tiles_NSS3.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    boxes: list[tuple[float, float, float, float]] = []
    for index, (word, level_SS3) in enumerate(zip(words, levels_NSS3, strict=True)):
        left, top = index % columns * across, index // columns * down
        pen.text((left + GAP, top + HEADER / 2), word, fill=INK, font=font, anchor="lm")
        paper.paste(Image.fromarray(level_SS3), (left, top + HEADER))
        boxes.append((left / width, top / height, (left + side) / width, (top + HEADER + side) / height))
    return Grid(torch.from_numpy(np.asarray(paper).copy()).float() / 255, tuple(boxes))


def square_columns(count: int, across: float, down: float) -> int:
    """The number of columns with which `count` tiles, each `across` wide and `down` high, have the shortest long side.

    Of those that are equal in that, the one with the smaller area.
    """

    def sides(columns: int) -> tuple[float, float]:
        width, height = columns * across, math.ceil(count / columns) * down
        return max(width, height), width * height

    return min(range(1, count + 1), key=sides)
