"""Where results go: a folder that mirrors the sources, WebDataset shards, or Parquet files.

Every file is whole or absent. Its name depends on what it holds, so that a step that is run twice makes it once.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from .listing import OWN_FOLDER
from .options import TargetKind
from .packages import require
from .stages import WRITING, Work
from .storage import file_names, joined, remove_file, write_file

_SUFFIX: dict[TargetKind, str] = {"folder": "", "shards": ".tar", "parquet": ".parquet"}
_PACK_NAME = "restored-"
_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EROFS}


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
        names = [name for name in file_names(self.address) if name.startswith(_PACK_NAME) and name not in known]
        names = [name for name in names if name.endswith(_SUFFIX[self.kind])]
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

    def _write_images(self, works: Sequence[Work]) -> None:
        for work in works:
            write_file(joined(self.address, work.record["result"]), work.encoded)

    def _write_pack(self, works: Sequence[Work]) -> None:
        names = "".join(work.source.key for work in works)
        name = f"{_PACK_NAME}{hashlib.sha256(names.encode()).hexdigest()[:16]}{_SUFFIX[self.kind]}"
        for work in works:
            work.record |= {"place": work.record["result"], "result": name, "of": len(works)}
        data = _shard(works) if self.kind == "shards" else _parquet(works)
        write_file(joined(self.address, name), data)


def failures_address(target: str) -> str:
    return joined(target, OWN_FOLDER, "failures.csv")


def _shard(works: Sequence[Work]) -> bytes:
    """A tar of key.jpg and key.json, as WebDataset reads them."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as shard:
        for work in works:
            place = str(work.record["place"])
            stem, _, suffix = place.rpartition(".")
            folder, _, name = stem.rpartition("/")
            if "." in name:  # where WebDataset ends the key; what is left must still be the only one
                name = f"{name.replace('.', '_')}-{work.source.key[:8]}"
            key = f"{folder}/{name}" if folder else name
            description = json.dumps(work.record).encode()
            for ending, data in ((suffix, work.encoded), ("json", description)):
                entry = tarfile.TarInfo(f"{key}.{ending}")
                entry.size = len(data)
                shard.addfile(entry, io.BytesIO(data))
    return stream.getvalue()


def _parquet(works: Sequence[Work]) -> bytes:
    """A row for each image: its bytes, and what is to know of it."""
    arrow = require("pyarrow")
    rows = [{"image": work.encoded, **work.record} for work in works]
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
