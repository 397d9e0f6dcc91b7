"""Decoded faces: in one file on the disk, or in one tensor on the device.

Shape legend: N faces, S side of the square face.
"""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import uuid
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...runtime import memory
from ...runtime.lock import LockError, locked
from .files import BrokenFace, FaceSource, FileFaces

logger = logging.getLogger(__name__)

# Part of the cache's key: another number when faces are read differently.
_FORMAT = 2
# Room left free on the disk after the cache was written, in bytes.
SPARE_SPACE = 256 * 2**20
# A run continues without single files; more than this part of them means that something is wrong with the set.
MAX_BROKEN = 0.05
_THREADS = 8
# The rest of the device is for weights and activations.
_SHARE_FOR_FACES = 0.5
_LOG_EVERY = 5000


class _UselessCache(ValueError):
    """The cache isn't there, or not whole."""


@dataclass(frozen=True)
class CachedFaces:
    """A FaceSource that reads decoded faces from a .npy file (N, S, S, 3), at `offset` bytes from its start.

    broken: (index, name and reason) of the faces that could not be decoded; they keep their number, so that orders
    and codes are those of the uncached source. Holds no open file and no map: it is sent to worker processes.
    """

    names: tuple[str, ...]
    fingerprint: str
    path: str
    offset: int
    side: int
    broken: tuple[tuple[int, str], ...]

    def __len__(self) -> int:
        return len(self.names)

    def read(self, index: int) -> np.ndarray:
        for number, reason in self.broken:
            if number == index:
                raise BrokenFace(reason)
        count = self.side * self.side * 3
        values = np.fromfile(self.path, np.uint8, count, offset=self.offset + index * count)
        if values.size < count:
            raise BrokenFace(f"{self.names[index]}: the cache {self.path} has been cut off; delete it")
        return values.reshape(self.side, self.side, 3)


def default_folder() -> Path:
    """Raises ValueError where the system names no cache folder."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or os.path.expanduser("~/.cache")
    if cache.startswith("~"):  # there is no home folder
        raise ValueError("no cache folder is known here: set data.cache_folder")
    return Path(cache) / "comfyui-codeformer" / "faces"


def cached_on_disk(source: FileFaces, folder: str | None) -> CachedFaces:
    """The same faces from a file that holds them decoded; written now if it isn't there or damaged.

    Several processes may ask at once: one writes, the others wait for it.

    Raises ValueError when the disk has too little room, RuntimeError when too many faces are broken, OSError naming the
    folder when it can't be written.
    """
    place = Path(folder) if folder is not None else default_folder()
    path = place / f"{source.fingerprint}-{source.image_size}-{_FORMAT}.npy"
    try:
        return _opened(source, path)
    except _UselessCache as error:
        if path.exists():
            logger.warning("%s; it is written anew", error)
    try:
        place.mkdir(parents=True, exist_ok=True)
        with locked(path.with_suffix(".lock"), lambda: None):
            try:
                return _opened(source, path)  # somebody else has written it by now
            except _UselessCache:
                _write(source, path)
                return _opened(source, path)
    except LockError as error:
        raise OSError(
            error.errno, f"this cache folder can't be written ({error.strerror}): set data.cache_folder", str(place)
        ) from error


def on_device(source: FaceSource, device: torch.device) -> tuple[Tensor, dict[int, str]]:
    """All faces as uint8 (N, 3, S, S) on `device`, and the reasons of those that are broken (left black).

    Raises ValueError when they don't fit, RuntimeError when too many are broken.
    """
    broken: dict[int, str] = {}
    faces_N3SS: Tensor | None = None
    for index, face in enumerate(_decoded(source)):
        if isinstance(face, BrokenFace):
            logger.warning("%s; another face takes its place", face)
            _note(broken, index, face, len(source))
            continue
        face_3SS = torch.from_numpy(face).permute(2, 0, 1)
        if faces_N3SS is None:
            _require_memory(len(source) * face.nbytes, len(source), device)
            shape: list[int] = [len(source), *face_3SS.shape]
            faces_N3SS = torch.zeros(shape, dtype=torch.uint8, device=device)
        assert faces_N3SS is not None
        faces_N3SS[index].copy_(face_3SS)
    if faces_N3SS is None:
        raise RuntimeError("none of the faces could be read")
    return faces_N3SS, broken


def too_many_broken(broken: int, count: int) -> bool:
    """One broken face is never too many, however small the set."""
    return broken > max(1, MAX_BROKEN * count)


def require_few_broken(broken: int, count: int, last: str) -> None:
    """Raise RuntimeError when too many of `count` faces could not be read.

    last: the reason of the newest.
    """
    if too_many_broken(broken, count):
        raise RuntimeError(
            f"{broken} of {count} faces could not be read, more than {MAX_BROKEN:.0%} (the last: {last}). Check "
            "the disk, and copy or cut the faces anew"
        )


def _opened(source: FileFaces, path: Path) -> CachedFaces:
    """Raises _UselessCache naming the file and what is wrong with it, OSError when it can't be read at all."""
    wanted = (len(source), source.image_size, source.image_size, 3)
    try:
        with path.open("rb") as stream:
            version = np.lib.format.read_magic(stream)
            if version != (1, 0):
                raise ValueError(f"of version {version}")
            shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
            offset = stream.tell()
            size = os.fstat(stream.fileno()).st_size
        if shape != wanted or dtype != np.uint8 or size != offset + math.prod(wanted):
            raise ValueError(f"{shape} {dtype} in {size} bytes, where {wanted} uint8 is wanted")
        said = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        if said["names"] != list(source.names):
            raise ValueError("its .json names other faces")
        broken = tuple((int(index), str(reason)) for index, reason in said["broken"])
    except FileNotFoundError as error:
        raise _UselessCache(f"{error.filename}: this part of the cache is missing") from error
    except OSError:
        raise
    except Exception as error:
        # Damaged headers can raise anything; all of it means that the file is of no use.
        raise _UselessCache(f"{path}: this cache is damaged ({error})") from error
    return CachedFaces(source.names, source.fingerprint, str(path), offset, source.image_size, broken)


