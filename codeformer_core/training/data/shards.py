"""WebDataset shards: plain tar files whose members are key.png, key.webp or key.jpg.

A tar is walked once for where its members lie; afterwards faces are read at random, like files of a folder. So the
order and a resumed run are exact, and nothing needs as many shards as there are processes or workers.
"""

from __future__ import annotations

import glob
import logging
import os
import re
import tarfile
from pathlib import Path

from .files import FaceFile, is_face_name

logger = logging.getLogger(__name__)

_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tar.lz4")
# First bytes of gzip, bzip2, xz, zstd and lz4.
_MAGIC = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18")
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


def names_shards(place: str) -> bool:
    """Whether a config's text means tar files and not a folder."""
    return place.lower().endswith((".tar", *_COMPRESSED)) and not Path(place).is_dir()


def list_shards(pattern: str) -> list[FaceFile]:
    """The pictures inside the tar files that a path or pattern (* ? [ ] and {000..012}) means, by shard and name.

    Raises ValueError when there is no such file, or when one is compressed or no tar at all.
    """
    shards = _shards(pattern)
    # The shard is part of the name: two shards may use the same keys.
    base = Path(os.path.commonpath([shard.parent for shard in shards]))
    found = []
    for shard in shards:
        found += sorted(_members(shard, shard.relative_to(base).as_posix()), key=lambda file: file.name)
    return found


def member_of(file: FaceFile) -> str:
    """A face's name inside its shard."""
    shard = Path(file.path).name
    return file.name.partition(f"{shard}/")[2]


def _shards(pattern: str) -> list[Path]:
    expanded = _expand_range(pattern)
    shards = []
    for text in expanded:
        if Path(text).is_file():
            shards.append(Path(text))
        elif glob.has_magic(text):
            shards += [Path(match) for match in glob.glob(text, recursive=True) if Path(match).is_file()]
        elif len(expanded) > 1:
            raise ValueError(f"{pattern}: the shard {text} is missing. Cure: fetch it, or name the range that is there")
    if not shards:
        raise ValueError(f"{pattern}: there is no such tar file. Cure: name a folder of faces, a .tar, or a pattern")
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
            f"{shard}: a compressed tar can't be read at random. Cure: uncompress it (gunzip, unxz, ...) to a plain "
            ".tar; pictures hardly shrink anyway"
        )


def _members(shard: Path, name: str) -> list[FaceFile]:
    modified = shard.stat().st_mtime_ns
    found: list[FaceFile] = []
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                if member.isreg() and not member.issparse() and is_face_name(member.name.removeprefix("./")):
                    inside = f"{name}/{member.name.removeprefix('./')}"
                    found.append(FaceFile(inside, str(shard), member.offset_data, member.size, modified))
    except tarfile.TarError as error:
        if not found:
            raise ValueError(f"{shard}: not a tar file, or its start is damaged ({error})") from error
        logger.warning("%s: ends in the middle (%s); its first %d pictures are used", shard, error, len(found))
    return found
