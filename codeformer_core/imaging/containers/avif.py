"""AVIF: the EXIF item as it stands in the file. ISO/IEC 14496-12 (boxes, iloc) and 23008-12 (items, annex A).

Pillow decodes AVIF and hands out the other parts; of EXIF it makes a new block, without letters beyond ASCII, where the
container's own orientation differs from the one in it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

# More items than any image has.
_MAX_ITEMS = 4096


def exif_item(data: bytes) -> bytes | None:
    """The TIFF structure of the first item of type "Exif"; None where there is none, or the boxes are damaged."""
    try:
        return _find(data)
    except (struct.error, IndexError, StopIteration):
        return None


def _find(data: bytes) -> bytes | None:
    meta = next((box for kind, *box in _boxes(data, 0, len(data)) if kind == b"meta"), None)
    if meta is None:
        return None
    parts = {kind: (start, end) for kind, start, end in _boxes(data, meta[0] + 4, meta[1])}
    if b"iinf" not in parts or b"iloc" not in parts:
        return None
    item = _item_of_type(data, *parts[b"iinf"], b"Exif")
    if item is None:
        return None
    content = _content(data, parts[b"iloc"][0], item, parts.get(b"idat", (0, 0))[0])
    # Before the structure stands how many bytes come between.
    return None if content is None else content[4 + struct.unpack_from(">I", content)[0] :] or None


def _boxes(data: bytes, position: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, begin and end of the content."""
    while position + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, position)
        start = position + 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, start)
            start += 8
        stop = end if size == 0 else position + size
        if stop < start or stop > end:
            return
        yield kind, start, stop
        position = stop


def _item_of_type(data: bytes, start: int, end: int, wanted: bytes) -> int | None:
    first = start + (6 if data[start] == 0 else 8)
    for kind, begin, _ in _boxes(data, first, end):
        if kind == b"infe" and data[begin] in (2, 3):
            number, _, item_type = struct.unpack_from(">HH4s" if data[begin] == 2 else ">IH4s", data, begin + 4)
            if item_type == wanted:
                return number
    return None


def _content(data: bytes, start: int, wanted: int, idat: int) -> bytes | None:
    """The bytes of one item; its pieces may lie anywhere in the file, or in the idat box."""
    version = data[start]
    offset_size, length_size = data[start + 4] >> 4, data[start + 4] & 15
    base_size, index_size = data[start + 5] >> 4, data[start + 5] & 15 if version else 0
    position = start + 6

    def number(size: int) -> int:
        nonlocal position
        if position + size > len(data):
            raise IndexError
        position += size
        return int.from_bytes(data[position - size : position], "big")

    for _ in range(min(number(4 if version == 2 else 2), _MAX_ITEMS)):
        item = number(4 if version == 2 else 2)
        method = number(2) & 15 if version else 0
        number(2)  # another file, which none has
        base = number(base_size) + (idat if method == 1 else 0)
        pieces: list[tuple[int, int]] = []
        for _ in range(min(number(2), _MAX_ITEMS)):
            number(index_size)
            begin = base + number(offset_size)
            size = number(length_size)
            pieces.append((begin, size))
        if item == wanted:
            inside = method < 2 and sum(size for _, size in pieces) <= len(data)
            return b"".join(data[begin : begin + size] for begin, size in pieces) if inside else None
    return None
