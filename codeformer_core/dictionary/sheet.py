"""Which faces a dictionary's atoms are nearest to, as one image.

Shape legend: H W height and width of the image, S side of a face.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from ..study.tiles import GAP, HEADER, INK, LETTERS, PAPER, square_columns
from .extractor import Extractor
from .faces import AlignedFaces, fitted

# Side of a tile in pixels, and how many lie between two of them.
TILE = 64
BETWEEN = 2


def draw_sheet(faces: AlignedFaces, extractor: Extractor, nearest: Mapping[str, Sequence[int]]) -> Tensor:
    """image_HW3, RGB [0, 1]: for each part a line that names it, and the part of each face in `nearest`.

    nearest: part -> index of a face for each atom; atom 0 is at the top left.
    """
    from PIL import Image, ImageDraw, ImageFont

    columns = square_columns(max(map(len, nearest.values())), TILE + BETWEEN, len(nearest) * (TILE + BETWEEN))
    blocks = {part: -(-len(indices) // columns) * (TILE + BETWEEN) for part, indices in nearest.items()}
    width = max(columns * (TILE + BETWEEN) - BETWEEN, 10 * LETTERS)
    paper = Image.new("RGB", (width, sum(blocks.values()) + len(blocks) * (HEADER + GAP)), PAPER)
    pen, font = ImageDraw.Draw(paper), ImageFont.load_default(LETTERS)
    top = 0
    for part, indices in nearest.items():
        pen.text((GAP, top + HEADER / 2), f"{part.replace('_', ' ')}: {len(indices)}", fill=INK, font=font, anchor="lm")
        top += HEADER
        for atom, index in enumerate(indices):
            face_SS3 = fitted(faces.read(index), extractor.config.image_size)
            x0, y0, x1, y1 = extractor.boxes[part]
            tile_HW3 = fitted(face_SS3[y0:y1, x0:x1], TILE)
            place = (atom % columns * (TILE + BETWEEN), top + atom // columns * (TILE + BETWEEN))
            paper.paste(Image.fromarray((tile_HW3 * 255).round().to(torch.uint8).cpu().numpy()), place)
        top += blocks[part] + GAP
    return torch.from_numpy(np.asarray(paper).copy()).float() / 255
