"""File names of images, and what each format can hold. Imports nothing, so the command line can ask before torch is
loaded.
"""

from __future__ import annotations

WRITABLE: dict[str, str] = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
    ".avif": "AVIF",
}
# Read, but never written: a palette of 256 colours would spoil a restored face; MPO is a camera's own format.
READ_ONLY: tuple[str, ...] = (".gif", ".apng", ".mpo")
READABLE: tuple[str, ...] = (*WRITABLE, *READ_ONLY)

FORMATS_IN_WORDS = "PNG, JPEG, WebP, TIFF, BMP, GIF or AVIF"

# libjpeg's, WebP's and libavif's own limits, pixels.
_LONGEST_SIDE = {"JPEG": 65500, "WEBP": 16383, "AVIF": 65536}
# Of libavif's default; a tensor of that size would take several GiB.
_MAX_PIXELS = {"AVIF": 16384 * 16384}


def check_size(file_format: str, width: int, height: int) -> None:
    """Raise ValueError, with the fix, for an image that the format can't hold."""
    longest = _LONGEST_SIDE.get(file_format)
    if longest is not None and max(height, width) > longest:
        raise ValueError(
            f"{width}x{height} pixels are too many for {file_format}, which takes {longest} a side; write PNG or TIFF"
        )
    most = _MAX_PIXELS.get(file_format)
    if most is not None and width * height > most:
        raise ValueError(
            f"{width}x{height} pixels are too many for {file_format}, which takes {most:,}; write PNG or TIFF"
        )
