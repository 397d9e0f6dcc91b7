"""How light or dark the skin of an aligned face is, from its cheeks. Needs no file, and says nothing about descent.

Shape legend: B faces, H W height and width, 3 colours RGB.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .colours import lab

# Cheeks of the template, as parts of the side: top, bottom, left, right.
CHEEKS = ((0.56, 0.66, 0.28, 0.39), (0.56, 0.66, 0.61, 0.72))
# Chardon, Cretois, Hourseau 1991: degrees of the individual typology angle from which skin is so called; here the six
# classes are joined in pairs.
TONES = ((41.0, "light skin"), (10.0, "medium skin"), (-90.0, "dark skin"))
# Cheeks without colour belong to gray photos, whose lightness is the print's.
GRAY_CHROMA = 2.0


def skin_tone(face_3HW: Tensor) -> str | None:
    """ "light skin", "medium skin" or "dark skin"; None for a face without colours.

    face_3HW: RGB [0, 1], aligned.
    """
    height, width = face_3HW.shape[1:]
    cheeks = [
        face_3HW[:, int(top * height) : int(bottom * height), int(left * width) : int(right * width)].flatten(1)
        for top, bottom, left, right in CHEEKS
    ]
    # The median leaves out highlights, beards and hair.
    colour_3 = torch.cat(cheeks, dim=1).median(1).values
    light, red, yellow = (float(value) for value in lab(colour_3[None, :, None, None]).flatten())
    if abs(red) + abs(yellow) < GRAY_CHROMA:
        return None
    angle = math.degrees(math.atan2(light - 50, yellow))
    return next((name for least, name in TONES if angle >= least), TONES[-1][1])
