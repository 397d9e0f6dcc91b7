"""Which images an archive holds: folders, patterns, lists, WebDataset shards and Parquet files, one after the other.

Nothing is collected: a listing may have a billion images.
"""

from __future__ import annotations

import os
import re
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from .parquet import parquet_rows
from .source import BulkSource, is_image_name, safe_place
from .storage import (
    address_in,
    is_local,
    joined,
    normal_address,
    open_file,
    open_storage,
    read_range,
    version_of,
    version_of_status,
)

# Folder of ours in a target; also the target of another run is a source like any other, without it.
OWN_FOLDER = "_bulk"
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MAGIC = re.compile(r"[*?\[]")
_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
# Address, version and size of a file.
_File = tuple[str, str, int]


@dataclass
class Listing:
    """The images that some addresses mean.

    image_column, key_column: of Parquet files; found by their types if None.
    target: not listed where it lies inside a source.
    left_out: what else lay there, by ending.
    """

    sources: tuple[str, ...]
    target: str = ""
    image_column: str | None = None
    key_column: str | None = None
    left_out: Counter[str] = field(default_factory=Counter[str])

    def __iter__(self) -> Iterator[BulkSource]:
        """Raises ValueError for addresses that mean no image, OSError for files that can't be read."""
        for text in self.sources:
            if not text:
                raise ValueError("one of the sources is an empty name: name a folder, a pattern, a shard or a list")
            for address in _ranges(text):
                yield from self._of(address)

    def _of(self, text: str) -> Iterator[BulkSource]:
        address = normal_address(text)
        if _MAGIC.search(text) and not (is_local(address) and os.path.exists(address)):
            yield from self._matching(text)
            return
        storage, path = open_storage(address)
        if storage.isdir(path):
            yield from self._in_folder(address, text)
        elif not storage.exists(path):
            raise ValueError(f"{text}: there is no such file or folder")
        elif address.lower().endswith((".txt", ".lst")):
            yield from self._in_list(address)
        else:
            name = address.rpartition("/")[2]
            if not name.lower().endswith((".tar", ".parquet", *_COMPRESSED)) and not is_image_name(name):
                raise ValueError(f"{text}: neither an image nor a shard (.tar), a Parquet file or a list (.txt)")
            yield from self._of_file(_info(address), name)

    def _in_folder(self, address: str, text: str) -> Iterator[BulkSource]:
        start = len(address.rstrip("/")) + 1
        found = False
        for file in _walk(address, self.target):
            for source in self._of_file(file, file[0][start:]):
                found = True
                yield source
        if not found:
            left = ", ".join(f"{count} {suffix}" for suffix, count in self.left_out.most_common(6))
            raise ValueError(f"{text}: the folder holds no images" + (f", only {left}" if left else ""))

    def _matching(self, text: str) -> Iterator[BulkSource]:
        """A pattern: the folder before its first mark is walked, as deep as the pattern goes."""
        from fsspec.utils import glob_translate  # pyright: ignore[reportUnknownVariableType]

        address = normal_address(text)
        fixed = _MAGIC.split(address, maxsplit=1)[0].rpartition("/")[0]
        pattern = re.compile(glob_translate(address))
        depth = None if "**" in address else address[len(fixed) + 1 :].count("/") + 1
        found = False
        storage, path = open_storage(fixed)
        for file in _walk(fixed, self.target, depth) if storage.isdir(path) else ():
            if pattern.match(file[0]):
                for source in self._of_file(file, file[0][len(fixed) + 1 :]):
                    found = True
                    yield source
        if not found:
            raise ValueError(f"{text}: no image, shard or Parquet file matches this pattern")

    def _in_list(self, address: str) -> Iterator[BulkSource]:
        """A line for each file; relative ones are seen from the list's folder."""
        folder = address.rpartition("/")[0]
        found = False
        with open_file(address) as stream:
            for raw in stream:
                # Some editors begin a file with a mark; names on a disk need not be UTF-8.
                line = raw.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape").strip()
                if not line or line.startswith("#"):
                    continue
                found = True
                named = line if not is_local(line) or os.path.isabs(line) else joined(folder, line)
                place = safe_place(re.sub(r"^[a-z0-9+.-]+://", "", line, flags=re.IGNORECASE))
                yield from self._of_file(_info_or_missing(normal_address(named)), place)
        if not found:
            raise ValueError(f"{address}: the list names no file")

    def _of_file(self, file: _File, place: str) -> Iterator[BulkSource]:
        address, version, size = file
        lower = place.lower()
        if lower.endswith(".tar"):
            yield from _in_shard(file, place[: -len(".tar")])
        elif lower.endswith(".parquet"):
            yield from parquet_rows(address, version, place[: -len(".parquet")], self.image_column, self.key_column)
        elif lower.endswith(_COMPRESSED):
            raise ValueError(
                f"{address}: images of a compressed shard can't be read one by one; images are compressed already: "
                "make it a plain .tar"
            )
        elif is_image_name(place):
            yield BulkSource(address, safe_place(place), version, size=size)
        else:
            self.left_out[PurePosixPath(place).suffix.lower() or "without ending"] += 1


