"""Picture files with any metadata, and what files hold, written and read without the code that is tested.

Chunks, segments and directories are put together by hand, so that damaged and rare ones can be made too.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageCms

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PREFIX = b"Exif\0\0"
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf='
    '"http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description xmlns:xmp="http://ns.adobe.com/xap/1.0/" '
    'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" xmp:Rating="5" tiff:Orientation="1" xmp:Label="Großmutter"/>'
    '</rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
).encode()
# Title and by-line as IIM datasets, in a Photoshop resource block; then a resource of Photoshop's own.
IPTC = b"\x1c\x02\x05\x00\x05Tante\x1c\x02\x50\x00\x07M\xc3\xbcller"
IPTC_BLOCK = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(IPTC)) + IPTC + bytes(len(IPTC) % 2)
URL_BLOCK = b"8BIM\x04\x0b\0\0\0\0\0\x10http://example.x"
DESCRIPTION, ARTIST = "Großmutter 1950".encode(), "Zoë Müller".encode()
MAKER_NOTE = b"MAKER\0\1\2" + bytes(range(200, 240))


def values(*numbers: int, order: str = "<", letter: str = "H") -> bytes:
    return struct.pack(f"{order}{len(numbers)}{letter}", *numbers)


@dataclass(frozen=True)
class Tag:
    """One entry of a directory: type, count, the bytes of its value."""

    number: int
    kind: int
    count: int
    content: bytes


def texts(order: str) -> list[Tag]:
    """What people write into their photos, in UTF-8 and, for Windows, UTF-16."""
    title = "Oma\0".encode("utf-16-le")
    return [
        Tag(0x010E, 2, len(DESCRIPTION) + 1, DESCRIPTION + b"\0"),
        Tag(0x013B, 2, len(ARTIST) + 1, ARTIST + b"\0"),
        Tag(0x4746, 3, 1, values(5, order=order)),
        Tag(0x9C9B, 1, len(title), title),
    ]


def photo_tags(order: str) -> list[Tag]:
    comment = b"ASCII\0\0\0on the back"
    return [
        Tag(0x829A, 5, 1, values(1, 125, order=order, letter="I")),
        Tag(0x9286, 7, len(comment), comment),
        Tag(0x927C, 7, len(MAKER_NOTE), MAKER_NOTE),
    ]


def place_tags(order: str) -> list[Tag]:
    return [Tag(1, 2, 2, b"N\0"), Tag(2, 5, 3, values(48, 1, 8, 1, 0, 1, order=order, letter="I"))]


def exif_block(order: str = "<", orientation: int | None = None, size: tuple[int, int] | None = None) -> bytes:
    """EXIF as a camera writes it: texts, photo, place, maker note, and a thumbnail at the end.

    size: width, height, in the tags that repeat the picture's own.
    """
    main, photo = texts(order), photo_tags(order)
    if orientation is not None:
        main.append(Tag(0x0112, 3, 1, values(orientation, order=order)))
    if size is not None:
        photo += [Tag(0xA002, 4, 1, values(size[0], order=order, letter="I"))]
        photo += [Tag(0xA003, 4, 1, values(size[1], order=order, letter="I"))]
    thumbnail = picture(Image.new("RGB", (16, 12), (200, 30, 30)), "JPEG")
    return tiff_block(order, main, {0x8769: photo, 0x8825: place_tags(order)}, thumbnail)


def tiff_block(
    order: str, main: Sequence[Tag], below: dict[int, Sequence[Tag]], thumbnail: bytes = b"", behind: bytes = b""
) -> bytes:
    """A TIFF structure whose main directory stands at byte 8. behind: bytes at its end."""
    pointers = [Tag(number, 4, 1, bytes(4)) for number in below]
    sizes = {number: len(_directory(order, tags, 0, 0)) for number, tags in below.items()}
    position = 8 + len(_directory(order, [*main, *pointers], 8, 0))
    packed, placed = b"", []
    for number, tags in below.items():
        placed.append(Tag(number, 4, 1, values(position, order=order, letter="I")))
        packed += _directory(order, tags, position, 0)
        position += sizes[number]
    following = position if thumbnail else 0
    if thumbnail:
        empty = [Tag(0x0201, 4, 1, bytes(4)), Tag(0x0202, 4, 1, values(len(thumbnail), order=order, letter="I"))]
        start = position + len(_directory(order, empty, position, 0))
        empty[0] = Tag(0x0201, 4, 1, values(start, order=order, letter="I"))
        packed += _directory(order, empty, position, 0) + thumbnail
    head = (b"II" if order == "<" else b"MM") + values(42, order=order) + values(8, order=order, letter="I")
    return head + _directory(order, [*main, *placed], 8, following) + packed + behind


def _directory(order: str, tags: Sequence[Tag], position: int, following: int) -> bytes:
    lines, contents = b"", b""
    for tag in sorted(tags, key=lambda tag: tag.number):
        content = tag.content
        if len(content) > 4:
            at = position + 2 + 12 * len(tags) + 4 + len(contents)
            contents += content + bytes(len(content) % 2)
            content = values(at, order=order, letter="I")
        lines += struct.pack(order + "HHI", tag.number, tag.kind, tag.count) + content.ljust(4, b"\0")
    return values(len(tags), order=order) + lines + values(following, order=order, letter="I") + contents


def entries(block: bytes) -> dict[tuple[str, int], tuple[int, int, bytes]]:
    """(directory, tag) -> (type, count, the value's bytes) of a TIFF structure, EXIF or file."""
    block = block.removeprefix(PREFIX)
    order = {b"II": "<", b"MM": ">"}[block[:2]]
    found: dict[tuple[str, int], tuple[int, int, bytes]] = {}

    def read(name: str, position: int) -> None:
        (count,) = struct.unpack_from(order + "H", block, position)
        for at in range(position + 2, position + 2 + 12 * count, 12):
            tag, kind, number = struct.unpack_from(order + "HHI", block, at)
            size = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1}[kind] * number
            (start,) = struct.unpack_from(order + "I", block, at + 8) if size > 4 else (at + 8,)
            found[name, tag] = kind, number, block[start : start + size]
            if tag in (0x8769, 0x8825):
                read(f"{tag:x}", struct.unpack_from(order + "I", block, at + 8)[0])
        (following,) = struct.unpack_from(order + "I", block, position + 2 + 12 * count)
        if following:
            found[name, 0] = 4, 1, b"another directory follows"

    read("main", struct.unpack_from(order + "I", block, 4)[0])
    return found


