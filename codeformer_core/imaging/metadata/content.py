"""The parts of an image file that are not pixels, independent of the format they came from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

# Takes one sentence about a part that is damaged or left out.
Warn = Callable[[str], None]

# Bytes that one compressed part may unpack to.
MAX_PART = 16 << 20
# All of them together.
MAX_UNPACKED_TOGETHER = 64 << 20


@dataclass(frozen=True)
class PngText:
    """A text chunk of a PNG.

    kind: b"tEXt", b"zTXt" or b"iTXt".
    content: the chunk's bytes, keyword included, as they stand in the file.
    text: the bytes that the chunk stands for, unpacked: Latin-1, or UTF-8 in an iTXt.
    """

    kind: bytes
    content: bytes
    text: bytes

    @property
    def keyword(self) -> str:
        return self.content.partition(b"\0")[0].decode("latin-1")


@dataclass(frozen=True)
class Extra:
    """A part that only one format knows: an APPn segment of a JPEG, a chunk of a PNG or a WebP.

    format: "JPEG", "PNG" or "WEBP".
    kind: the marker's byte or the chunk's four letters.
    content: its bytes, without kind, length and checksum.
    """

    format: str
    kind: bytes
    content: bytes

    @property
    def title(self) -> str:
        if self.format == "JPEG":
            return f"APP{self.kind[0] - 0xE0} segment"
        return f"{self.kind.decode('latin-1').strip()} chunk"


@dataclass(frozen=True)
class Metadata:
    """Everything but pixels, colour profile, EXIF and resolution, which `Picture` has fields of its own for.

    xmp: the XMP packet.
    xmp_extension: payloads of the JPEG segments that continue a long packet.
    photoshop: Photoshop's image resources ("8BIM" blocks); IPTC is one of them.
    comments: of a JPEG or GIF, in the encoding that the file used.
    texts: text chunks of a PNG.
    colour: colour chunks of a PNG (cICP, gAMA, cHRM, sRGB, mDCV, cLLI): kind and content.
    aspect: horizontal and vertical pixels per unknown unit, where only their ratio is known.
    extras: what one format alone knows.
    """

    xmp: bytes | None = None
    xmp_extension: tuple[bytes, ...] = ()
    photoshop: bytes | None = None
    comments: tuple[bytes, ...] = ()
    texts: tuple[PngText, ...] = ()
    colour: tuple[tuple[bytes, bytes], ...] = ()
    aspect: tuple[int, int] | None = None
    extras: tuple[Extra, ...] = ()


NOTHING = Metadata()


@dataclass(frozen=True)
class Parts:
    """An image file taken apart.

    pixels: a file of the same format with what decoding needs and nothing else.
    icc_profile: raw ICC profile.
    exif: raw EXIF (a TIFF structure, without "Exif\\0\\0"), upright and without thumbnail.
    orientation: 1..8, to be applied to the pixels.
    dpi: horizontal and vertical pixels per inch of the pixels as they are stored.
    several: the file holds several images.
    transparent: the colour of the PNG's tRNS chunk, one value per channel in the file's own steps; None for palettes,
        where it is left to the decoder.
    """

    pixels: bytes
    metadata: Metadata = NOTHING
    icc_profile: bytes | None = None
    exif: bytes | None = None
    orientation: int = 1
    dpi: tuple[float, float] | None = None
    several: bool = False
    transparent: tuple[int, ...] | None = None


def listed(names: list[str]) -> str:
    """a, b and c; each once."""
    unique = list(dict.fromkeys(names))
    return " and ".join(filter(None, (", ".join(unique[:-1]), unique[-1]))) if unique else ""
