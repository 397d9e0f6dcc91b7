"""TIFF directories (IFDs), as TIFF files and EXIF hold them: read with every offset checked, edited in place.

In place, because maker notes point to absolute positions that only their camera's maker knows.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED = 1, 2, 3, 4, 5, 7
# Bytes of one value of each type; BigTIFF's own are the last three.
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
# Little or big endian, as `struct` spells them.
ByteOrder = Literal["<", ">"]
_ORDERS: dict[bytes, ByteOrder] = {b"II": "<", b"MM": ">"}
# More entries than any camera writes; a damaged count must not cost time.
_MAX_ENTRIES = 4096


class DamagedDirectory(ValueError):
    """The structure leads outside its own bytes."""


@dataclass(frozen=True)
class Entry:
    """position: of the entry in the data, in bytes.
    start, size: of its value in the data, in bytes.
    """

    tag: int
    kind: int
    count: int
    position: int
    start: int
    size: int


@dataclass(frozen=True)
class Directory:
    """broken: tags of entries whose value lies outside the data, or has an unknown type.
    next: position of the next directory; 0 for none.
    """

    position: int
    entries: tuple[Entry, ...]
    broken: tuple[int, ...]
    next: int

    def find(self, tag: int) -> Entry | None:
        return next((entry for entry in self.entries if entry.tag == tag), None)


@dataclass(frozen=True)
class Structure:
    """data: begins with the TIFF header.
    big: BigTIFF, with 64-bit offsets.
    """

    data: bytes | bytearray
    order: ByteOrder
    big: bool
    first: int

    @classmethod
    def of(cls, data: bytes | bytearray) -> Structure:
        """Raises DamagedDirectory where `data` is not a TIFF structure."""
        order = _ORDERS.get(bytes(data[:2]))
        try:
            if order is not None:
                (version,) = struct.unpack_from(order + "H", data, 2)
                if version == 42:
                    return cls(data, order, False, struct.unpack_from(order + "I", data, 4)[0])
                if version == 43:
                    return cls(data, order, True, struct.unpack_from(order + "Q", data, 8)[0])
        except struct.error:
            pass
        raise DamagedDirectory("has no TIFF header")

    @property
    def layout(self) -> tuple[str, int, str, int]:
        """Format of the number of entries, bytes of one, format of an offset, its bytes."""
        return ("Q", 20, "Q", 8) if self.big else ("H", 12, "I", 4)

    def directory(self, position: int) -> Directory:
        """Raises DamagedDirectory where it lies outside the data."""
        counting, entry_size, offset, inline = self.layout
        counted = struct.calcsize("=" + counting)
        try:
            (count,) = struct.unpack_from(self.order + counting, self.data, position)
        except struct.error as error:
            raise DamagedDirectory("points outside itself") from error
        begin = position + counted
        if position < 8 or count > _MAX_ENTRIES or begin + count * entry_size > len(self.data):
            raise DamagedDirectory("points outside itself")
        entries: list[Entry] = []
        broken: list[int] = []
        for at in range(begin, begin + count * entry_size, entry_size):
            tag, kind = struct.unpack_from(self.order + "HH", self.data, at)
            (number,) = struct.unpack_from(self.order + offset, self.data, at + 4)
            size = _SIZES.get(kind, 0) * number
            start = at + 4 + inline
            if size > inline:
                (start,) = struct.unpack_from(self.order + offset, self.data, start)
            if kind not in _SIZES or start + size > len(self.data):
                broken.append(tag)
            else:
                entries.append(Entry(tag, kind, number, at, start, size))
        end = begin + count * entry_size
        next_position = 0
        if end + inline <= len(self.data):
            (next_position,) = struct.unpack_from(self.order + offset, self.data, end)
        return Directory(position, tuple(entries), tuple(broken), next_position)

    def value(self, entry: Entry) -> bytes:
        return bytes(self.data[entry.start : entry.start + entry.size])

    def integers(self, entry: Entry | None) -> tuple[int, ...]:
        """The values of a directory's whole numbers; empty for another type."""
        if entry is None or entry.kind not in _INTEGERS:
            return ()
        return struct.unpack(f"{self.order}{entry.count}{_INTEGERS[entry.kind]}", self.value(entry))

    def integer(self, directory: Directory, tag: int, default: int = 0) -> int:
        return next(iter(self.integers(directory.find(tag))), default)

    def fraction(self, entry: Entry | None) -> float:
        """The first value of a RATIONAL; 0 where there is none."""
        if entry is None or entry.kind != RATIONAL:
            return 0.0
        above, below = struct.unpack_from(self.order + "II", self.data, entry.start)
        return above / below if below else 0.0


def set_integer(data: bytearray, structure: Structure, entry: Entry | None, value: int) -> None:
    """Overwrite one whole number in place, where the entry is one and its type is wide enough."""
    if entry is None or entry.count != 1 or entry.kind not in _INTEGERS:
        return
    letter = _INTEGERS[entry.kind]
    if value < 1 << 8 * struct.calcsize("=" + letter):
        struct.pack_into(structure.order + letter, data, entry.start, value)


def keep_entries(data: bytearray, structure: Structure, position: int, keep: Callable[[int], bool]) -> None:
    """Remove a directory's entries whose tag `keep` denies; every value stays where it is."""
    counting, entry_size, _, inline = structure.layout
    directory = structure.directory(position)
    begin = position + struct.calcsize("=" + counting)
    kept = [bytes(data[e.position : e.position + entry_size]) for e in directory.entries if keep(e.tag)]
    total = len(directory.entries) + len(directory.broken)
    end = begin + total * entry_size
    after = bytes(data[end : end + inline]).ljust(inline, b"\0")
    struct.pack_into(structure.order + counting, data, position, len(kept))
    packed = b"".join(kept) + after
    data[begin : begin + len(packed)] = packed
