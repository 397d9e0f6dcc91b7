"""Checkpoints: folders that are there whole or not at all, written by torch.distributed.checkpoint.

RUN/checkpoints/step-000001000/ holds safetensors files (no pickles, so a checkpoint from elsewhere can do no harm) and
meta.json: step, stage, config. It is written under another name and renamed when everything lies on the disk.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...runtime.atomic import flush, flush_folder
from .pieces import MIB, PieceWriter, divided
from .processes import Processes

_NAME = re.compile(r"step-(\d{9})")
_META = "meta.json"
_UNFINISHED = ".unfinished-"
_GIB = 1024**3


@dataclass(frozen=True)
class Meta:
    """A checkpoint's meta.json.

    step: how many steps were done.
    stage: its name.
    about: of which configuration, faces and teacher, see `resuming.about_run`.
    """

    step: int
    stage: str
    about: Mapping[str, Any]


class Checkpoints:
    """The checkpoints of one run, oldest first; all processes call `save` together.

    file_mib: no file of a checkpoint is larger; None: each process writes one file.
    """

    def __init__(self, folder: Path, keep: int, processes: Processes, file_mib: int | None = None) -> None:
        self.folder = folder
        self.keep = keep
        self.processes = processes
        self.file_mib = file_mib

    def newest(self) -> Path | None:
        found = self.all()
        return found[-1] if found else None

    def all(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        return sorted(path for path in self.folder.iterdir() if _NAME.fullmatch(path.name) and (path / _META).is_file())

    def damaged(self) -> list[Path]:
        """Folders named like checkpoints that are none."""
        if not self.folder.is_dir():
            return []
        named = (path for path in self.folder.iterdir() if _NAME.fullmatch(path.name))
        return sorted(path for path in named if not (path / _META).is_file())

    def require_space(self, size: int) -> None:
        """Raise ValueError when the disk can't hold the checkpoints, of `size` bytes each, that will lie there at
        once."""
        # One more than are kept, because the oldest goes after the newest is there; and the exported weights.
        needed = size * (self.keep + 2 - min(len(self.all()), self.keep))
        existing = next(parent for parent in (self.folder, *self.folder.parents) if parent.exists())
        free = shutil.disk_usage(existing).free
        if free < needed:
            raise ValueError(
                f"{self.folder}: the disk has {free / _GIB:.2f} GiB free; {self.keep} checkpoints of this network need "
                f"{needed / _GIB:.2f} GiB. Make room, name another folder with -o, or keep fewer (--set engine.keep=1)"
            )

    def require_pieces(self, tensors: Mapping[str, Tensor]) -> None:
        """Raise ValueError naming a tensor that is larger than a file may be."""
        if self.file_mib is not None:
            sizes = {name: tensor.numel() * tensor.element_size() for name, tensor in tensors.items()}
            divided(sizes, self.file_mib * MIB)

    def save(self, tensors: Mapping[str, Tensor], meta: Meta) -> Path:
        """Write a checkpoint and remove the oldest ones.

        Raises OSError naming the folder; the earlier checkpoints stay.
        """
        final = self.folder / f"step-{meta.step:09d}"
        unfinished = self.folder / f"{_UNFINISHED}{meta.step:09d}"
        try:
            self._write(tensors, unfinished)
            if self.processes.is_first:
                self._finish(meta, unfinished, final)
        except OSError as error:
            if self.processes.is_first:
                shutil.rmtree(unfinished, ignore_errors=True)
            last = self.newest()
            kept = f"the last checkpoint is {last.name}" if last else "no checkpoint was saved yet"
            reason = error.strerror or " ".join(str(error).split())[:200]
            raise OSError(error.errno, f"the checkpoint could not be written ({reason}); {kept}", str(final)) from error
        self.processes.wait()
        return final

    def _write(self, tensors: Mapping[str, Tensor], unfinished: Path) -> None:
        from torch.distributed.checkpoint import state_dict_saver
        from torch.distributed.checkpoint.api import CheckpointException
        from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter

        if self.processes.is_first:
            for left in self.folder.glob(f"{_UNFINISHED}*"):
                shutil.rmtree(left)  # of a run that was killed while it wrote
            unfinished.mkdir(parents=True)
        self.processes.wait()
        if self.file_mib is None:
            writer = HuggingFaceStorageWriter(str(unfinished), save_distributed=True)
        else:
            writer = PieceWriter(str(unfinished), self.file_mib * MIB)
        try:
            with _quiet():
                state_dict_saver.save(dict(tensors), storage_writer=writer, no_dist=self.processes.count == 1)
        except CheckpointException as error:  # no Exception, so nobody else would catch it
            causes = [failure[0] for failure in error.failures.values()]
            system = next((cause for cause in causes if isinstance(cause, OSError)), None)
            raise OSError(system.errno if system else None, str(causes[0] if causes else error)) from error
        self.processes.wait()

    def _finish(self, meta: Meta, unfinished: Path, final: Path) -> None:
        # Read back, so that no folder is renamed that can't be; and a file lost later is noticed by the count.
        count = len(_reader(unfinished).read_metadata().state_dict_metadata)
        said = {"version": 1, **meta.__dict__, "tensors": count}
        (unfinished / _META).write_text(json.dumps(said, indent=1), encoding="utf-8")
        for path in unfinished.iterdir():
            flush(path)
        flush_folder(unfinished)
        if (final / _META).is_file():  # the same step again, at the end or after a stop
            shutil.rmtree(unfinished)
        else:
            os.replace(unfinished, final)
        flush_folder(self.folder)
        for old in self.all()[: -self.keep]:
            shutil.rmtree(old)

    def load(self, path: Path) -> dict[str, Tensor]:
        """Every tensor of a checkpoint, on the CPU. Raises ValueError naming the folder when it is damaged."""
        from torch.distributed.checkpoint import state_dict_loader
        from torch.distributed.checkpoint.metadata import TensorStorageMetadata

        try:
            expected = json.loads((path / _META).read_text(encoding="utf-8"))["tensors"]
            reader = _reader(path)
            described = reader.read_metadata().state_dict_metadata
            if len(described) != expected:
                raise ValueError(f"{len(described)} of {expected} tensors")
            tensors: dict[str, Tensor] = {}
            for name, entry in described.items():
                if not isinstance(entry, TensorStorageMetadata):
                    raise ValueError(f"{name} is not a tensor")
                tensors[name] = torch.empty(entry.size, dtype=entry.properties.dtype)
            with _quiet():
                state_dict_loader.load(tensors, storage_reader=reader, no_dist=True)
        except Exception as error:
            raise ValueError(
                f"{path}: the checkpoint is damaged ({' '.join(str(error).split())[:200]}); delete this "
                "folder, and the one before it is taken"
            ) from error
        return tensors


def read_meta(checkpoint: Path) -> Meta:
    """Raises ValueError naming the file when it is not what `Checkpoints.save` writes."""
    path = checkpoint / _META
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        return Meta(int(said["step"]), str(said["stage"]), dict(said["about"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: can't be read ({error}); delete the folder, and the one before it is taken"
        ) from error


def _reader(path: Path):
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader

    return HuggingFaceStorageReader(str(path))


@contextmanager
def _quiet() -> Generator[None]:
    """torch remarks at every save that a single process is a single process."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.distributed is disabled.*")
        yield
