"""What travels beside the pixels: colour profile, EXIF, resolution, and the orientation applied on reading.

Shape legend: H W picture height and width, C channels.
"""

from __future__ import annotations

import logging
import struct

import numpy as np
from PIL import ExifTags, Image

logger = logging.getLogger(__name__)

_ORIENTATION = 0x0112
# Of the main EXIF directory only what describes the photograph. The rest (sizes, strips, compression,
# orientation, thumbnail) describes the old file; in a TIFF even the pixels' place in the file is among these
# tags.
_KEPT_TAGS = {
    0x010E: "ImageDescription",
    0x010F: "Make",
    0x0110: "Model",
    0x0131: "Software",
    0x0132: "DateTime",
    0x013B: "Artist",
    0x8298: "Copyright",
}
_KEPT_DIRECTORIES = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
_MOST_DPI = 65535  # JPEG has two bytes for it
# PixelXDimension, PixelYDimension, and the interoperability directory's offset: wrong in a new file.
_STALE_EXIF_TAGS = (0xA002, 0xA003, 0xA005)


def read_orientation(image: Image.Image, name: str) -> int:
    """EXIF orientation 1..8; 1 (upright) when there is none or it makes no sense."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except (SyntaxError, ValueError, TypeError, KeyError, struct.error, OSError) as error:
        logger.warning("%s: its EXIF data is damaged and ignored (%s)", name, error)
        return 1
    return value if value in range(1, 9) else 1


def turn_upright(image_HWC: np.ndarray, orientation: int) -> np.ndarray:
    """The picture as it is meant to be seen; a view. Orientation as in EXIF 2.32, table "Orientation"."""
    if orientation in (5, 6, 7, 8):
        image_HWC = image_HWC.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        image_HWC = image_HWC[::-1]
    if orientation in (2, 3, 6, 7):
        image_HWC = image_HWC[:, ::-1]
    return image_HWC


def read_exif(image: Image.Image, name: str) -> bytes | None:
    """The EXIF worth keeping, as bytes that start with "Exif\\0\\0", or None."""
    try:
        old = image.getexif()
        new = Image.Exif()
        for tag in _KEPT_TAGS:
            if tag in old:
                new[tag] = old[tag]
        for directory in _KEPT_DIRECTORIES:
            entries = {k: v for k, v in old.get_ifd(directory).items() if k not in _STALE_EXIF_TAGS}
            if entries:
                new[directory] = entries
        return new.tobytes() if len(new) else None
    except (SyntaxError, ValueError, TypeError, KeyError, AttributeError, struct.error, OSError) as error:
        logger.warning("%s: its EXIF data is damaged and not kept (%s)", name, error)
        return None


def main_exif_text(exif: bytes | None) -> dict[int, str]:
    """The text entries of `read_exif`'s main directory (camera, author, copyright...), by tag."""
    if exif is None:
        return {}
    directory = Image.Exif()
    directory.load(exif)
    return {tag: directory[tag] for tag in _KEPT_TAGS if isinstance(directory.get(tag), str)}


def read_dpi(image: Image.Image) -> tuple[float, float] | None:
    """Pixels per inch, or None where the file has none or nonsense (zero, or more than any format can hold)."""
    dpi = image.info.get("dpi")
    try:
        horizontal, vertical = (float(value) for value in dpi) if dpi is not None else (0.0, 0.0)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    usable = all(1 <= value <= _MOST_DPI for value in (horizontal, vertical))  # NaN compares false
    return (horizontal, vertical) if usable else None


def profile_for(icc_profile: bytes | None, gray: bool) -> bytes | None:
    """The profile if it describes the kind of picture being written; a gray profile on RGB pixels is
    invalid."""
    if icc_profile is None or len(icc_profile) < 128:
        return None
    # ICC.1:2022, 7.2.6: the data colour space stands in bytes 16..19 of the header.
    return icc_profile if icc_profile[16:20] == (b"GRAY" if gray else b"RGB ") else None
