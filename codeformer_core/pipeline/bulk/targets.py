"""Where results go: a folder that mirrors the sources, WebDataset shards, or Parquet files.

Every file is whole or absent. Its name depends on what it holds, so that a step that is run twice makes it once.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import re
import tarfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from .listing import OWN_FOLDER
from .options import TargetKind
from .packages import require
from .stages import WRITING, Work
from .storage import file_names, is_local, joined, printable, remove_file, write_file

_SUFFIX: dict[TargetKind, str] = {"folder": "", "shards": ".tar", "parquet": ".parquet"}
_PACK_NAME = "restored-"
_PACK = re.compile(rf"{_PACK_NAME}[0-9a-f]{{16}}\.(tar|parquet)$")
# Errors that every further image would meet, too.
_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EROFS, errno.ENODEV}


@dataclass(frozen=True)
class Target:
    """address: of a folder, see `storage`."""

    address: str
    kind: TargetKind

    @property
    def packs(self) -> bool:
        """Whether many images go into one file."""
        return self.kind != "folder"

    def write(self, works: Sequence[Work]) -> None:
        """Write results; what can't be written has failed. Those of shards and Parquet go into one file."""
        made = [work for work in works if work.failure is None]
        if self.packs and made:
            self._attempt(made, self._write_pack)
        for work in made:
            if not self.packs:
                self._attempt([work], self._write_images)
            work.encoded = b""

    def remove_unknown(self, known: Collection[str]) -> int:
        """Delete shards and Parquet files of ours that the journal doesn't know: their images are done again.

        known: names. Returns how many there were.
        """
        names = [name for name in file_names(self.address) if _PACK.match(name) and name not in known]
        for name in names:
            remove_file(joined(self.address, name))
        return len(names)

    def _attempt(self, works: Sequence[Work], write: Callable[[Sequence[Work]], None]) -> None:
        try:
            write(works)
        except Exception as error:  # noqa: BLE001 - noted; it goes to the table of failures
            for work in works:
                work.fail(WRITING, error)
                work.full = isinstance(error, OSError) and error.errno in _FULL

    def _write(self, name: str, data: bytes) -> None:
        """Raises OSError where the target is gone, as when its disk was unmounted: never make another."""
        parts = parts_address(self.address)
        if is_local(self.address) and not os.path.isdir(parts):
            raise OSError(errno.ENODEV, "the target is gone, or this machine does not see it", self.address)
        write_file(joined(self.address, name), data, parts)

    def _write_images(self, works: Sequence[Work]) -> None:
        for work in works:
            self._write(work.record["result"], work.encoded)

    def _write_pack(self, works: Sequence[Work]) -> None:
        names = "".join(work.source.key for work in works)
        name = f"{_PACK_NAME}{hashlib.sha256(names.encode()).hexdigest()[:16]}{_SUFFIX[self.kind]}"
        for work in works:
            work.record |= {"place": work.record["result"], "result": name, "of": len(works)}
        data = _shard(works) if self.kind == "shards" else _parquet(works)
        self._write(name, data)


def parts_address(target: str) -> str:
    """Of the folder for files that are not whole yet; it is there while a run is."""
    return joined(target, OWN_FOLDER, "parts")


def failures_address(target: str) -> str:
    return joined(target, OWN_FOLDER, "failures.csv")


def _shard(works: Sequence[Work]) -> bytes:
    """A tar of key.jpg and key.json, as WebDataset reads them."""
    stream = io.BytesIO()
    keys: set[str] = set()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as shard:
        for work in works:
            place = str(work.record["place"])
            stem, _, suffix = place.rpartition(".")
            folder, _, name = stem.rpartition("/")
            # WebDataset ends a key at the first dot, and wants each once: a.jpg and a.png are two.
            if "." in name or stem in keys:
                name = f"{name.replace('.', '_')}-{work.source.key[:8]}"
            key = f"{folder}/{name}" if folder else name
            keys.add(key)
            description = json.dumps(work.record).encode()
            for ending, data in ((suffix, work.encoded), ("json", description)):
                entry = tarfile.TarInfo(f"{key}.{ending}")
                entry.size = len(data)
                shard.addfile(entry, io.BytesIO(data))
    return stream.getvalue()


def _parquet(works: Sequence[Work]) -> bytes:
    """A row for each image: its bytes, and what is to know of it."""
    arrow = require("pyarrow")
    rows = [
        {name: printable(value) if isinstance(value, str) else value for name, value in work.record.items()}
        | {"image": work.encoded}
        for work in works
    ]
    stream = io.BytesIO()
    # Images are compressed already. Small groups of rows, so that one image can be read without all others.
    table = arrow.Table.from_pylist(rows, schema=parquet_schema())
    require("pyarrow.parquet").write_table(table, stream, compression="none", row_group_size=64)
    return stream.getvalue()


def parquet_schema() -> Any:
    """The columns of a Parquet target."""
    arrow = require("pyarrow")
    text, number, count = arrow.string(), arrow.float32(), arrow.int32()
    face = arrow.struct(
        [
            ("box", arrow.list_(number)),
            ("landmarks", arrow.list_(number)),
            ("score", number),
            ("restored", arrow.bool_()),
            ("reason", text),
            ("shown", number),
            ("identity", number),
            ("sharpness", number),
            ("sharpness_before", number),
            ("sharpness_after", number),
        ]
    )
    columns = [("image", arrow.binary()), ("key", text), ("place", text), ("source", text), ("member", text)]
    columns += [(name, count) for name in ("width", "height", "result_width", "result_height")]
    columns += [("faces", arrow.list_(face)), ("restorer", text), ("fidelity", number), ("settings", text)]
    return arrow.schema(columns)
