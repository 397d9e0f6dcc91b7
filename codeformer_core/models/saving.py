"""From a loaded restorer, or a network that was trained, to a file that loads again as the same one.

Before anything is written, keys and shapes are compared with the config, and what `detect_architecture` would make of
the file with what was given.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ..faces.events import Event
from ..weights.metadata import CheckpointMetadata
from ..weights.reading import WeightsError
from ..weights.state_dict import difference
from ..weights.writing import plain, write_state_dict
from .architecture import Checkpoint, Config, Layout
from .architectures import detect_architecture, find_by_config
from .filenames import free_path
from .restorer import USUAL_FIDELITY, Restorer

log = logging.getLogger(__name__)

_CHUNK = 2**20


@dataclass(frozen=True)
class SavedModel:
    """A file that was written.

    size: in bytes.
    sha256: 64 hex digits.
    notes: what else is to know.
    """

    path: Path
    size: int
    sha256: str
    notes: tuple[Event, ...]

    @property
    def events(self) -> tuple[Event, ...]:
        return (
            Event("saved", values={"path": str(self.path)}),
            Event("bytes", values={"count": self.size}),
            Event("sha256", values={"digest": self.sha256}),
            *self.notes,
        )


def save_restorer(
    restorer: Restorer, folder: Path, filename: str, *, dtype: torch.dtype, overwrite: bool = False
) -> SavedModel:
    """Write the network of `restorer` as `filename`.safetensors into `folder`: whole, or not at all.

    The file says the network's task and sizes in its header.

    filename: without a folder; the ending may be left out.
    dtype: float32, bfloat16 or float16.
    overwrite: an older file of that name may be replaced; otherwise it is an error.
    Raises ValueError naming the input and the fix, OSError when the disk is full or can't be written.
    """
    path = free_path(folder, filename, overwrite)
    architecture, recommended = restorer.kind, restorer.recommended_fidelity
    config = architecture.config_of(restorer.module)
    save_checkpoint(
        path,
        restorer.module.state_dict(),
        Checkpoint(
            architecture,
            config,
            architecture.module_layout,
            restorer.task,
            restorer.also,
            str(path),
            restorer.task_source,
        ),
        layout=architecture.module_layout,
        dtype=dtype,
        fidelity=None if recommended == USUAL_FIDELITY else recommended,
    )
    notes: list[Event] = []
    if restorer.dtype.itemsize < dtype.itemsize:
        values = {"restorer": restorer.name, "loaded": _short(restorer.dtype), "stored": _short(dtype)}
        notes.append(Event("rounded", values=values))
    return saved(path, *notes)


def save_network(
    path: str | os.PathLike[str],
    network: nn.Module | Mapping[str, Tensor],
    config: Config,
    task: str,
    *,
    layout: Layout = "ours",
    dtype: torch.dtype | None = None,
    trained: Mapping[str, str] | None = None,
    fidelity: float | None = None,
    also: tuple[str, ...] = (),
) -> None:
    """Write a module, or its state dict in our keys, on any device, to `path`; see `save_checkpoint`.

    config: what it was built with; its class tells the architecture.
    task, also: what it was trained for, and further tasks that it learned.
    """
    state = network if isinstance(network, Mapping) else network.state_dict()
    checkpoint = Checkpoint(find_by_config(config), config, "ours", task, also, str(path))
    save_checkpoint(path, state, checkpoint, layout=layout, dtype=dtype, trained=trained, fidelity=fidelity)


def save_checkpoint(
    path: str | os.PathLike[str],
    state: Mapping[str, Tensor],
    checkpoint: Checkpoint,
    *,
    layout: Layout,
    dtype: torch.dtype | None,
    trained: Mapping[str, str] | None = None,
    fidelity: float | None = None,
) -> None:
    """Write `state`, which `checkpoint` describes, to `path`: whole, or not at all.

    path: X.safetensors; with layout "published" also X.pth, a pickle as the official code reads it, which can't say
        heads and tasks. Its folder is made; an older file is replaced.
    layout: of the file.
    dtype: float32, bfloat16 or float16; None keeps the tensors' own.
    trained: free text about the training, kept in the header.
    fidelity: recommended for this network, 0..1, in the header too; None: left out.
    Raises ValueError when state, config and task don't fit together, and for weights that are NaN, infinite or too
    large for dtype; OSError when the disk is full or the folder can't be written.
    """
    path = Path(path)
    architecture, config = checkpoint.architecture, checkpoint.config
    as_pickle = is_pickle(path, layout)
    metadata = replace(_checked_metadata(checkpoint), trained=trained or {}, fidelity=fidelity)
    header = metadata.to_header()
    given = {key: plain(path, key, tensor, dtype) for key, tensor in state.items()}
    _check_fits(path, given, checkpoint)
    if problem := architecture.layout_problem(config, layout):
        raise ValueError(f"{path}: {problem}")
    written = checkpoint.in_layout(given, layout)
    _check_comes_back(path, written, checkpoint, metadata)
    for remark in _remarks(path, written, checkpoint, metadata, layout, as_pickle):
        log.warning("%s: %s", path, remark)
    write_state_dict(written, path, None if as_pickle else header)


def is_pickle(path: Path, layout: Layout) -> bool:
    """Whether `save_checkpoint` would write a pickle; ValueError for a name that doesn't go with the layout."""
    suffix = path.suffix.lower()
    if suffix == ".safetensors":
        return False
    if suffix == ".pth" and layout == "published":
        return True
    endings = ".safetensors or .pth" if layout == "published" else ".safetensors"
    raise ValueError(f"{path}: the layout {layout!r} is written as {endings}; choose a name that ends so")


