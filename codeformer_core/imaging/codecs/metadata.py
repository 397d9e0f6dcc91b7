"""Metadata on its way from file to file: pixels turned upright, resolution, fitting profile.

Shape legend: H W image height and width, C channels.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

_MAX_DPI = 65535  # JPEG has two bytes for it


def turn_upright(image_HWC: np.ndarray, orientation: int) -> np.ndarray:
    """The image as it is meant to be seen; a view. Orientation as in EXIF 2.32, table "Orientation"."""
    if orientation in (5, 6, 7, 8):
        image_HWC = image_HWC.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        image_HWC = image_HWC[::-1]
    if orientation in (2, 3, 6, 7):
        image_HWC = image_HWC[:, ::-1]
    return image_HWC


def read_dpi(image: Image.Image) -> tuple[float, float] | None:
    """Pixels per inch as Pillow tells them, of BMP."""
    dpi = image.info.get("dpi")
    try:
        horizontal, vertical = (float(value) for value in dpi) if dpi is not None else (0.0, 0.0)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return horizontal, vertical


def usable_dpi(dpi: tuple[float, float] | None) -> tuple[float, float] | None:
    """None for nonsense: less than one pixel per inch, or more than any format can hold."""
    # NaN compares false.
    return dpi if dpi is not None and all(1 <= value <= _MAX_DPI for value in dpi) else None


def fits_pixels(icc_profile: bytes, gray: bool) -> bool:
    """Whether the profile describes the kind of image being written; a gray profile on RGB pixels is invalid."""
    # ICC.1:2022, 7.2.6: the data colour space stands in bytes 16..19 of the header. Of a gray image that came with
    # an RGB profile both stay as they are.
    return icc_profile[16:20] in ((b"GRAY", b"RGB ") if gray else (b"RGB ",))