def picture(image: Image.Image, file_format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, file_format, **options)
    return stream.getvalue()


def noise(mode: str = "RGB", size: tuple[int, int] = (24, 16), seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 4), dtype=np.uint8)
    rgba = Image.fromarray(pixels)
    return rgba if mode == "RGBA" else rgba.convert("RGB").convert(mode)


# --- PNG -------------------------------------------------------------------------------------------------------------


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def with_chunks(png: bytes, *chunks: bytes) -> bytes:
    """Behind the header, which always takes 25 bytes."""
    return png[:33] + b"".join(chunks) + png[33:]


def png_chunks(png: bytes) -> list[tuple[bytes, bytes]]:
    position, found = 8, []
    while position < len(png):
        size, kind = struct.unpack_from(">I4s", png, position)
        content = png[position + 8 : position + 8 + size]
        assert struct.unpack_from(">I", png, position + 8 + size) == (zlib.crc32(kind + content),), kind
        found.append((kind, content))
        position += 12 + size
    assert position == len(png) and found[-1] == (b"IEND", b"")
    return found


def gray16_png(pixels_HW: np.ndarray, *chunks: bytes) -> bytes:
    height, width = pixels_HW.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels_HW)
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 0, 0, 0, 0))
    return PNG_SIGNATURE + header + b"".join(chunks) + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")


# --- JPEG ------------------------------------------------------------------------------------------------------------


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def with_segments(jpeg: bytes, *segments: bytes) -> bytes:
    """Behind the start, before JFIF's own segment."""
    return jpeg[:2] + b"".join(segments) + jpeg[2:]


def jpeg_segments(jpeg: bytes) -> list[tuple[int, bytes]]:
    """Those before the pixels."""
    position, found = 2, []
    while jpeg[position + 1] != 0xDA:
        assert jpeg[position] == 0xFF
        marker, size = jpeg[position + 1], int.from_bytes(jpeg[position + 2 : position + 4], "big")
        found.append((marker, jpeg[position + 4 : position + 2 + size]))
        position += 2 + size
    return found


# --- WebP ------------------------------------------------------------------------------------------------------------


def riff_chunks(webp: bytes) -> list[tuple[bytes, bytes]]:
    assert int.from_bytes(webp[4:8], "little") == len(webp) - 8
    position, found = 12, []
    while position < len(webp):
        kind, size = struct.unpack_from("<4sI", webp, position)
        found.append((kind, webp[position + 8 : position + 8 + size]))
        position += 8 + size + size % 2
    return found


def with_riff_chunks(webp: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    packed = b"".join(struct.pack("<4sI", kind, len(data)) + data + bytes(len(data) % 2) for kind, data in chunks)
    return webp[:4] + struct.pack("<I", len(webp) - 8 + len(packed)) + webp[8:] + packed


# --- TIFF ------------------------------------------------------------------------------------------------------------


def tiff_file(
    image: Image.Image, order: str = "<", more: Sequence[Tag] = (), below: dict[int, Sequence[Tag]] | None = None
) -> bytes:
    """An uncompressed RGB file with further tags."""
    pixels = image.convert("RGB").tobytes()
    long, short = {"order": order, "letter": "I"}, {"order": order}

    def tags(start: int) -> list[Tag]:
        return [
            Tag(256, 4, 1, values(image.width, **long)),
            Tag(257, 4, 1, values(image.height, **long)),
            Tag(258, 3, 3, values(8, 8, 8, **short)),
            Tag(259, 3, 1, values(1, **short)),
            Tag(262, 3, 1, values(2, **short)),
            Tag(273, 4, 1, values(start, **long)),
            Tag(277, 3, 1, values(3, **short)),
            Tag(278, 4, 1, values(image.height, **long)),
            Tag(279, 4, 1, values(len(pixels), **long)),
            *more,
        ]

    length = len(tiff_block(order, tags(0), below or {}))
    return tiff_block(order, tags(length), below or {}, behind=pixels)
