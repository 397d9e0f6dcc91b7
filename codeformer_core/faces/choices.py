"""Words for choices about faces. Imports nothing heavy: interfaces are defined by it before anything runs."""

from __future__ import annotations

from typing import Literal

FaceSelection = Literal["all", "largest", "center"]

# Region -> ParseNet's classes (CelebAMask-HQ).
REGIONS: dict[str, tuple[int, ...]] = {
    "skin": (1,),
    "eyes": (3, 4, 5),
    "brows": (6, 7),
    "nose": (2,),
    "mouth": (10, 11, 12),
    "hair": (13, 14),
    "ears": (8, 9, 15),
    "neck": (16, 17),
}
