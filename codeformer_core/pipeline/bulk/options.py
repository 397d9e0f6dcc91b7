"""What can be chosen for an archive, besides how a face is restored. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from ...imaging.codecs.suffixes import WRITABLE
from ..options import RESTORE_DEFAULTS, RestoreOptions

TargetKind = Literal["folder", "shards", "parquet"]
Engine = Literal["auto", "local", "ray"]


@dataclass(frozen=True)
class BulkOptions:
    """How an archive is restored.

    restore: each face.
    kind: of the target: a folder that mirrors the sources, WebDataset shards, or Parquet files.
    file_format: of the results, such as "png"; None keeps each image's own.
    strict: refuse images that are cut short.
    pack_images: in a shard or a Parquet file, at most.
    attempts: how often an image is tried before it goes to the failures.
    engine: "ray" on Ray Data, "local" in this process, "auto" Ray where it is installed.
    image_column, key_column: of Parquet sources; found by their types and names if None.
    """

    restore: RestoreOptions = RESTORE_DEFAULTS
    kind: TargetKind = "folder"
    file_format: str | None = None
    strict: bool = False
    pack_images: int = 1000
    attempts: int = 3
    engine: Engine = "auto"
    image_column: str | None = None
    key_column: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(TargetKind):
            raise ValueError(f"kind of target must be one of {', '.join(get_args(TargetKind))}, got {self.kind!r}")
        if self.engine not in get_args(Engine):
            raise ValueError(f"engine must be one of {', '.join(get_args(Engine))}, got {self.engine!r}")
        if self.file_format is not None and f".{self.file_format}" not in WRITABLE:
            raise ValueError(f"file format must be one of {' '.join(WRITABLE)}, got {self.file_format!r}")
        for name in ("pack_images", "attempts"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
