"""A checkpoint in files of limited size: a run goes from machine to machine where only small files can pass."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
from torch.distributed.checkpoint.planner import SavePlan, WriteItem

MIB = 2**20
# Bytes that safetensors' header takes for a tensor beside its name, which stands there twice: about 110, with room.
_HEADER = 256


class PieceWriter(HuggingFaceStorageWriter):
    """Writes as its parent does, into as many files as it takes to keep each at `limit` bytes or below."""

    def __init__(self, folder: str, limit: int) -> None:
        super().__init__(folder, save_distributed=True)
        self._limit = limit

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        # Here, and not from this process's tensors: each process has some that no other one has.
        sizes = {item.index.fqn: _bytes_of(item) for plan in plans for item in plan.items}
        self.fqn_to_index_mapping = divided(sizes, self._limit)
        return super().prepare_global_plan(plans)


def divided(sizes: Mapping[str, int], limit: int) -> dict[str, int]:
    """Name -> number of its file, counted from 1; the files are filled in the given order.

    sizes, limit: in bytes.
    Raises ValueError naming a tensor that no file can hold, and how much it needs.
    """
    numbers: dict[str, int] = {}
    number, filled = 1, 0
    for name, size in sizes.items():
        needed = size + _HEADER + 2 * len(name.encode())
        if needed > limit:
            raise ValueError(
                f"the tensor {name} takes {needed / MIB:.2f} MiB, the files of a checkpoint may have "
                f"{limit / MIB:g}: give engine.checkpoint_file_mib at least {math.ceil(needed / MIB)}, or null"
            )
        if filled + needed > limit:
            number, filled = number + 1, 0
        numbers[name] = number
        filled += needed
    return numbers


def _bytes_of(item: WriteItem) -> int:
    data = item.tensor_data
    assert data is not None  # a training state holds nothing but tensors
    return math.prod(data.chunk.sizes) * data.properties.dtype.itemsize
