"""EXIF as bytes: only what would be wrong in the new file is changed, in place.

Orientation becomes 1 (the pixels are turned), the thumbnail of the old image is cut off, sizes follow the new one.
Everything else, maker notes and texts of any encoding included, stays as it stands.
"""

from __future__ import annotations

import struct

from .content import MAX_PART, Warn
from .ifd import LONG, ByteOrder, DamagedDirectory, Directory, Entry, Structure, keep_entries, set_integer

PREFIX = b"Exif\0\0"
ORIENTATION, EXIF_IFD, GPS_IFD, INTEROP_IFD = 0x0112, 0x8769, 0x8825, 0xA005
_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 282, 283, 296
_WIDTHS, _HEIGHTS = (0x0100, 0xA002), (0x0101, 0xA003)
_THUMBNAIL_AT, _THUMBNAIL_BYTES = 0x0201, 0x0202
_POINTERS = (EXIF_IFD, GPS_IFD, INTEROP_IFD)
# What a TIFF's main directory says about its own pixels, their place, and parts that are carried otherwise (XMP, IPTC,
# Photoshop, colour profile): never part of its EXIF, and never taken from one.
STRUCTURAL = frozenset(
    (
        *(*range(254, 264), 266, 273, ORIENTATION, *range(277, 285), *range(288, 294), 296, 317, *range(320, 326)),
        *(330, *range(332, 348), 351, *range(512, 522), *range(529, 533), 559, 700, 33723, 34377, 34675, 37724),
        *(50706, 50707),
    )
)


def clean_exif(raw: bytes, warn: Warn) -> tuple[bytes | None, int]:
    """EXIF that fits the upright image, and the orientation that it had, 1..8.

    raw: with or without "Exif\0\0". None where it is damaged, with a warning; of damaged entries only these are lost.
    """
    data = bytearray(raw.removeprefix(PREFIX))
    try:
        structure = Structure.of(data)
        main = structure.directory(structure.first)
        if structure.big:
            raise DamagedDirectory("is a BigTIFF")
    except DamagedDirectory:
        warn("its EXIF data is damaged and left out")
        return None, 1
    value = structure.integer(main, ORIENTATION, 1)
    try:
        set_integer(data, structure, main.find(ORIENTATION), 1)
        broken = _remove_damaged(data, structure)
        clean = _without_thumbnail(data)
        with_size(clean, 1, 1)  # what can't be read again now would fail after the work
    except (DamagedDirectory, struct.error):
        warn("its EXIF data is damaged and left out")
        return None, value if value in range(1, 9) else 1
    if broken:
        warn(f"{broken} damaged {'entry' if broken == 1 else 'entries'} of its EXIF data left out")
    return clean, value if value in range(1, 9) else 1


def _directories(structure: Structure, main: Directory) -> list[int]:
    """Where the main directory and those below it begin."""
    below = (structure.integer(main, tag) for tag in (EXIF_IFD, GPS_IFD))
    return [structure.first, *filter(None, below)]


def _remove_damaged(data: bytearray, structure: Structure) -> int:
    """Entries whose value, or whose directory, lies outside the data; how many these were."""
    main = structure.directory(structure.first)
    broken = len(main.broken)
    lost: set[int] = set()
    for tag in (EXIF_IFD, GPS_IFD):
        if main.find(tag) is None:
            continue
        try:
            below = structure.directory(structure.integer(main, tag))
        except DamagedDirectory:
            lost.add(tag)
            continue
        if below.broken:
            broken += len(below.broken)
            keep_entries(data, structure, below.position, lambda _tag: True)
    if main.broken or lost:
        keep_entries(data, structure, structure.first, lambda tag: tag not in lost)
    return broken + len(lost)


def _without_thumbnail(data: bytearray) -> bytes:
    """The second directory holds nothing but the old image in small."""
    structure = Structure.of(data)
    main = structure.directory(structure.first)
    if not main.next:
        return bytes(data)
    end = len(data)
    try:
        thumbnail = structure.directory(main.next)
        start = structure.integer(thumbnail, _THUMBNAIL_AT)
        size = structure.integer(thumbnail, _THUMBNAIL_BYTES)
        # Cut off where it is the last thing, as cameras write it; else its bytes stay, and nothing points to them.
        if start > 8 and end - 8 <= start + size <= end:
            end = start
    except DamagedDirectory:
        pass
    unlinked = main.position + 2 + 12 * (len(main.entries) + len(main.broken))
    data[unlinked : unlinked + 4] = bytes(4)
    return bytes(data[:end])


