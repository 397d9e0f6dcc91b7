"""The first bytes of an image file, read without decoding and without trusting a decoder.

Needed beside Pillow's own header because Pillow reads 16-bit RGB as 8-bit without a warning, refuses zero-sized files
as "not an image", and allocates an animated WebP's canvas while opening it; and because a whole batch is looked at
before its first image is worked on.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

from .detect import detect_format

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MAX_SEGMENTS, _MAX_ENTRIES = 4096, 4096


@dataclass(frozen=True)
class Header:
    """What a file declares. None stands for what could not be read.

    width, height: pixels, before the orientation is applied.
    bit_depth: of PNG, JPEG and AVIF.
    raw: a camera's RAW file in the shape of a TIFF, whose main image is only a preview.
    """

    width: int | None = None
    height: int | None = None
    bit_depth: int | None = None
    lossless: bool | None = None
    raw: bool = False


def read_header(stream: BinaryIO) -> Header:
    """What the file declares. The stream is left at its start.

    Unknown or cut-off headers give an empty Header: the decoder, which opens the same file next, says what is wrong
    with it.
    """
    stream.seek(0)
    head = stream.read(64)
    try:
        return _read(stream, head)
    except struct.error:
        return Header()
    finally:
        stream.seek(0)


def _read(stream: BinaryIO, head: bytes) -> Header:
    match detect_format(head):
        case "PNG":
            width, height, bit_depth = struct.unpack_from(">IIB", head, 16)
            return Header(width, height, bit_depth, lossless=True)
        case "BMP":
            # The oldest kind has a 12-byte second header with 16-bit sizes; a negative height means top row
            # first.
            core = struct.unpack_from("<I", head, 14) == (12,)
            width, height = struct.unpack_from("<HH" if core else "<ii", head, 18)
            return Header(width, abs(height), lossless=True)
        case "GIF":
            return Header(*struct.unpack_from("<HH", head, 6), lossless=True)
        case "WEBP":
            return _read_webp(stream, head)
        case "JPEG":
            return _read_jpeg(stream)
        case "TIFF":
            return _read_tiff(stream, head)
        case "AVIF":
            return _read_avif(stream)
        case _:
            return Header()


def _read_jpeg(stream: BinaryIO) -> Header:
    """Size and depth from the frame header (ITU-T T.81, B.2.2), which may stand behind much metadata."""
    stream.seek(2)
    for _ in range(_MAX_SEGMENTS):
        marker = stream.read(2)
        if len(marker) < 2 or marker[0] != 0xFF or marker[1] in (0xD9, 0xDA):
            break
        if marker[1] == 0xFF:
            stream.seek(-1, 1)
            continue
        (size,) = struct.unpack(">H", stream.read(2))
        if 0xC0 <= marker[1] <= 0xCF and marker[1] not in (0xC4, 0xC8, 0xCC):
            bit_depth, height, width = struct.unpack(">BHH", stream.read(5))
            return Header(width, height, bit_depth, lossless=False)
        stream.seek(max(size, 2) - 2, 1)
    return Header(lossless=False)


def _read_tiff(stream: BinaryIO, head: bytes) -> Header:
    """Size from the first directory (TIFF 6.0, section 2; BigTIFF)."""
    order = "<" if head.startswith(b"II") else ">"
    big = struct.unpack_from(order + "H", head, 2) == (43,)
    (position,) = struct.unpack_from(order + ("Q" if big else "I"), head, 8 if big else 4)
    if position >= 1 << 62:
        return Header()
    stream.seek(position)
    block = stream.read(8 + _MAX_ENTRIES * 20)
    counting, first, step = ("Q", 8, 20) if big else ("H", 2, 12)
    (count,) = struct.unpack_from(order + counting, block)
    values: dict[int, int] = {}
    for at in range(first, min(first + count * step, len(block) - step + 1), step):
        tag, kind = struct.unpack_from(order + "HH", block, at)
        letter = {3: "H", 4: "I", 16: "Q"}.get(kind)
        values[tag] = struct.unpack_from(order + letter, block, at + (12 if big else 8))[0] if letter else 0
    preview = bool(values.get(254, 0) & 1)
    raw = values.get(262) in (32803, 34892) or (preview and (330 in values or 50706 in values))
    return Header(values.get(256), values.get(257), raw=raw)


def _read_avif(stream: BinaryIO) -> Header:
    """The largest of the sizes ("ispe"), and the depth ("av1C"), among the properties at the file's start."""
    stream.seek(0)
    head = stream.read(1 << 16)
    sizes: list[tuple[int, int]] = []
    position = head.find(b"ispe")
    while position >= 0:
        sizes.append(struct.unpack_from(">II", head, position + 8))
        position = head.find(b"ispe", position + 4)
    configured = head.find(b"av1C")
    deep = configured >= 0 and bool(struct.unpack_from("B", head, configured + 6)[0] & 0x40)
    width, height = max(sizes, key=lambda size: size[0] * size[1], default=(None, None))
    return Header(width, height, 10 if deep else 8, lossless=False)


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
    return found