def _checked_metadata(checkpoint: Checkpoint) -> CheckpointMetadata:
    architecture, task = checkpoint.architecture, checkpoint.task
    also = tuple(dict.fromkeys(other for other in checkpoint.also if other != task))
    for each in (task, *also):
        if each not in architecture.tasks:
            raise ValueError(f"task must be {' or '.join(architecture.tasks)} for a {architecture}, got {each!r}")
    metadata = architecture.metadata_of(checkpoint.config, task, also)
    if checkpoint.task_source == "sizes" and not also and task == architecture.usual_task(checkpoint.config):
        # Nobody has said it, so neither does the file: the same sizes will stand for it.
        return replace(metadata, task=None)
    return metadata


def _check_fits(path: Path, state: Mapping[str, Tensor], checkpoint: Checkpoint) -> None:
    expected = checkpoint.architecture.expected(checkpoint.config, checkpoint.layout)
    if expected is not None and (problem := difference(state, expected)):
        raise ValueError(
            f"{path}: the weights to be saved don't fit their config: {problem}. Give the config that the network was "
            "built with, and the state dict of the bare network, without wrappers"
        )


def _check_comes_back(
    path: Path, state: Mapping[str, Tensor], checkpoint: Checkpoint, metadata: CheckpointMetadata
) -> None:
    architecture, config = checkpoint.architecture, checkpoint.config
    refusal = f"{path}: a {architecture} of these sizes could not be read again"
    try:
        found = detect_architecture(state, str(path), metadata)
    except WeightsError as error:
        raise ValueError(f"{refusal}: {error}. Sizes: {config}") from error
    same_kind = found.architecture is architecture and architecture.same_sizes(found.config, config)
    if not same_kind or (found.task, found.also) != (checkpoint.task, metadata.also):
        raise ValueError(f"{refusal}. Given: {config}. Read: {found}")


def _remarks(
    path: Path,
    state: Mapping[str, Tensor],
    checkpoint: Checkpoint,
    metadata: CheckpointMetadata,
    layout: Layout,
    as_pickle: bool,
) -> list[str]:
    """What other programs, and for a pickle this one too, will take the file for though it is something else."""
    architecture, config = checkpoint.architecture, checkpoint.config
    remarks = architecture.warnings_for_others(config) if layout == "published" else []
    if not as_pickle:
        return remarks
    try:
        bare = detect_architecture(state, str(path))
    except WeightsError:
        # Only what is assumed without a header can be what doesn't fit: with the header it was read.
        sizes = architecture.describe(config)
        return [*remarks, f"without a header it can't be loaded here again: {sizes}; save as .safetensors"]
    differences = _differences(
        architecture.metadata_of(bare.config, bare.task), replace(metadata, task=checkpoint.task)
    )
    if metadata.also:
        differences.append(f"without {' and '.join(metadata.also)}")
    if differences:
        remarks.append(
            f"a pickle can't say what it is: it will be loaded with {', '.join(differences)}. Save as .safetensors"
        )
    return remarks


def _differences(there: CheckpointMetadata, here: CheckpointMetadata) -> list[str]:
    pairs = {
        "task": (there.task, here.task),
        "image_size": (there.image_size, here.image_size),
        "heads": (there.heads, here.heads),
    }
    return [f"{name} {read} instead of {given}" for name, (read, given) in pairs.items() if read != given]


def saved(path: Path, *notes: Event) -> SavedModel:
    """What there is to know of a file that was just written."""
    return SavedModel(path, path.stat().st_size, _sha256(path), notes)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
