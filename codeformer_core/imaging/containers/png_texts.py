"""Texts of a PNG: tEXt, zTXt and iTXt chunks, unpacked within limits."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from ..metadata.content import MAX_PART, MAX_UNPACKED_TOGETHER, PngText, Warn

KINDS = (b"tEXt", b"zTXt", b"iTXt")
# Many programs (all that use Pillow) read no PNG in which a compressed part unpacks to more.
MAX_UNPACKED = 1 << 20
_COMMENT = "Comment"


@dataclass
class Unpacker:
    """Unpacks the compressed parts of one file.

    left: bytes that they may still take together.
    """

    warn: Warn
    left: int = MAX_UNPACKED_TOGETHER

    def unpack(self, packed: bytes, name: str) -> bytes | None:
        """None where the part is damaged or too large, with a warning."""
        unpacker, reason = zlib.decompressobj(), "unpacks to more than 16 MiB"
        try:
            content = unpacker.decompress(packed, max(1, min(MAX_PART, self.left)))
            if unpacker.eof:
                self.left -= len(content)
                return content
            if not unpacker.unconsumed_tail:
                reason = "is cut short"
        except zlib.error:
            reason = "is damaged"
        self.warn(f"its {name} {reason} and is left out")
        return None


def read_text(kind: bytes, content: bytes, unpacker: Unpacker) -> PngText | None:
    """None where the chunk is damaged or too large, with a warning."""
    keyword, separator, rest = content.partition(b"\0")
    name = f"text {keyword[:79].decode('latin-1')!r}"
    if not separator or not 1 <= len(keyword) <= 79:
        unpacker.warn("one of its texts is damaged and left out")
        return None
    if kind == b"tEXt":
        return PngText(kind, content, rest)
    if kind == b"zTXt":
        text = unpacker.unpack(rest[1:], name)
    else:
        flags, body = rest[:2], rest[2:].split(b"\0", 2)
        if len(flags) < 2 or len(body) < 3:
            unpacker.warn(f"its {name} is damaged and left out")
            return None
        text = unpacker.unpack(body[2], name) if flags[0] else body[2]
    return None if text is None else PngText(kind, content, text)


def readable(text: PngText) -> tuple[bytes, bytes]:
    """As it stands; unpacked where many programs would refuse the file for it."""
    if text.kind == b"tEXt" or len(text.text) <= MAX_UNPACKED:
        return text.kind, text.content
    keyword, _, rest = text.content.partition(b"\0")
    if text.kind == b"zTXt":
        return b"tEXt", keyword + b"\0" + text.text
    language, translated, _ = rest[2:].split(b"\0", 2)
    return b"iTXt", keyword + bytes(3) + language + b"\0" + translated + b"\0" + text.text


def text_of_comment(comment: bytes, lost: list[str]) -> PngText | None:
    """A JPEG's or GIF's comment: UTF-8 where it is that, else Latin-1."""
    comment = comment.rstrip(b"\0")
    if b"\0" in comment:
        lost.append("comment with zero bytes in it")
        return None
    try:
        international = not comment.isascii() and bool(comment.decode("utf-8"))
    except UnicodeDecodeError:
        international = False
    keyword = _COMMENT.encode() + b"\0"
    if international:
        return PngText(b"iTXt", keyword + bytes(4) + comment, comment)
    return PngText(b"tEXt", keyword + comment, comment)


def comments_of(texts: tuple[PngText, ...]) -> tuple[list[bytes], tuple[PngText, ...]]:
    """-> (texts that are plain comments, the others)."""
    plain = [text.text for text in texts if text.keyword.lower() == _COMMENT.lower()]
    return plain, tuple(text for text in texts if text.keyword.lower() != _COMMENT.lower())
