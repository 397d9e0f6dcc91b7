"""The layers that networks are made of, and where they are put.

Every block takes `operations` (torch.nn or a host's drop-in), so that a host can hold weights elsewhere and hand them
over layer by layer.
"""

from __future__ import annotations

from typing import Protocol, TypedDict

import torch
from torch import nn

# None: as torch makes layers where nothing is said.
Device = torch.device | str | None
DType = torch.dtype | None


class Operations(Protocol):
    """The layers that networks use: torch.nn has them, and so have ComfyUI's operations."""

    @property
    def Linear(self) -> type[nn.Linear]: ...
    @property
    def Conv2d(self) -> type[nn.Conv2d]: ...
    @property
    def GroupNorm(self) -> type[nn.GroupNorm]: ...
    @property
    def LayerNorm(self) -> type[nn.LayerNorm]: ...
    @property
    def Embedding(self) -> type[nn.Embedding]: ...


class LayerOptions(TypedDict):
    """Arguments of every layer."""

    device: Device
    dtype: DType


class Factory(LayerOptions):
    """Arguments of every block."""

    operations: Operations


def set_memory_format(module: nn.Module, memory_format: torch.memory_format) -> None:
    """Lays all weights of convolutions out in this order."""
    module.to(memory_format=memory_format)  # pyright: ignore[reportCallIssue] - documented, missing in torch's types
