"""The XMP packet: carried as it is, but for the orientation, which the pixels have been turned by."""

from __future__ import annotations

import re

_ORIENTATION = re.compile(rb"(tiff:Orientation(?:\s*=\s*[\"']|>)\s*)([2-8])(?=\s*[\"'<])")


def upright(xmp: bytes) -> bytes:
    """Of the same length; packets in UTF-16 stay as they are."""
    return _ORIENTATION.sub(rb"\g<1>1", xmp)


def orientation_of(xmp: bytes) -> int:
    found = _ORIENTATION.search(xmp)
    return int(found[2]) if found else 1
