"""Metadata for a new file, and what its format has no place for."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from . import photoshop
from .content import NOTHING, Metadata, PngText, listed
from .exif import resolution
from .ifd import Structure

# Besides pixels. PNG and JPEG sort texts, comments and extras themselves.
_SORTED_THERE = ("profile", "exif", "dpi", "aspect", "xmp", "more xmp", "photoshop", "comments", "texts", "extras")
_HELD: dict[str, tuple[str, ...]] = {
    "PNG": (*_SORTED_THERE, "colour"),
    "JPEG": _SORTED_THERE,
    "TIFF": ("profile", "exif", "dpi", "aspect", "xmp", "photoshop"),
    "WEBP": ("profile", "exif", "xmp"),
    "AVIF": ("profile", "exif", "xmp"),
    "BMP": ("dpi",),
}
# sRGB's gamma and primaries as PNG chunks write them, in 1/100000, and its code points in cICP.
_SRGB_GAMMA, _SRGB_PRIMARIES = 45455, (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
_SRGB_CODES = bytes((1, 13, 0, 1))


@dataclass(frozen=True)
class Attachments:
    """The parts that fit the pixels as they are written.

    exif: as in `Parts`, with the new file's sizes.
    lost: gets the name of each part that the format has no place for, or that is too large for it.
    """

    icc_profile: bytes | None = None
    exif: bytes | None = None
    dpi: tuple[float, float] | None = None
    metadata: Metadata = NOTHING
    lost: list[str] = field(default_factory=list[str])


def unplaced(attached: Attachments, file_format: str) -> list[str]:
    """Names of the parts that have no place in a file of this format at all."""
    metadata, held = attached.metadata, _HELD[file_format]
    webp = file_format == "WEBP"
    square = not metadata.aspect or _tells_resolution(attached.exif)
    names = {
        "profile": ["its colour profile"] if attached.icc_profile else [],
        "exif": ["EXIF"] if attached.exif else [],
        "dpi": ["the resolution"] if attached.dpi and not _tells_resolution(attached.exif) else [],
        "aspect": [] if square else ["that its pixels are not square"],
        "xmp": ["XMP"] if metadata.xmp else [],
        "more xmp": ["the second part of its long XMP"] if metadata.xmp_extension else [],
        "photoshop": _photoshop_names(metadata.photoshop),
        "comments": ["the comment"] if metadata.comments else [],
        "texts": text_names(metadata.texts),
        "colour": _colour_names(attached),
        "extras": [extra.title for extra in metadata.extras if not (webp and extra.format == "WEBP")],
    }
    return [name for part, found in names.items() if part not in held for name in found]


def text_names(texts: tuple[PngText, ...]) -> list[str]:
    """How messages call the texts of a PNG."""
    return [f"PNG text {listed([repr(text.keyword) for text in texts])}"] if texts else []


def _photoshop_names(resources: bytes | None) -> list[str]:
    if resources is None:
        return []
    names = ["IPTC"] if photoshop.iptc_of(resources) else []
    return [*names, "Photoshop data"] if photoshop.others(resources) else names


def _tells_resolution(exif: bytes | None) -> bool:
    if exif is None:
        return False
    structure = Structure.of(exif)
    return resolution(structure, structure.directory(structure.first)) != (None, None)


def _colour_names(attached: Attachments) -> list[str]:
    """Colour chunks without which the colours would be others than those of sRGB, which is assumed without any."""
    chunks = dict(attached.metadata.colour)
    lost = [kind for kind in (b"mDCV", b"cLLI") if kind in chunks]
    if chunks.get(b"cICP", _SRGB_CODES) != _SRGB_CODES:
        lost.append(b"cICP")
    # A profile, and an sRGB chunk, override the other two.
    if attached.icc_profile is None and b"sRGB" not in chunks:
        gamma, primaries = chunks.get(b"gAMA", b""), chunks.get(b"cHRM", b"")
        if len(gamma) == 4 and abs(struct.unpack(">I", gamma)[0] - _SRGB_GAMMA) > 500:
            lost.append(b"gAMA")
        if len(primaries) == 32 and any(
            abs(one - other) > 100 for one, other in zip(struct.unpack(">8I", primaries), _SRGB_PRIMARIES, strict=True)
        ):
            lost.append(b"cHRM")
    return [f"the colour chunks {listed([kind.decode() for kind in lost])}"] if lost else []
