"""What a program that runs the core must offer: a device, memory for modules, progress, cancel, model folders.

`plain_host`, `patcher_host` and `torch_host` implement it; none of them imports a program's own modules.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from .folders import folders_named
from .progress import OnProgress

logger = logging.getLogger(__name__)

# What a host hands out for a module that it holds; only the same host knows what to do with it.
Handle = Any
# A module with Linear, Conv2d, GroupNorm, LayerNorm and Embedding, such as torch.nn.
Layers = Any


class ModelFolders(Protocol):
    """Where weight files lie."""

    def roots(self) -> list[Path]:
        """Models folders, preferred first; catalog files are searched in them and in the known folders below them."""
        ...

    def of(self, kind: str) -> list[Path]:
        """Folders of one kind ("facerestore_models", "facedetection", ...); downloads go into the first."""
        ...


@dataclass(frozen=True)
class FixedFolders:
    """Model folders that stay the same while the program runs.

    models: models folders, preferred first, with a folder for each kind below them.
    extra: kind -> further folders of that kind, preferred to those below `models`.
    """

    models: tuple[Path, ...]
    extra: Mapping[str, tuple[Path, ...]] = field(default_factory=dict[str, tuple[Path, ...]])

    def roots(self) -> list[Path]:
        return list(dict.fromkeys([*(folder for folders in self.extra.values() for folder in folders), *self.models]))

    def of(self, kind: str) -> list[Path]:
        own = (folder for root in self.models for folder in folders_named(root, kind))
        return list(dict.fromkeys([*self.extra.get(kind, ()), *own]))


class Host(Protocol):
    """The program that runs the core."""

    @property
    def folders(self) -> ModelFolders: ...

    @property
    def operations(self) -> Layers:
        """Layers to build networks with; torch.nn where the host has none that stream their weights."""
        ...

    def compute_device(self) -> torch.device:
        """Where networks run."""
        ...

    def offload_device(self) -> torch.device:
        """Where weights wait while they are not needed; modules are built there."""
        ...

    def supported_dtype(self, wanted: torch.dtype) -> torch.dtype:
        """`wanted`, or float32 with a warning where the device computes it slowly or not at all."""
        ...

    def hold(self, module: nn.Module) -> Handle:
        """Puts a module under the host's memory management."""
        ...

    def bring(self, handle: Handle, bytes_needed: float = 0, streamable: bool = False) -> torch.device:
        """Brings a module to its device, moving others away where needed, and returns the device.

        handle: from `hold` of the same host.
        bytes_needed: memory for activations, besides the weights.
        streamable: the module was built with `operations`; weights may stay behind and come layer by layer.
        """
        ...

    def progress(self) -> OnProgress:
        """A new progress display, which also obeys cancel."""
        ...

    def check_cancelled(self) -> None:
        """Raises the host's own exception when the user has cancelled."""
        ...


def dtype_or_float32(wanted: torch.dtype, bfloat16_is_fast: bool) -> torch.dtype:
    """`wanted`, or float32 with a warning for bfloat16 where that is slow."""
    if wanted == torch.bfloat16 and not bfloat16_is_fast:
        logger.warning("this device has no fast bfloat16; the faces are restored in float32")
        return torch.float32
    return wanted
