"""What the tests of metadata share: a file read and written again, and its EXIF."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from codeformer_core.imaging.files import read_image, write_image

from .picture_files import (
    XMP,
    entries,
)

WITH_EXIF = (".jpg", ".png", ".webp", ".tif", ".avif")
XMP_IN_JPEG = b"http://ns.adobe.com/xap/1.0/\0" + XMP


def through(tmp_path: Path, data: bytes, source: str, target: str) -> bytes:
    """The bytes of the file that is written after reading `data`."""
    (tmp_path / source).write_bytes(data)
    write_image(tmp_path / f"made_{target}", read_image(tmp_path / source), overwrite=True)
    return (tmp_path / f"made_{target}").read_bytes()


def exif_in(data: bytes) -> dict[tuple[str, int], tuple[int, int, bytes]]:
    if data[:2] in (b"II", b"MM"):
        return entries(data)
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return entries(image.info["exif"])


def xmp_of(image: Image.Image) -> bytes | None:
    tags = getattr(image, "tag_v2", {})
    packet = tags.get(700) or image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")
    return packet.encode() if isinstance(packet, str) else packet
