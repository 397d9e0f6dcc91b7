"""Photoshop's image resources ("8BIM" blocks), in which JPEG and TIFF keep IPTC.

Adobe Photoshop File Formats Specification, "Image Resource Blocks".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from .content import Warn

JPEG_PREFIX = b"Photoshop 3.0\0"
_SIGNATURES = (b"8BIM", b"PHUT", b"DCSR", b"AgHg", b"MeSa")
IPTC = 0x0404
# Thumbnails of the old image.
_STALE = (0x0409, 0x040C)


def clean_resources(data: bytes, warn: Warn) -> bytes | None:
    """Whole blocks as they stand, without thumbnails; what follows a damaged one is left out, with a warning."""
    kept: list[bytes] = []
    end = 0
    for kind, block, _ in _blocks(data):
        end += len(block)
        if kind not in _STALE:
            kept.append(block)
    if data[end:].strip(b"\0"):
        warn("its IPTC or Photoshop data is damaged and left out" + (" in part" if kept else ""))
    return b"".join(kept) or None


def iptc_of(resources: bytes | None) -> bytes | None:
    """The IPTC records (IIM datasets) among the blocks."""
    return next((content for kind, _, content in _blocks(resources or b"") if kind == IPTC and content), None)


def others(resources: bytes | None) -> bytes | None:
    """The blocks, if there are any but IPTC."""
    return resources if any(kind != IPTC for kind, _, _ in _blocks(resources or b"")) else None


def with_iptc(resources: bytes | None, iptc: bytes) -> bytes:
    """The blocks with these records, unless they hold some already."""
    if iptc_of(resources) is not None:
        return resources or b""
    block = b"8BIM" + struct.pack(">HHI", IPTC, 0, len(iptc)) + iptc + bytes(len(iptc) % 2)
    return (resources or b"") + block


def _blocks(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """(kind, the whole block, its content), until the end or the first damaged one."""
    position = 0
    while position + 12 <= len(data) and data[position : position + 4] in _SIGNATURES:
        (kind,) = struct.unpack_from(">H", data, position + 4)
        # A Pascal string, padded to an even number of bytes with its length.
        named = position + 6 + (data[position + 6] | 1) + 1
        if named + 4 > len(data):
            return
        (size,) = struct.unpack_from(">I", data, named)
        end = named + 4 + size
        if end > len(data):
            return
        content = data[named + 4 : end]
        end = min(end + size % 2, len(data))
        yield kind, data[position:end], content
        position = end
