"""A TIFF writer: Pillow can't write 16 bits per channel in colour, and OpenCV drops the colour profile.

Baseline TIFF 6.0, Deflate with horizontal differencing, one directory. The file begins with the EXIF block, if there is
one: its entries become the directory's own, and every offset in it, those in maker notes included, stays right. Shape
legend: H W image height and width, C channels (1 gray, 2 gray and alpha, 3 RGB, 4 RGBA).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from ..containers.tiff import ICC_PROFILE, IPTC, PHOTOSHOP, XMP
from ..metadata import photoshop
from ..metadata.attachments import Attachments
from ..metadata.exif import main_entries
from ..metadata.ifd import BYTE, LONG, RATIONAL, SHORT, UNDEFINED, ByteOrder

_STRIP_BYTES = 1 << 20
# By tag: the type of the values, and these, or their bytes as they go into the file.
_Entries = dict[int, tuple[int, Sequence[float] | bytes]]


def encode_tiff(pixels_HWC: np.ndarray, attached: Attachments) -> bytes:
    """The file's bytes for uint8 or uint16 pixels.

    Raises ValueError when the file would pass TIFF's limit of 4 GiB.
    """
    bits = pixels_HWC.dtype.itemsize * 8
    assert pixels_HWC.dtype in (np.uint8, np.uint16)
    height, width, channels = pixels_HWC.shape
    order, carried = main_entries(attached.exif) if attached.exif is not None else ("<", [])
    rows = max(1, min(height, _STRIP_BYTES // (width * channels * bits // 8)))
    strips = [_deflate(pixels_HWC[top : top + rows], order) for top in range(0, height, rows)]
    entries: _Entries = {
        256: (LONG, [width]),
        257: (LONG, [height]),
        258: (SHORT, [bits] * channels),
        259: (SHORT, [8]),  # Deflate (Adobe)
        262: (SHORT, [2 if channels >= 3 else 1]),  # RGB, or gray with 0 black
        277: (SHORT, [channels]),
        278: (LONG, [rows]),
        279: (LONG, [len(strip) for strip in strips]),
        284: (SHORT, [1]),  # channels interleaved
        317: (SHORT, [2]),  # horizontal differencing
    }
    entries |= _metadata_entries(attached)
    if channels in (2, 4):
        entries[338] = (SHORT, [2])  # alpha not multiplied into the colours
    begin = attached.exif if attached.exif is not None else bytes(8)
    begin += bytes(len(begin) % 2)
    starts = [len(begin)]
    for strip in strips:
        starts.append(starts[-1] + len(strip))
    entries[273] = (LONG, starts[:-1])
    padding = starts[-1] % 2  # directories start on even bytes
    carried = [entry for entry in carried if entry[0] not in entries]
    directory = _directory(entries, carried, starts[-1] + padding, order)
    if starts[-1] + len(directory) >= 1 << 32:
        raise ValueError("is larger than the 4 GiB a TIFF can hold; write PNG instead")
    name = b"II" if order == "<" else b"MM"
    header = name + struct.pack(order + "HI", 42, starts[-1] + padding)
    return b"".join([header, begin[8:], *strips, bytes(padding), directory])


def _metadata_entries(attached: Attachments) -> _Entries:
    entries: _Entries = {}
    metadata = attached.metadata
    if attached.dpi is not None:
        across, down = attached.dpi
        entries |= {282: (RATIONAL, [across]), 283: (RATIONAL, [down]), 296: (SHORT, [2])}
    elif metadata.aspect is not None:
        across, down = metadata.aspect
        entries |= {282: (RATIONAL, [across]), 283: (RATIONAL, [down]), 296: (SHORT, [1])}
    resources = photoshop.others(metadata.photoshop)
    found = {
        XMP: (BYTE, metadata.xmp),
        IPTC: (UNDEFINED, photoshop.iptc_of(metadata.photoshop)),
        PHOTOSHOP: (BYTE, resources),
        ICC_PROFILE: (UNDEFINED, attached.icc_profile),
    }
    return entries | {tag: (kind, content) for tag, (kind, content) in found.items() if content is not None}


def _deflate(rows_HWC: np.ndarray, order: ByteOrder) -> bytes:
    """TIFF 6.0, section 14: each sample minus the same channel's sample to its left, modulo 2^bits."""
    differences = rows_HWC.copy()
    differences[:, 1:] -= rows_HWC[:, :-1]
    return zlib.compress(differences.astype(differences.dtype.newbyteorder(order)).tobytes(), 6)


def _directory(entries: _Entries, carried: list[tuple[int, bytes]], position: int, order: ByteOrder) -> bytes:
    """The image file directory at byte `position`, followed by the values that don't fit into four bytes.

    carried: whole entries, by tag, whose values lie elsewhere in the file.
    """
    values_at = position + 2 + 12 * (len(entries) + len(carried)) + 4
    lines, values = list(carried), b""
    for tag, (kind, content) in entries.items():
        data, count = _pack(kind, content, order)
        if len(data) <= 4:
            packed = data.ljust(4, b"\0")
        else:
            packed = struct.pack(order + "I", values_at + len(values))
            values += data + bytes(len(data) % 2)
        lines.append((tag, struct.pack(order + "HHI", tag, kind, count) + packed))
    return struct.pack(order + "H", len(lines)) + b"".join(line for _, line in sorted(lines)) + bytes(4) + values


def _pack(kind: int, content: Sequence[float] | bytes, order: ByteOrder) -> tuple[bytes, int]:
    if isinstance(content, bytes):
        return content, len(content)
    if kind == RATIONAL:
        fractions = [Fraction(value).limit_denominator(10000) for value in content]
        return b"".join(struct.pack(order + "II", f.numerator, f.denominator) for f in fractions), len(content)
    return struct.pack(f"{order}{len(content)}{'H' if kind == SHORT else 'I'}", *content), len(content)
