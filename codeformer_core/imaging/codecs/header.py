"""What the first bytes of a picture file declare, read without decoding and without trusting a decoder.

Needed beside Pillow's own header because Pillow reads 16-bit RGB as 8-bit without a word, refuses zero-sized
files as "not a picture", and allocates an animated WebP's canvas while opening it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Header:
    """width, height: declared pixels. None stands for what this reader leaves to Pillow (JPEG, TIFF)."""

    width: int | None = None
    height: int | None = None
    bit_depth: int | None = None
    lossless: bool | None = None


def read_header(stream: BinaryIO) -> Header:
    """The declared size of PNG, BMP, GIF and WebP. Unknown or cut-off headers give an empty Header: Pillow,
    which opens the same file next, says what is wrong with it. The stream is left at its start."""
    stream.seek(0)
    head = stream.read(40)
    stream.seek(0)
    try:
        if head.startswith(PNG_SIGNATURE):
            width, height, bit_depth = struct.unpack_from(">IIB", head, 16)
            return Header(width, height, bit_depth, lossless=True)
        if head.startswith(b"BM"):
            # The oldest kind has a 12-byte second header with 16-bit sizes; a negative height means top row
            # first.
            core = struct.unpack_from("<I", head, 14) == (12,)
            width, height = struct.unpack_from("<HH" if core else "<ii", head, 18)
            return Header(width, abs(height), lossless=True)
        if head.startswith((b"GIF87a", b"GIF89a")):
            return Header(*struct.unpack_from("<HH", head, 6), lossless=True)
        if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
            return _read_webp(stream, head)
    except struct.error:
        return Header()
    return Header()


def _read_webp(stream: BinaryIO, head: bytes) -> Header:
    """Size from the first chunk (WebP container specification, sections "Simple" and "Extended File
    Format")."""
    kind = head[12:16]
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", head, 26)
        return Header(width & 0x3FFF, height & 0x3FFF, lossless=False)
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", head, 21)
        return Header((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, lossless=True)
    if kind == b"VP8X":
        if len(head) < 30:
            return Header()
        width = int.from_bytes(head[24:27], "little") + 1
        height = int.from_bytes(head[27:30], "little") + 1
        return Header(width, height, lossless=_holds_lossless_frame(stream))
    return Header()


def _holds_lossless_frame(stream: BinaryIO) -> bool:
    """Whether the first frame of an extended WebP is a VP8L chunk."""
    stream.seek(12)
    found = False
    while len(chunk := stream.read(8)) == 8:
        kind, size = struct.unpack("<4sI", chunk)
        if kind in (b"VP8L", b"VP8 "):
            found = kind == b"VP8L"
            break
        # An animation frame: 16 bytes of its own, then chunks again. Anything else is skipped, padded to
        # even.
        stream.seek(16 if kind == b"ANMF" else size + size % 2, 1)
    stream.seek(0)
    return found
