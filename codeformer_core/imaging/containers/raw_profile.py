"""Metadata that ImageMagick and ExifTool keep in a PNG's texts: "Raw profile type NAME", in hexadecimal digits."""

from __future__ import annotations

_KEYWORD = "raw profile type "


def read_raw_profile(keyword: str, text: bytes) -> bytes | None:
    """The bytes; None where the text is not of this kind, or damaged."""
    if not keyword.lower().startswith(_KEYWORD):
        return None
    try:
        _name, size, *digits = text.split()
        content = bytes.fromhex(b"".join(digits).decode("ascii"))
        return content if len(content) == int(size) else None
    except ValueError:
        return None


def write_raw_profile(name: str, content: bytes) -> bytes:
    digits = content.hex().encode()
    lines = b"\n".join(digits[at : at + 72] for at in range(0, len(digits), 72))
    return f"\n{name}\n{len(content):8d}\n".encode() + lines + b"\n"