def with_size(exif: bytes, width: int, height: int) -> bytes:
    """The sizes that EXIF mentions, if it does, become those of the new image."""
    data = bytearray(exif)
    structure = Structure.of(data)
    for position in _directories(structure, structure.directory(structure.first)):
        directory = structure.directory(position)
        for tags, value in ((_WIDTHS, width), (_HEIGHTS, height)):
            for tag in tags:
                set_integer(data, structure, directory.find(tag), value)
    return bytes(data)


def without_orientation(exif: bytes) -> bytes:
    """For a format that keeps it elsewhere."""
    data = bytearray(exif)
    structure = Structure.of(data)
    keep_entries(data, structure, structure.first, lambda tag: tag != ORIENTATION)
    return bytes(data)


def resolution(structure: Structure, main: Directory) -> tuple[tuple[float, float] | None, tuple[int, int] | None]:
    """-> (pixels per inch, or None; the pixels' ratio where the unit is unknown and they are not square, or None)."""
    across, down = (structure.fraction(main.find(tag)) for tag in (_X_RESOLUTION, _Y_RESOLUTION))
    unit = structure.integer(main, _RESOLUTION_UNIT, 2)
    if across <= 0 or down <= 0:
        return None, None
    if unit == 1:
        return None, ratio(across, down)
    factor = 2.54 if unit == 3 else 1.0
    return (across * factor, down * factor), None


def ratio(across: float, down: float) -> tuple[int, int] | None:
    """Two whole numbers for pixels that are not square."""
    whole = round(across), round(down)
    return whole if 0 < whole[0] < 65536 and 0 < whole[1] < 65536 and whole[0] != whole[1] else None


def exif_of_tiff(structure: Structure, main: Directory, warn: Warn) -> bytes | None:
    """A TIFF file's main directory without what describes its pixels, and those for EXIF and GPS, as one EXIF block."""
    entries = [entry for entry in main.entries if entry.tag not in STRUCTURAL]
    # No honest file holds more metadata than it has bytes; entries may all point to the same ones.
    packed = _packed(structure, entries, 8, [min(len(structure.data), 4 * MAX_PART)], warn)
    if packed is None:
        return None
    version = struct.pack(structure.order + "HI", 42, 8)
    return (b"II" if structure.order == "<" else b"MM") + version + packed


def _packed(
    structure: Structure, entries: list[Entry], position: int, free: list[int], warn: Warn, depth: int = 0
) -> bytes | None:
    """The directory at byte `position` of a new block, its values behind it; directories below it too.

    free: bytes that all values together may still take.
    """
    kept: list[Entry] = []
    for entry in entries:
        free[0] -= entry.size
        wide = entry.kind > 13 and entry.tag not in _POINTERS
        if entry.size > MAX_PART or free[0] < 0 or wide:
            warn(f"TIFF tag {entry.tag} ({entry.size:,} bytes) is too large and left out")
        else:
            kept.append(entry)
    values_at = position + 2 + 12 * len(kept) + 4
    lines: list[bytes] = []
    values = b""
    for entry in sorted(kept, key=lambda entry: entry.tag):
        kind, count, content = entry.kind, entry.count, structure.value(entry)
        if entry.tag in _POINTERS and depth < 2:
            try:
                below = structure.directory(structure.integers(entry)[0])
            except (DamagedDirectory, IndexError):
                warn("1 damaged entry of its EXIF data left out")
                continue
            if below.broken:
                warn(f"{len(below.broken)} damaged entries of its EXIF data left out")
            start = values_at + len(values)
            packed = _packed(structure, list(below.entries), start, free, warn, depth + 1)
            if packed is None:
                continue
            values += packed + bytes(len(packed) % 2)
            kind, count, content = LONG, 1, struct.pack(structure.order + "I", start)
        if len(content) > 4:
            start, content = values_at + len(values), content + bytes(len(content) % 2)
            values += content
            content = struct.pack(structure.order + "I", start)
        lines.append(struct.pack(structure.order + "HHI", entry.tag, kind, count) + content.ljust(4, b"\0"))
    if not lines:
        return None
    # Lines that were left out leave a gap behind the directory, which nothing points to.
    directory = struct.pack(structure.order + "H", len(lines)) + b"".join(lines) + bytes(4)
    return directory.ljust(values_at - position, b"\0") + values


def main_entries(exif: bytes) -> tuple[ByteOrder, list[tuple[int, bytes]]]:
    """The byte order and the main directory's entries (tag, 12 bytes), for a TIFF that begins with this block.

    Entries that describe pixels are left out.
    """
    structure = Structure.of(exif)
    main = structure.directory(structure.first)
    kept = [entry for entry in main.entries if entry.tag not in STRUCTURAL]
    return structure.order, [(entry.tag, exif[entry.position : entry.position + 12]) for entry in kept]
