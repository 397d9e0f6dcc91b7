"""What a file is, told by its first bytes and never by its name. Imports nothing heavy."""

from __future__ import annotations

from .suffixes import FORMATS_IN_WORDS

_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs")
# What files of no image format that is read begin with: (offset, bytes, name).
_OTHERS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (0, b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"8BPS", "Photoshop (PSD)"),
    (0, b"gimp xcf", "GIMP (XCF)"),
    (0, b"v/1\x01", "OpenEXR"),
    (0, b"#?RADIANCE", "Radiance HDR"),
    (0, b"#?RGBE", "Radiance HDR"),
    (0, b"\0\0\x01\0", "icon (ICO)"),
    (0, b"DDS ", "DDS"),
    (0, b"qoif", "QOI"),
    (0, b"FUJIFILMCCD-RAW", "camera RAW (RAF)"),
    (0, b"IIRO", "camera RAW (ORF)"),
    (0, b"IIRS", "camera RAW (ORF)"),
    (0, b"MMOR", "camera RAW (ORF)"),
    (0, b"IIU\0", "camera RAW (RW2)"),
    (0, b"FOVb", "camera RAW (X3F)"),
    (0, b"\0MRM", "camera RAW (MRW)"),
    (8, b"CR\x02\0", "camera RAW (CR2)"),
    (6, b"HEAPCCDR", "camera RAW (CRW)"),
    (0, b"%PDF", "PDF"),
    (0, b"%!PS", "PostScript"),
    (0, b"\x1aE\xdf\xa3", "video (Matroska or WebM)"),
    (0, b"PK\x03\x04", "ZIP archive"),
    (0, b"Rar!", "RAR archive"),
    (0, b"7z\xbc\xaf", "7z archive"),
    (0, b"\x1f\x8b", "gzip archive"),
)
_FIX = "; convert it to PNG, TIFF or JPEG first"


def detect_format(head: bytes) -> str | None:
    """ "PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF" or "AVIF"; None for anything else.

    head: the first 64 bytes of the file or more.
    """
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WEBP"
    if head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")) and head[8:12] != b"CR\x02\0":
        return "TIFF"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if head.startswith(b"BM"):
        return "BMP"
    if head[4:8] == b"ftyp" and _brand(head) == "AVIF":
        return "AVIF"
    return None


def name_of_stranger(head: bytes) -> str:
    """Why a file that `detect_format` doesn't know is not read, as the end of a sentence that begins with its name.

    head: the first 64 bytes of the file or more.
    """
    name = _stranger(head)
    if name is None:
        return f"not an image this program can read ({FORMATS_IN_WORDS}), or its start is damaged"
    return f"is {_article(name)} {name} file, which is not read{_FIX}"


def _article(name: str) -> str:
    return "an" if name.startswith(("icon", "Open", "SVG", "HTML", "RAR")) else "a"


def _stranger(head: bytes) -> str | None:
    for offset, begin, name in _OTHERS:
        if head[offset : offset + len(begin)] == begin:
            return name
    if head[4:8] == b"ftyp":
        return _brand(head)
    if head.startswith(b"RIFF") and head[8:12] == b"AVI ":
        return "video (AVI)"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "HTML (a web page, perhaps of a failed download)"
    if text.startswith(b"<svg") or (text.startswith(b"<?xml") and b"<svg" in text):
        return "SVG"
    return None


def _brand(head: bytes) -> str:
    """The name behind an ISO base media file's brands, the main one and those it is compatible with."""
    size = int.from_bytes(head[:4], "big")
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, min(size, len(head)) - 3, 4))]
    if any(brand in (b"avif", b"avis") for brand in brands):
        return "AVIF"
    if any(brand in _HEIF_BRANDS for brand in brands) or brands[0] in (b"mif1", b"msf1"):
        return "HEIC"
    if brands[0] == b"crx ":
        return "camera RAW (CR3)"
    return "video (MP4 or MOV)"
