"""JPEG: segments. ITU-T T.81 (markers), JFIF 1.02, Exif 2.32, ICC.1:2022 annex B, XMP part 3."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field

from ..metadata import photoshop, xmp
from ..metadata.attachments import Attachments, text_names
from ..metadata.content import Extra, Metadata, Parts, Warn
from ..metadata.exif import PREFIX, clean_exif, ratio, resolution
from ..metadata.ifd import Structure
from .png_texts import comments_of

SOI, EOI, SOS, COM, APP0 = 0xD8, 0xD9, 0xDA, 0xFE, 0xE0
_XMP, _XMP_MORE = b"http://ns.adobe.com/xap/1.0/\0", b"http://ns.adobe.com/xmp/extension/\0"
_ICC, _SEVERAL, _JFIF, _ADOBE = b"ICC_PROFILE\0", b"MPF\0", b"JFIF\0", b"Adobe\0"
_LONGEST = 65533  # bytes of one segment's payload
_LONGEST_ICC = _LONGEST - len(_ICC) - 2
_LONE = (0x01, *range(0xD0, 0xD8))  # markers without a length
# The next marker that is no stuffed byte, no restart and no filling.
_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")


@dataclass
class _Found:
    needed: list[bytes] = field(default_factory=lambda: [b"\xff\xd8"])
    exif: bytes = b""
    xmp: bytes | None = None
    xmp_extension: list[bytes] = field(default_factory=list[bytes])
    icc: list[bytes] = field(default_factory=list[bytes])
    resources: bytes = b""
    comments: list[bytes] = field(default_factory=list[bytes])
    extras: list[Extra] = field(default_factory=list[Extra])
    density: tuple[int, int, int] = (0, 1, 1)
    several: bool = False
    credentials: bool = False


def take_apart(data: bytes, warn: Warn, strict: bool) -> Parts:
    """A file that is cut short is completed by an end marker, with a warning; the decoder fills what is missing.

    strict: refuse a file that is cut short anywhere.
    Raises ValueError where it is cut before the pixels; with `strict` wherever it is cut.
    """
    found = _Found()
    pixels_at = _read_segments(data, found, warn)
    end, complete = _end_of_pixels(data, pixels_at)
    if not complete:
        if strict:
            raise ValueError("is truncated: its end marker is missing")
        warn("its end is missing; read as far as it goes")
        found.needed += [data[pixels_at:end].rstrip(b"\xff"), b"\xff\xd9"]
    else:
        found.needed.append(data[pixels_at:end])
        _name_the_rest(data[end:], found, warn)
    exif, orientation = clean_exif(found.exif, warn) if found.exif else (None, 1)
    if exif is None and found.xmp is not None and orientation == 1:
        orientation = xmp.orientation_of(found.xmp)
    dpi, aspect = _resolution(found.density, exif)
    metadata = Metadata(
        xmp=None if found.xmp is None else xmp.upright(found.xmp),
        xmp_extension=tuple(found.xmp_extension),
        photoshop=photoshop.clean_resources(found.resources, warn) if found.resources else None,
        comments=tuple(found.comments),
        aspect=aspect,
        extras=tuple(found.extras),
    )
    profile = _joined_profile(found.icc, warn)
    return Parts(b"".join(found.needed), metadata, profile, exif, orientation, dpi, found.several)


def _read_segments(data: bytes, found: _Found, warn: Warn) -> int:
    """Sort what stands before the pixels; where the first scan's header begins."""
    position = 2
    while position + 4 <= len(data):
        if data[position] != 0xFF:  # bytes that belong nowhere, which decoders skip
            position = data.find(b"\xff", position)
            if position < 0:
                break
            continue
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        if marker in _LONE or marker == 0 or marker == SOI:
            position += 2
            continue
        if marker in (SOS, EOI):
            break
        (size,) = struct.unpack_from(">H", data, position + 2)
        end = position + 2 + size
        if size < 2 or end > len(data):
            break
        _sort(marker, data[position + 4 : end], data[position:end], found, warn)
        position = end
    pixels_at = position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    if data[position : position + 2] != bytes((0xFF, SOS)) or pixels_at >= len(data):
        raise ValueError("is truncated or damaged: it ends before its pixels begin")
    return position


def _sort(marker: int, content: bytes, whole: bytes, found: _Found, warn: Warn) -> None:
    if marker == COM:
        found.comments.append(content)
    elif not 0xE0 <= marker <= 0xEF:
        found.needed.append(whole)
    elif marker == 0xE0 and content.startswith(_JFIF):
        if len(content) >= 12:
            found.density = struct.unpack_from(">BHH", content, 7)
        # Without it colours would be guessed at; its thumbnail of the old image is left out.
        found.needed.append(b"\xff\xe0\0\x10" + content[:12].ljust(12, b"\0") + b"\0\0")
    elif marker == 0xE0 and content.startswith(b"JFXX\0"):
        pass  # a thumbnail of the old image
    elif marker == 0xE1 and content.startswith(PREFIX):
        found.exif += content[len(PREFIX) :]
    elif marker == 0xE1 and content.startswith(_XMP):
        found.xmp = content[len(_XMP) :]
    elif marker == 0xE1 and content.startswith(_XMP_MORE):
        found.xmp_extension.append(content)
    elif marker == 0xE2 and content.startswith(_ICC):
        found.icc.append(content[len(_ICC) :])
    elif marker == 0xE2 and content.startswith(_SEVERAL):
        found.several = True
    elif marker == 0xED and content.startswith(photoshop.JPEG_PREFIX):
        found.resources += content[len(photoshop.JPEG_PREFIX) :]
    elif marker == 0xEE and content.startswith(_ADOBE[:5]):
        found.needed.append(whole)
    elif marker == 0xEB and content.startswith(b"JP"):
        if not found.credentials:
            found.credentials = True
            warn("its JUMBF data (content credentials) holds for the unchanged image only and is left out")
    else:
        found.extras.append(Extra("JPEG", bytes((marker,)), content))


