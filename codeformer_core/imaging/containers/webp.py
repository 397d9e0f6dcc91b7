"""WebP: RIFF chunks. WebP Container Specification."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from ..metadata import xmp
from ..metadata.content import Extra, Metadata, Parts, Warn
from ..metadata.exif import clean_exif, resolution
from ..metadata.ifd import Structure

_PIXELS = (b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF")
# Of the flags in VP8X: metadata that is taken out.
_FLAGS = 0x20 | 0x08 | 0x04
_ALPHA = 0x10


def take_apart(data: bytes, warn: Warn, strict: bool) -> Parts:
    """Raises ValueError where a part that holds pixels is cut short."""
    needed: list[tuple[bytes, bytes]] = []
    extras: list[Extra] = []
    profile = exif = packet = None
    frames = 0
    for kind, content in _chunks(data, warn):
        if kind == b"VP8X":
            needed.append((kind, bytes((content[0] & ~_FLAGS,)) + content[1:] if content else content))
        elif kind in _PIXELS:
            frames += kind == b"ANMF"
            needed.append((kind, content))
        elif kind == b"ICCP":
            profile = content
        elif kind == b"EXIF":
            exif = content
        elif kind == b"XMP ":
            packet = content
        else:
            extras.append(Extra("WEBP", kind, content))
    orientation, dpi, aspect = 1, None, None
    if exif is not None:
        exif, orientation = clean_exif(exif, warn)
    if exif is not None:
        structure = Structure.of(exif)
        dpi, aspect = resolution(structure, structure.directory(structure.first))
    elif packet is not None:
        orientation = xmp.orientation_of(packet)
    metadata = Metadata(xmp=None if packet is None else xmp.upright(packet), aspect=aspect, extras=tuple(extras))
    return Parts(_riff(needed), metadata, profile, exif, orientation, dpi, frames > 1)


def _chunks(data: bytes, warn: Warn) -> Iterator[tuple[bytes, bytes]]:
    position = 12
    while position + 8 <= len(data):
        kind, size = struct.unpack_from("<4sI", data, position)
        end = position + 8 + size
        if end > len(data):
            name = kind.decode("latin-1").strip()
            if kind in _PIXELS or kind == b"VP8X":
                raise ValueError(f"is truncated: its {name} part needs {end:,} bytes, the file has {len(data):,}")
            warn(f"its {name} chunk is cut short and left out")
            return
        yield kind, data[position + 8 : end]
        position = end + size % 2


def _riff(chunks: list[tuple[bytes, bytes]]) -> bytes:
    packed = b"".join(
        struct.pack("<4sI", kind, len(content)) + content + bytes(len(content) % 2) for kind, content in chunks
    )
    return b"RIFF" + struct.pack("<I", 4 + len(packed)) + b"WEBP" + packed


def with_extras(encoded: bytes, extras: list[Extra], width: int, height: int) -> bytes:
    """Chunks that no other format knows, behind all others of a file that Pillow wrote."""
    if not extras:
        return encoded
    chunks = list(_chunks(encoded, lambda _text: None))
    if chunks[0][0] != b"VP8X":  # only the extended format has further chunks
        kind, content = chunks[0]
        alpha = kind == b"VP8L" and bool(content[4] & 0x10)
        sizes = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        chunks.insert(0, (b"VP8X", bytes((_ALPHA if alpha else 0, 0, 0, 0)) + sizes))
    return _riff([*chunks, *((extra.kind, extra.content) for extra in extras)])
