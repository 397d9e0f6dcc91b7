"""The safetensors copy kept beside a pickle: its name, its source, and whether it is up to date.

A copy carries its source's name, size and modification time in its header. Only a file with such a mark is ever taken
for a copy or replaced; a safetensors file that somebody else put there is left alone. Importing this module needs no
torch: the search for files reads headers only.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from ..runtime.atomic import replaced
from ..runtime.foreign import is_object

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)

PICKLE_SUFFIXES = (".pth", ".pt", ".ckpt", ".bin")
# The limit of the safetensors library itself; a larger number means that the file is something else.
MAX_HEADER_SIZE = 100_000_000
# Room left free on the disk after a copy was written, in bytes.
SPARE_SPACE = 16 * 2**20

_WRITER = "codeformer_core"


def copy_path(source: Path) -> Path:
    """Where the copy of `source` lies: x.pth -> x.safetensors, and a name with an unknown ending keeps it."""
    if source.suffix.lower() in PICKLE_SUFFIXES:
        return source.with_suffix(".safetensors")
    return source.with_name(source.name + ".safetensors")


def source_mark(source: Path, status: os.stat_result) -> dict[str, str]:
    """The header entries that tie a copy to this very state of `source`."""
    return {
        "written_by": _WRITER,
        "source_file": source.name,
        "source_size": str(status.st_size),
        "source_mtime_ns": str(status.st_mtime_ns),
    }


def read_header(path: Path) -> dict[str, object] | None:
    """The JSON header of a safetensors file, or None when `path` can't be read or is nothing of the kind."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= MAX_HEADER_SIZE:
                return None
            text = file.read(length)
    except OSError:
        return None
    try:
        header = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return header if len(text) == length and is_object(header) else None


def origin(path: Path) -> dict[str, str] | None:
    """The mark in a copy that we wrote (see `source_mark`), or None when it is not ours."""
    metadata = (read_header(path) or {}).get("__metadata__")
    if not is_object(metadata) or metadata.get("written_by") != _WRITER:
        return None
    mark = {key: value for key, value in metadata.items() if isinstance(value, str)}
    name = mark.get("source_file", "")
    # A header can say anything; only a file beside the copy can be its source.
    return mark if name and PurePath(name).name == name else None


def source_of(path: Path) -> Path:
    """The pickle that `path` is our copy of, where it still lies beside it; else `path` itself."""
    mark = origin(path) if path.suffix == ".safetensors" else None
    source = path if mark is None else path.with_name(mark["source_file"])
    return source if source.is_file() else path


def is_current(copy: Path, source: Path) -> bool:
    """Whether `copy` was written by us from `source` as it lies there now."""
    mark = origin(copy)
    if mark is None:
        return False
    wanted = source_mark(source, source.stat())
    return all(mark.get(key) == value for key, value in wanted.items())


def is_stale(copy: Path, source: Path) -> bool:
    """Whether `copy` can't be used in place of `source`: damaged, or ours from another state of `source`."""
    if read_header(copy) is None:
        return True
    return origin(copy) is not None and not is_current(copy, source)


def keep_copy(state: Mapping[str, Tensor], source: Path, status: os.stat_result) -> Path | None:
    """Write `state` as the safetensors copy of `source`.

    Returns None, and logs why, when there is nothing to do or the disk doesn't allow it: loading has succeeded by then,
    so this is never an error.

    status: of `source` when it was read.
    """
    copy = copy_path(source)
    if copy.exists():
        mark = origin(copy)
        if mark is None:
            log.info("%s was not written by this pack and stays as it is; %s is read", copy, source.name)
            return None
        if mark["source_file"] != source.name and source.with_name(mark["source_file"]).exists():
            log.info("%s is the copy of %s; none is kept of %s", copy, mark["source_file"], source.name)
            return None
    needed = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    try:
        free = shutil.disk_usage(copy.parent).free
        if free < needed + SPARE_SPACE:
            log.warning(
                "no safetensors copy of %s: %s bytes needed in %s, %s free",
                source.name,
                f"{needed:,}",
                copy.parent,
                f"{free:,}",
            )
            return None
        write_safetensors(state, copy, source_mark(source, status))
    except OSError as error:
        log.warning("no safetensors copy of %s is kept in %s: %s", source.name, copy.parent, error.strerror or error)
        return None
    log.info("kept %s as %s, which loads faster and can hold no code", source.name, copy.name)
    return copy


def write_safetensors(state: Mapping[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write `state` to `path`, whole or not at all, see `replaced`.

    metadata: texts for the file's header.
    Raises OSError when it can't be written.
    """
    import safetensors.torch

    with replaced(path) as temporary:
        try:
            safetensors.torch.save_file(separate(state), temporary, metadata={"format": "pt", **(metadata or {})})
        except (safetensors.SafetensorError, ValueError, KeyError) as error:
            raise OSError(f"{path} could not be written as safetensors: {error}") from error


def separate(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous tensors of which no two share memory: safetensors takes no others."""
    import torch

    seen: set[int] = set()
    plain_state: dict[str, Tensor] = {}
    for key, tensor in state.items():
        assert tensor.layout == torch.strided and not tensor.is_quantized  # `read_state_dict` refuses others
        storage = tensor.untyped_storage()
        alone = storage.data_ptr() not in seen and storage.nbytes() == tensor.numel() * tensor.element_size()
        seen.add(storage.data_ptr())
        plain = tensor.detach()
        plain_state[key] = plain.contiguous() if alone else plain.clone(memory_format=torch.contiguous_format)
    return plain_state