def _write(source: FileFaces, path: Path) -> None:
    """Both files whole or not at all; the list of broken faces first, because the .npy is what is looked for."""
    size = len(source) * source.image_size**2 * 3
    free = shutil.disk_usage(path.parent).free
    if free < size + SPARE_SPACE:
        raise ValueError(
            f"{path.parent}: the cache of {len(source)} decoded faces needs {size / 2**30:.1f} GiB, "
            f"{free / 2**30:.1f} are free. Set data.cache_folder to another disk, or data.cache to none"
        )
    logger.info("decoding %d faces into %s (%.1f GiB)", len(source), path, size / 2**30)
    part = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:12]}.part")
    broken: dict[int, str] = {}
    try:
        with part.open("wb") as stream:
            shape = (len(source), source.image_size, source.image_size, 3)
            np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": shape})
            # Written, not mapped: where a disk turns out to be full, a map ends the process without a word.
            for index, face in enumerate(_decoded(source)):
                if isinstance(face, BrokenFace):  # told when it is drawn, in this run and in later ones
                    _note(broken, index, face, len(source))
                    face = np.zeros(shape[1:], np.uint8)
                stream.write(face.tobytes())
                if (index + 1) % _LOG_EVERY == 0:
                    logger.info("decoded %d of %d faces", index + 1, len(source))
            stream.flush()
            os.fsync(stream.fileno())
        listed = part.with_suffix(".json")
        listed.write_text(json.dumps({"names": source.names, "broken": sorted(broken.items())}), encoding="utf-8")
        os.replace(listed, path.with_suffix(".json"))
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _decoded(source: FaceSource) -> Iterator[np.ndarray | BrokenFace]:
    """All faces in order, decoded a little ahead by threads (Pillow decodes without Python's lock)."""

    def read(index: int) -> np.ndarray | BrokenFace:
        try:
            return source.read(index)
        except BrokenFace as error:
            return error

    with ThreadPoolExecutor(_THREADS) as threads:
        indices = iter(range(len(source)))
        ahead: list[Future[np.ndarray | BrokenFace]] = [
            threads.submit(read, index) for index in islice(indices, 4 * _THREADS)
        ]
        while ahead:
            face = ahead.pop(0).result()
            ahead += [threads.submit(read, index) for index in islice(indices, 1)]
            yield face


def _note(broken: dict[int, str], index: int, error: BrokenFace, count: int) -> None:
    broken[index] = str(error)
    require_few_broken(len(broken), count, str(error))


def _require_memory(size: int, count: int, device: torch.device) -> None:
    free = memory.free_bytes(device)
    if free is not None and size > free * _SHARE_FOR_FACES:
        raise ValueError(
            f"data.cache device: {count} faces need {size / 2**30:.1f} GiB on {device}, {free / 2**30:.1f} are free. "
            f"Training needs {1 - _SHARE_FOR_FACES:.0%} of that. Try --set data.cache=disk --set data.workers=4"
        )
