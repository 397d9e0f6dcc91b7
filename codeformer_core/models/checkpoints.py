"""From a weight file to what it holds: architecture, sizes, tasks and the weights themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from ..weights.catalog import find_entry
from ..weights.metadata import CheckpointMetadata
from ..weights.reading import WeightFile, read_metadata, read_weights
from .architecture import Checkpoint
from .architectures import find_checkpoint


@dataclass(frozen=True)
class OpenedCheckpoint:
    """A weight file and what it holds.

    state: the weights, in the layout of `checkpoint`.
    metadata: what the file's header says.
    """

    file: WeightFile
    checkpoint: Checkpoint
    state: Mapping[str, Tensor]
    metadata: CheckpointMetadata | None


def open_checkpoint(path: Path, source: str | None = None) -> OpenedCheckpoint:
    """What a weight file holds.

    source: the file, for messages; its path if None.

    Raises WeightsError as `read_weights` and `find_checkpoint`.
    """
    file, metadata = read_weights(path), read_metadata(path)
    checkpoint, state = find_checkpoint(file.state_dicts, source or str(path), metadata)
    published = find_entry(path.name)
    if published is not None and published.task == checkpoint.task:
        # The published files have no header; a published name with the published sizes is as good as one.
        checkpoint = replace(checkpoint, task_source="file")
    return OpenedCheckpoint(file, checkpoint, state, metadata)
