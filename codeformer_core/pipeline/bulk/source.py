"""One image of an archive: what it is called, where its bytes are, and where its result goes."""

from __future__ import annotations

import hashlib
import json
import posixpath
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any

from ...imaging.codecs.suffixes import READ_ONLY, READABLE, WRITABLE

# Format of a file without an ending of its own -> the ending of its result.
_ENDINGS = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "TIFF": ".tif", "BMP": ".bmp", "AVIF": ".avif"}


@dataclass(frozen=True)
class BulkSource:
    """An image, which may lie inside a shard or a Parquet file.

    address: of the file, see `storage`.
    place: of the result below the target, "/" between folders, with the image's own ending.
    version: changes when the file does.
    member: name inside a shard, or "row N" of a Parquet file; empty for a file of its own.
    offset: of its first byte in a shard; its row in a Parquet file.
    size: of the image in bytes; -1 where only reading tells.
    column: of a Parquet file, with dots between the names of structures.
    """

    address: str
    place: str
    version: str
    member: str = ""
    offset: int = 0
    size: int = -1
    column: str = ""

    @property
    def key(self) -> str:
        """Identity: another one where the file has changed."""
        text = json.dumps([self.address, self.member, self.size, self.version])
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    @property
    def name(self) -> str:
        """For messages."""
        return source_name(self.address, self.member)

    def as_record(self) -> dict[str, Any]:
        return asdict(self)


def source_name(address: str, member: str) -> str:
    return f"{address}: {member}" if member else address


def safe_place(name: str) -> str:
    """A relative place, whatever a list or a shard calls its image: never above the target."""
    return posixpath.normpath("/" + name.replace("\\", "/")).lstrip("/")


def result_place(place: str, file_format: str | None, read_format: str | None = None) -> str:
    """Where the result goes. A result of another format gets an ending more, so that two never get one name.

    file_format: of all results, such as "png"; None keeps the image's own where it can be written.
    read_format: of the bytes, such as "JPEG", where they have been read; else a place without ending ends in ".*".
    """
    suffix = PurePosixPath(place).suffix.lower()
    if file_format is not None:
        same = WRITABLE.get(suffix) == WRITABLE[f".{file_format}"]
        return place if same else f"{place}.{file_format}"
    if suffix in WRITABLE:
        return place
    if suffix in READ_ONLY:
        return f"{place}.png"
    if read_format is None:
        return f"{place}.*"
    return place + _ENDINGS.get("JPEG" if read_format == "MPO" else read_format, ".png")


def is_image_name(name: str) -> bool:
    """Hidden files are none."""
    return PurePosixPath(name).suffix.lower() in READABLE and not name.rpartition("/")[2].startswith(".")
