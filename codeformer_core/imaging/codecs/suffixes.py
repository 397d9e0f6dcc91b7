"""Which file names are pictures. Imports nothing, so the command line can ask before torch is loaded."""

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
}
# Read, but never written: a palette of 256 colours would spoil a restored face; MPO is a camera's own format.
READ_ONLY: tuple[str, ...] = (".gif", ".apng", ".mpo")
READABLE: tuple[str, ...] = (*WRITABLE, *READ_ONLY)

FORMATS_IN_WORDS = "PNG, JPEG, WebP, TIFF, BMP or GIF"
