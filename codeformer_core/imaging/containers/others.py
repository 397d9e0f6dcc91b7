"""BMP, GIF and AVIF, whose metadata Pillow hands out, or which have next to none."""

from __future__ import annotations

import struct

from PIL import Image

from ..codecs.metadata import read_dpi
from ..metadata import xmp
from ..metadata.content import MAX_PART, Metadata, Parts, Warn
from ..metadata.exif import clean_exif, resolution
from ..metadata.ifd import Structure
from .avif import exif_item


def read_parts(data: bytes, image: Image.Image, warn: Warn) -> Parts:
    """image: the same bytes, opened by Pillow."""
    if image.format == "BMP":
        return Parts(data, icc_profile=_profile_in_bmp(data), dpi=read_dpi(image))
    if image.format == "GIF":
        comment = image.info.get("comment")
        return Parts(data, Metadata(comments=(comment,) if comment else ()))
    told, packet = image.info.get("exif"), image.info.get("xmp")
    exif, orientation = clean_exif(told, warn) if told else (None, 1)
    # The orientation is the one that Pillow found in the container; the bytes are those of the file.
    if exif is not None and (item := exif_item(data)) is not None:
        exif = clean_exif(item, lambda _text: None)[0] or exif
    dpi = aspect = None
    if exif is not None:
        structure = Structure.of(exif)
        dpi, aspect = resolution(structure, structure.directory(structure.first))
    metadata = Metadata(xmp=xmp.upright(packet) if packet else None, aspect=aspect)
    return Parts(data, metadata, image.info.get("icc_profile"), exif, orientation, dpi)


def _profile_in_bmp(data: bytes) -> bytes | None:
    """Of a BITMAPV5HEADER whose colour space is PROFILE_EMBEDDED."""
    if len(data) < 138 or struct.unpack_from("<I", data, 14) != (124,) or data[70:74] != b"DEBM":
        return None
    start, size = struct.unpack_from("<II", data, 14 + 112)
    profile = data[14 + start : 14 + start + size]
    return profile if 128 <= len(profile) == size <= MAX_PART else None
