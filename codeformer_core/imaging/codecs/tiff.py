"""A TIFF writer: Pillow can't write 16 bits per channel in colour, and OpenCV drops the colour profile.

Baseline TIFF 6.0, little-endian, Deflate with horizontal differencing, one directory. Shape legend: H W
picture height and width, C channels (1 gray, 2 gray and alpha, 3 RGB, 4 RGBA).
"""

from __future__ import annotations

import struct
import zlib
from fractions import Fraction

import numpy as np

_ASCII, _SHORT, _LONG, _RATIONAL, _UNDEFINED = 2, 3, 4, 5, 7
_STRIP_BYTES = 1 << 20


def encode_tiff(
    pixels_HWC: np.ndarray,
    icc_profile: bytes | None,
    dpi: tuple[float, float] | None,
    texts: dict[int, str],
) -> bytes:
    """The file's bytes for uint8 or uint16 pixels. `texts` are ASCII tags of the main directory (camera,
    author...).

    Raises ValueError when the file would pass TIFF's limit of 4 GiB.
    """
    bits = pixels_HWC.dtype.itemsize * 8
    assert pixels_HWC.dtype in (np.uint8, np.uint16)
    height, width, channels = pixels_HWC.shape
    rows = max(1, min(height, _STRIP_BYTES // (width * channels * bits // 8)))
    strips = [_deflate(pixels_HWC[top : top + rows]) for top in range(0, height, rows)]
    entries: dict[int, tuple[int, list | bytes]] = {
        256: (_LONG, [width]),
        257: (_LONG, [height]),
        258: (_SHORT, [bits] * channels),
        259: (_SHORT, [8]),  # Deflate (Adobe)
        262: (_SHORT, [2 if channels >= 3 else 1]),  # RGB, or gray with 0 black
        277: (_SHORT, [channels]),
        278: (_LONG, [rows]),
        279: (_LONG, [len(strip) for strip in strips]),
        284: (_SHORT, [1]),  # channels interleaved
        317: (_SHORT, [2]),  # horizontal differencing
    }
    for tag, text in texts.items():
        entries[tag] = (_ASCII, text.encode("ascii", "replace") + b"\0")
    if dpi is not None:
        entries |= {282: (_RATIONAL, [dpi[0]]), 283: (_RATIONAL, [dpi[1]]), 296: (_SHORT, [2])}
    if channels in (2, 4):
        entries[338] = (_SHORT, [2])  # alpha not multiplied into the colours
    if icc_profile is not None:
        entries[34675] = (_UNDEFINED, icc_profile)

    starts = [8]  # the pixels follow the file header
    for strip in strips:
        starts.append(starts[-1] + len(strip))
    entries[273] = (_LONG, starts[:-1])
    padding = starts[-1] % 2  # directories start on even bytes
    directory = _directory(entries, starts[-1] + padding)
    if starts[-1] + len(directory) >= 1 << 32:
        raise ValueError("is larger than the 4 GiB a TIFF can hold; write PNG instead")
    header = struct.pack("<2sHI", b"II", 42, starts[-1] + padding)
    return b"".join([header, *strips, bytes(padding), directory])


def _deflate(rows_HWC: np.ndarray) -> bytes:
    """TIFF 6.0, section 14: each sample minus the same channel's sample to its left, modulo 2^bits."""
    differences = rows_HWC.copy()
    differences[:, 1:] -= rows_HWC[:, :-1]
    return zlib.compress(differences.astype(differences.dtype.newbyteorder("<")).tobytes(), 6)


def _directory(entries: dict[int, tuple[int, list | bytes]], position: int) -> bytes:
    """The image file directory at byte `position`, followed by the values that don't fit into four bytes."""
    values_at = position + 2 + 12 * len(entries) + 4
    lines, values = [], b""
    for tag in sorted(entries):
        kind, content = entries[tag]
        data, count = _pack(kind, content)
        if len(data) <= 4:
            field = data.ljust(4, b"\0")
        else:
            field = struct.pack("<I", values_at + len(values))
            values += data + bytes(len(data) % 2)
        lines.append(struct.pack("<HHI", tag, kind, count) + field)
    return struct.pack("<H", len(entries)) + b"".join(lines) + bytes(4) + values


def _pack(kind: int, content: list | bytes) -> tuple[bytes, int]:
    if isinstance(content, bytes):
        return content, len(content)
    if kind == _RATIONAL:
        fractions = [Fraction(value).limit_denominator(10000) for value in content]
        return b"".join(struct.pack("<II", f.numerator, f.denominator) for f in fractions), len(content)
    return struct.pack(f"<{len(content)}{'H' if kind == _SHORT else 'I'}", *content), len(content)
