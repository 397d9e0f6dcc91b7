"""WebDataset shards: plain tar files whose members are key.png, key.webp or key.jpg.

A tar is walked once for where its members lie; afterwards faces are read at random, like files of a folder. So the
order and a resumed run are exact, and nothing needs as many shards as there are processes or workers.
"""

from __future__ import annotations

import glob
import logging
import math
import os
import posixpath
import re
import tarfile
from pathlib import Path
from typing import BinaryIO

from .files import FaceFile, is_face_name

logger = logging.getLogger(__name__)

_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tar.lz4")
# First bytes of gzip, bzip2, xz, zstd and lz4.
_MAGIC = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18")
_MAX_SHARDS = 100_000
_CHUNK = 2**20
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


def names_shards(place: str) -> bool:
    """Whether a config's text means tar files and not a folder."""
    return place.lower().endswith((".tar", *_COMPRESSED)) and not Path(place).is_dir()


def list_shards(pattern: str) -> list[FaceFile]:
    """The images inside the tar files that a path or pattern (* ? [ ] and {000..012}) means, by shard and name.

    A shard that is damaged on the way gives what comes before, with a warning.

    Raises ValueError when there is no such file, or when one is compressed or not a tar at all.
    """
    shards = _shards(pattern)
    # The shard is part of the name: two shards may use the same keys.
    base = Path(os.path.commonpath([shard.parent for shard in shards]))
    found: list[FaceFile] = []
    for shard in shards:
        found += sorted(_members(shard, shard.relative_to(base).as_posix()), key=lambda file: file.name)
    return found


def member_of(file: FaceFile) -> str:
    """A face's name inside its shard, as `normal_name` has it."""
    shard = Path(file.path).name
    return file.name.partition(f"{shard}/")[2]


def normal_name(name: str) -> str:
    """One spelling for ./a.png, b/../a.png and a.png."""
    return posixpath.normpath(name).lstrip("/")


def _shards(pattern: str) -> list[Path]:
    count = math.prod(max(0, int(last) - int(first) + 1) for first, last in _RANGE.findall(pattern))
    if count > _MAX_SHARDS:
        raise ValueError(f"{pattern}: means {count} shards, more than {_MAX_SHARDS}. Name the range that is there")
    expanded = _expand_range(pattern)
    shards: list[Path] = []
    for text in expanded:
        if Path(text).is_file():
            shards.append(Path(text))
        elif glob.has_magic(text):
            shards += [Path(match) for match in glob.glob(text, recursive=True) if Path(match).is_file()]
        elif len(expanded) > 1:
            raise ValueError(f"{pattern}: the shard {text} is missing. Fetch it, or name the range that is there")
    if not shards:
        raise ValueError(f"{pattern}: there is no such tar file. Name a folder of faces, a .tar, or a pattern")
    for shard in shards:
        _refuse_compressed(shard)
    return sorted(set(shards))


def _expand_range(pattern: str) -> list[str]:
    if (found := _RANGE.search(pattern)) is None:
        return [pattern]
    first, last = found.groups()
    numbers = range(int(first), int(last) + 1)
    before, after = pattern[: found.start()], pattern[found.end() :]
    return [part for number in numbers for part in _expand_range(f"{before}{number:0{len(first)}d}{after}")]


def _refuse_compressed(shard: Path) -> None:
    with shard.open("rb") as stream:
        head = stream.read(6)
    if head.startswith(_MAGIC) or shard.name.lower().endswith(_COMPRESSED):
        raise ValueError(
            f"{shard}: a compressed tar can't be read at random. Uncompress it (gunzip, unxz, ...) to a plain "
            ".tar; images hardly shrink anyway"
        )


def _members(shard: Path, name: str) -> list[FaceFile]:
    status = shard.stat()
    found: list[FaceFile] = []
    outside, damage = 0, ""
    try:
        with tarfile.open(shard, "r:") as tar, shard.open("rb") as stream:
            for member in tar:
                if not member.isreg() or member.issparse():
                    continue
                if not 0 <= member.size <= status.st_size - member.offset_data:
                    damage = (
                        f"{member.name} at byte {member.offset} has {member.size} bytes by its header, more than "
                        "there are"
                    )
                    break
                inside = normal_name(member.name)
                if inside.startswith("../"):
                    outside += 1
                elif is_face_name(inside):
                    found.append(
                        FaceFile(f"{name}/{inside}", str(shard), member.offset_data, member.size, status.st_mtime_ns)
                    )
            else:
                # tarfile takes a damaged header for the end.
                if not _is_zero_from(stream, tar.offset):
                    damage = f"no header of a member at byte {tar.offset}, where there are data"
    except (tarfile.TarError, ValueError, OverflowError) as error:
        damage = str(error)
    if damage and not found:
        raise ValueError(f"{shard}: not a tar file, or its start is damaged ({damage})")
    if damage:
        logger.warning("%s: ends in the middle (%s); its first %d images are used", shard, damage, len(found))
    if outside:
        logger.warning("%s: %d members are left out, whose names lead out of it (../)", shard, outside)
    return found


def _is_zero_from(stream: BinaryIO, offset: int) -> bool:
    stream.seek(offset)
    return not any(chunk.strip(b"\0") for chunk in iter(lambda: stream.read(_CHUNK), b""))
