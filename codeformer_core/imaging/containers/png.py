"""PNG: chunks. Portable Network Graphics Specification (Third Edition)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from ..codecs.header import PNG_SIGNATURE
from ..metadata import photoshop, xmp
from ..metadata.attachments import Attachments
from ..metadata.content import NOTHING, Extra, Metadata, Parts, PngText, Warn
from ..metadata.exif import PREFIX, clean_exif, ratio
from .png_texts import KINDS, MAX_UNPACKED, Unpacker, read_text, readable, text_of_comment
from .raw_profile import read_raw_profile, write_raw_profile

XMP_KEYWORD = "XML:com.adobe.xmp"
IPTC_KEYWORD = "Raw profile type iptc"
_COLOUR = (b"cICP", b"gAMA", b"cHRM", b"sRGB", b"mDCV", b"cLLI")
# They describe the old samples, the old palette, the time of the old file, or frames that are not taken.
_STALE = (b"sBIT", b"hIST", b"sPLT", b"iDOT", b"tIME", b"acTL", b"fcTL", b"fdAT")
# Pillow reads no PNG whose texts have 64 MiB together.
_MAX_TEXTS = 60 << 20
_METERS_PER_INCH = 0.0254
_GRAY_TYPES, _PALETTE = (0, 4), 3


@dataclass
class _Found:
    """What the chunks told so far."""

    unpacker: Unpacker
    depth: int = 8
    colour_type: int = 2
    palette: bytes = b""
    icc_profile: bytes | None = None
    exif: bytes | None = None
    dpi: tuple[float, float] | None = None
    several: bool = False
    transparent: tuple[int, ...] | None = None
    metadata: Metadata = NOTHING
    texts: list[PngText] = field(default_factory=list[PngText])
    colour: list[tuple[bytes, bytes]] = field(default_factory=list[tuple[bytes, bytes]])
    extras: list[Extra] = field(default_factory=list[Extra])


def take_apart(data: bytes, warn: Warn, strict: bool) -> Parts:
    """Raises ValueError where a necessary part is missing or damaged; with `strict` also where nothing but the end
    marker is missing."""
    found = _Found(Unpacker(warn))
    necessary: list[bytes] = []
    ended = False
    for kind, content, whole, right in _chunks(data):
        if kind[:1].isupper():
            if not right and kind != b"IEND":
                raise ValueError(f"is damaged: wrong checksum in its {kind.decode('latin-1')} part")
            necessary.append(whole)
            if kind == b"IHDR" and len(content) == 13:
                found.depth, found.colour_type = content[8], content[9]
            elif kind == b"PLTE":
                found.palette = content
            elif kind == b"IEND":
                ended = True
                break
        elif kind == b"tRNS" and right:
            if found.colour_type == _PALETTE:
                necessary.append(whole)
            else:
                found.transparent = _colour_key(content, found, warn)
        elif right:
            _take(kind, content, found, warn)
        else:
            warn(f"its {kind.decode('latin-1')} chunk is damaged and left out")
    if not ended:
        _check_complete(data, necessary, strict, warn)
        necessary.append(_chunk(b"IEND", b""))
    if not necessary[0].startswith(b"\0\0\0\rIHDR"):
        raise ValueError("is truncated or damaged: its header is missing")
    orientation = 1
    if found.exif is not None:
        found.exif, orientation = clean_exif(found.exif, warn)
    packet = found.metadata.xmp
    if packet is not None and orientation == 1 and found.exif is None:
        orientation = xmp.orientation_of(packet)
    metadata = replace(
        found.metadata,
        xmp=None if packet is None else xmp.upright(packet),
        texts=tuple(found.texts),
        colour=tuple(found.colour),
        extras=tuple(found.extras),
    )
    return Parts(
        PNG_SIGNATURE + b"".join(necessary),
        metadata,
        found.icc_profile,
        found.exif,
        orientation,
        found.dpi,
        found.several,
        found.transparent,
    )


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes, bytes, bool]]:
    """Kind, content, the whole chunk, and whether its checksum is right; as far as they are complete."""
    position = len(PNG_SIGNATURE)
    while position + 12 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + size
        if end > len(data) or not kind.isalpha():
            return
        (checksum,) = struct.unpack_from(">I", data, end - 4)
        right = zlib.crc32(memoryview(data)[position + 4 : end - 4]) == checksum
        yield kind, data[position + 8 : end - 4], data[position:end], right
        position = end


def _colour_key(content: bytes, found: _Found, warn: Warn) -> tuple[int, ...] | None:
    channels = {0: 1, 2: 3}.get(found.colour_type)
    if channels is None or len(content) != 2 * channels:
        warn("its transparency (tRNS chunk) is damaged and left out")
        return None
    # Of samples with fewer bits the upper ones have no meaning.
    return tuple(value & (1 << found.depth) - 1 for value in struct.unpack(f">{channels}H", content))


def _check_complete(data: bytes, necessary: list[bytes], strict: bool, warn: Warn) -> None:
    """Raise ValueError unless all pixels are there although the end marker is not."""
    truncated = f"is truncated: it ends after {len(data)} bytes, in the middle of the pixels"
    unpacker = zlib.decompressobj()
    try:
        # The end of the stream is what matters; it is unpacked in steps that are thrown away.
        for chunk in necessary:
            rest = chunk[8:-4] if chunk[4:8] == b"IDAT" else b""
            while rest and not unpacker.eof:
                unpacker.decompress(rest, 1 << 20)
                rest = unpacker.unconsumed_tail
    except zlib.error as error:
        raise ValueError(truncated) from error
    if not unpacker.eof:
        raise ValueError(truncated)
    if strict:
        raise ValueError("is damaged: its end marker is missing")
    warn("its end marker is missing; the pixels are all there")


def _take(kind: bytes, content: bytes, found: _Found, warn: Warn) -> None:
    """One chunk that decoding the pixels does not need."""
    if kind in KINDS:
        text = read_text(kind, content, found.unpacker)
        if text is not None and not _take_profile(text, found, warn):
            found.texts.append(text)
    elif kind == b"iCCP":
        packed = content.partition(b"\0")[2][1:]
        found.icc_profile = found.unpacker.unpack(packed, "colour profile")
    elif kind == b"eXIf":
        found.exif = content
    elif kind == b"pHYs" and len(content) == 9:
        across, down, unit = struct.unpack(">IIB", content)
        if unit == 1:
            found.dpi = across * _METERS_PER_INCH, down * _METERS_PER_INCH
        else:
            found.metadata = replace(found.metadata, aspect=ratio(across, down))
    elif kind in _COLOUR:
        found.colour.append((kind, content))
    elif kind == b"bKGD":
        if (background := _background(content, found)) is not None:
            found.extras.append(Extra("PNG", kind, background))
    elif kind in _STALE:
        found.several |= kind == b"acTL" and struct.unpack(">I", content[:4].rjust(4, b"\0"))[0] > 1
    elif kind[3:].islower():  # safe to copy, whatever happened to the pixels
        found.extras.append(Extra("PNG", kind, content))
    else:
        warn(f"its {kind.decode('latin-1')} chunk describes the unchanged image and is left out")


def _background(content: bytes, found: _Found) -> bytes | None:
    """The bKGD chunk for samples of 8 or 16 bits, gray or RGB."""
    if found.colour_type == _PALETTE:
        colour = found.palette[3 * content[0] :][:3] if content else b""
        return struct.pack(">3H", *colour) if len(colour) == 3 else None
    if len(content) != (2 if found.colour_type in _GRAY_TYPES else 6):
        return None
    if found.depth < 8:
        (value,) = struct.unpack(">H", content)
        return struct.pack(">H", value * 255 // ((1 << found.depth) - 1) & 255)
    return content


def _take_profile(chunk: PngText, found: _Found, warn: Warn) -> bool:
    """Whether the text was another kind of metadata in disguise."""
    if chunk.keyword == XMP_KEYWORD:
        found.metadata = replace(found.metadata, xmp=chunk.text)
        return True
    content = read_raw_profile(chunk.keyword, chunk.text)
    if content is None:
        return False
    kind = chunk.keyword.split()[-1].lower()
    if kind in ("exif", "app1") and content.startswith(PREFIX):
        found.exif = found.exif or content
    elif kind in ("iptc", "8bim"):
        before = found.metadata.photoshop
        blocks = photoshop.clean_resources(content, warn) if content.startswith(b"8BIM") else None
        if blocks is None and content.startswith(b"\x1c"):
            blocks = photoshop.with_iptc(before, content)
        elif blocks is not None and before is not None and blocks != before:
            blocks = before + blocks
        if blocks is None:
            return False
        found.metadata = replace(found.metadata, photoshop=blocks)
    elif kind == "xmp":
        found.metadata = replace(found.metadata, xmp=found.metadata.xmp or content)
    elif kind in ("icc", "icm"):
        found.icc_profile = found.icc_profile or content
    else:
        return False
    return True


def put_together(encoded: bytes, attached: Attachments) -> bytes:
    """The file with its metadata.

    encoded: a PNG without any.
    """
    after_header = len(PNG_SIGNATURE) + 25  # IHDR always takes 25 bytes
    gray = encoded[25] in _GRAY_TYPES
    chunks = b"".join(_chunk(kind, content) for kind, content in _written(attached, gray))
    return encoded[:after_header] + chunks + encoded[after_header:]


def _written(attached: Attachments, gray: bool) -> Iterator[tuple[bytes, bytes]]:
    metadata, lost = attached.metadata, attached.lost
    colour = [entry for entry in metadata.colour if entry[0] in _COLOUR]
    if attached.icc_profile is not None:
        if len(attached.icc_profile) > MAX_UNPACKED:
            lost.append("its colour profile of more than 1 MiB, with which many programs could not open the PNG")
        else:
            yield b"iCCP", b"ICC profile\0\0" + zlib.compress(attached.icc_profile)
            colour = [entry for entry in colour if entry[0] != b"sRGB"]  # only one of the two may stand in a file
    yield from colour
    if attached.dpi is not None:
        across, down = (round(dpi / _METERS_PER_INCH) for dpi in attached.dpi)
        yield b"pHYs", struct.pack(">IIB", across, down, 1)
    elif metadata.aspect is not None:
        yield b"pHYs", struct.pack(">IIB", *metadata.aspect, 0)
    if attached.exif is not None:
        yield b"eXIf", attached.exif
    if metadata.xmp is not None:
        yield b"iTXt", XMP_KEYWORD.encode() + bytes(5) + metadata.xmp
    if metadata.photoshop is not None:
        text = write_raw_profile("iptc", metadata.photoshop)
        yield b"zTXt", IPTC_KEYWORD.encode() + b"\0\0" + zlib.compress(text)
    if metadata.xmp_extension:
        lost.append("the second part of its long XMP")
    texts = [*filter(None, (text_of_comment(comment, lost) for comment in metadata.comments)), *metadata.texts]
    free = _MAX_TEXTS
    for text in texts:
        free -= len(text.text)
        if free < 0:
            lost.append(f"text {text.keyword!r}, as its texts have more than 60 MiB together")
        else:
            yield readable(text)
    for extra in metadata.extras:
        if extra.format != "PNG":
            lost.append(extra.title)
        elif extra.kind != b"bKGD" or len(extra.content) == (2 if gray else 6):
            yield extra.kind, extra.content
        elif not gray:
            yield extra.kind, extra.content * 3
        else:
            lost.append("background colour")


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
