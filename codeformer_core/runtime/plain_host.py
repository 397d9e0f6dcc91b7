"""The host of the library and the command line: one device, on which every module stays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import nn

from .host import FixedFolders, Layers, ModelFolders
from .progress import OnProgress, no_progress


def never_cancelled() -> None:
    """For programs that are stopped by an interrupt."""


@dataclass(frozen=True)
class PlainHost:
    """A `Host` without memory management.

    device: where networks are built and run.
    folders: where weight files lie; none by default, so that only those of this package are found.
    on_progress: shown all progress.
    on_check: called where work may be cancelled; raises to cancel.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    folders: ModelFolders = field(default_factory=lambda: FixedFolders(()))
    on_progress: OnProgress = no_progress
    on_check: Callable[[], None] = never_cancelled

    @property
    def operations(self) -> Layers:
        return nn

    def compute_device(self) -> torch.device:
        return self.device

    def offload_device(self) -> torch.device:
        return self.device

    def supported_dtype(self, wanted: torch.dtype) -> torch.dtype:
        return wanted

    def hold(self, module: nn.Module) -> nn.Module:
        return module

    def bring(self, handle: nn.Module, bytes_needed: float = 0, streamable: bool = False) -> torch.device:
        return self.device

    def progress(self) -> OnProgress:
        return self.on_progress

    def check_cancelled(self) -> None:
        self.on_check()
