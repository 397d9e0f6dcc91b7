"""A picture of who is in a video: the best view of each person with a number.

Shape legend: H W height and width of the sheet.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .people import VIEW_SIDE, Survey

_COLUMNS = 6
_MARGIN = 8
_LINE = 28
_FONT_SIZE = 18


def contact_sheet(survey: Survey) -> Tensor:
    """sheet_HW3, RGB float32 [0, 1]; at least one person."""
    from PIL import Image, ImageDraw, ImageFont

    columns = min(_COLUMNS, len(survey.people))
    rows = -(-len(survey.people) // columns)
    across, down = VIEW_SIDE + _MARGIN, VIEW_SIDE + _LINE + _MARGIN
    sheet = Image.new("RGB", (columns * across + _MARGIN, rows * down + _MARGIN), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(_FONT_SIZE)
    for index, person in enumerate(survey.people):
        left, top = _MARGIN + index % columns * across, _MARGIN + index // columns * down
        view_SS3 = person.best.view_SS3
        if view_SS3 is not None:
            sheet.paste(Image.fromarray(view_SS3), (left, top))
        seconds = float(person.tracks[0].first / survey.info.rate)
        share = person.frames / max(1, survey.frames)
        draw.text(
            (left, top + VIEW_SIDE + 2), f"{person.number}   {share:.0%}, from {seconds:.1f} s", "black", font=font
        )
    return torch.from_numpy(np.array(sheet)).float() / 255