def _ranges(text: str) -> Iterator[str]:
    """{000..012} in a name, as WebDataset writes it."""
    found = _RANGE.search(text)
    if found is None:
        yield text
        return
    first, last = found.groups()
    for number in range(int(first), int(last) + 1):
        yield from _ranges(f"{text[: found.start()]}{number:0{len(first)}d}{text[found.end() :]}")


def _walk(folder: str, target: str, depth: int | None = None) -> Iterator[_File]:
    """The files of a folder and those inside it, without what is hidden, and linked folders."""
    if is_local(folder):
        yield from _walk_local(folder, target, depth)
        return
    storage, path = open_storage(folder)
    for parent, folders, files in storage.walk(path, maxdepth=depth, detail=True):
        for name in list(folders):
            if name.startswith(".") or name == OWN_FOLDER or address_in(storage, f"{parent}/{name}") == target:
                del folders[name]
        for name in sorted(files):
            if name and not name.startswith("."):
                info: dict[str, Any] = files[name]
                yield address_in(storage, str(info["name"])), version_of(info), int(info.get("size") or -1)


def _walk_local(folder: str, target: str, depth: int | None) -> Iterator[_File]:
    below: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                if entry.name != OWN_FOLDER and not (target and _is_same(entry.path, target)):
                    below.append(entry.path)
            elif entry.is_file():
                status = entry.stat()
                yield entry.path, version_of_status(status), status.st_size
    if depth is None or depth > 1:
        for inside in sorted(below):
            yield from _walk_local(inside, target, None if depth is None else depth - 1)


def _is_same(folder: str, target: str) -> bool:
    """Whatever links lead to them."""
    return folder == target or (os.path.isdir(target) and os.path.samefile(folder, target))


def _info(address: str) -> _File:
    if is_local(address):
        status = os.stat(address)
        return address, version_of_status(status), status.st_size
    storage, path = open_storage(address)
    info: dict[str, Any] = storage.info(path)
    return address, version_of(info), int(info.get("size") or -1)


def _info_or_missing(address: str) -> _File:
    """A file of a list that is gone is a failure of its own, not the end of the run."""
    try:
        return _info(address)
    except OSError:
        return address, "missing", -1


def _in_shard(file: _File, place: str) -> Iterator[BulkSource]:
    """The images of a tar, by reading its headers alone; one that is cut short gives those before the cut."""
    address, version, _ = file
    try:
        with open_file(address) as stream, tarfile.open(fileobj=stream, mode="r:") as shard:
            kept: Any = shard
            for entry in shard:
                # Else every header that was seen stays in memory.
                kept.members.clear()
                if entry.isfile() and is_image_name(entry.name):
                    inside = safe_place(entry.name)
                    yield BulkSource(address, f"{place}/{inside}", version, inside, entry.offset_data, entry.size)
    except tarfile.TarError as error:
        raise ValueError(f"{address}: not a tar file, or a damaged one ({error})") from error


def read_source(source: BulkSource) -> bytes:
    """The bytes of an image file. Raises OSError, and ValueError where a shard is shorter than it was."""
    if source.column:
        from .parquet import read_row

        return read_row(source.address, source.column, source.offset)
    if not source.member:
        return read_range(source.address)
    data = read_range(source.address, source.offset, source.size)
    if len(data) < source.size:
        raise ValueError(f"{source.name}: the shard ends in the middle of this image")
    return data