def _end_of_pixels(data: bytes, position: int) -> tuple[int, bool]:
    """Where the pixels end, the end marker included, and whether it is there."""
    while (match := _MARKER.search(data, position)) is not None:
        if match[1][0] == EOI:
            return match.end(), True
        # Another scan or its tables: over their length, so that nothing in them is taken for a marker.
        at = match.end()
        size = int.from_bytes(data[at : at + 2], "big")
        if size < 2 or at + size > len(data):
            return match.start(), False
        position = at + size
    return len(data), False


def _name_the_rest(rest: bytes, found: _Found, warn: Warn) -> None:
    if not rest.strip(b"\0\r\n\t "):
        return
    if found.several or rest.startswith(b"\xff\xd8"):
        found.several = True
        warn("holds further images (a preview, a depth map or an HDR gain map); they are left out")
    elif b"ftyp" in rest[:64]:
        warn("a video follows the image in its file; it is left out")
    else:
        warn(f"{len(rest):,} bytes of unknown data follow the image in its file; they are left out")


def _joined_profile(pieces: list[bytes], warn: Warn) -> bytes | None:
    if not pieces:
        return None
    numbered = {piece[0]: piece[2:] for piece in pieces if len(piece) > 2}
    total = pieces[0][1] if len(pieces[0]) > 2 else 0
    if sorted(numbered) != list(range(1, total + 1)):
        warn("its colour profile is incomplete and left out")
        return None
    return b"".join(numbered[number] for number in sorted(numbered))


def _resolution(
    density: tuple[int, int, int], exif: bytes | None
) -> tuple[tuple[float, float] | None, tuple[int, int] | None]:
    unit, across, down = density
    if unit in (1, 2) and across and down:
        factor = 2.54 if unit == 2 else 1.0
        return (across * factor, down * factor), None
    if exif is not None:
        structure = Structure.of(exif)
        dpi, aspect = resolution(structure, structure.directory(structure.first))
        if dpi is not None or aspect is not None:
            return dpi, aspect
    return None, ratio(across, down)


def put_together(encoded: bytes, attached: Attachments) -> bytes:
    """The file with its metadata.

    encoded: a JPEG whose only segment of this kind is JFIF's.
    """
    metadata, lost = attached.metadata, attached.lost
    segments: list[tuple[int, bytes]] = []
    if attached.exif is not None:
        content = PREFIX + attached.exif
        if len(content) > _LONGEST:
            lost.append(f"EXIF data of {len(content):,} bytes, too many for JPEG")
        else:
            segments.append((0xE1, content))
    if metadata.xmp is not None:
        if len(_XMP) + len(metadata.xmp) > _LONGEST:
            lost.append(f"XMP of {len(metadata.xmp):,} bytes, too many for JPEG")
        else:
            segments.append((0xE1, _XMP + metadata.xmp))
    segments += [(0xE1, content) for content in metadata.xmp_extension]
    segments += _profile_segments(attached.icc_profile, lost)
    if metadata.photoshop is not None:
        step = _LONGEST - len(photoshop.JPEG_PREFIX)
        resources = metadata.photoshop
        pieces = [resources[at : at + step] for at in range(0, len(resources), step)]
        segments += [(0xED, photoshop.JPEG_PREFIX + piece) for piece in pieces]
    for extra in metadata.extras:
        if extra.format == "JPEG":
            segments.append((extra.kind[0], extra.content))
        else:
            lost.append(extra.title)
    plain, texts = comments_of(metadata.texts)
    for comment in (*metadata.comments, *plain):
        if len(comment) > _LONGEST:
            lost.append(f"comment of {len(comment):,} bytes, too many for JPEG")
        else:
            segments.append((COM, comment))
    lost += text_names(texts)
    start = 4 + int.from_bytes(encoded[4:6], "big") if encoded[2:4] == b"\xff\xe0" else 2
    head = bytearray(encoded[:start])
    if attached.dpi is None and metadata.aspect is not None and head.startswith(_JFIF, 6):
        struct.pack_into(">BHH", head, 13, 0, *metadata.aspect)
    packed = b"".join(struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content for marker, content in segments)
    return bytes(head) + packed + encoded[start:]


def _profile_segments(profile: bytes | None, lost: list[str]) -> list[tuple[int, bytes]]:
    if profile is None:
        return []
    pieces = [profile[at : at + _LONGEST_ICC] for at in range(0, len(profile), _LONGEST_ICC)]
    if len(pieces) > 255:
        lost.append(f"colour profile of {len(profile):,} bytes, too many for JPEG")
        return []
    return [(0xE2, _ICC + bytes((number, len(pieces))) + piece) for number, piece in enumerate(pieces, 1)]
