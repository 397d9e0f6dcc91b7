"""A host without a memory manager (A1111, SD.Next): modules are moved between the CPU and the device."""

from __future__ import annotations

from collections.abc import Callable
from weakref import WeakSet

import torch
from torch import nn

from . import memory
from .host import Layers, ModelFolders, dtype_or_float32
from .progress import OnProgress

_CPU = torch.device("cpu")


class TorchHost:
    """A `Host` whose handles are the modules themselves."""

    def __init__(
        self,
        device: torch.device,
        folders: ModelFolders,
        *,
        low_vram: Callable[[], bool],
        new_progress: Callable[[], OnProgress],
        on_check: Callable[[], None],
    ) -> None:
        """device: where networks run; their weights wait on the CPU.
        folders: where weight files lie.
        low_vram: whether the user wants memory saved: then only one of our modules lies on the device at a time.
        new_progress: makes a progress display, which also obeys cancel.
        on_check: raises the program's own exception when the user has cancelled.
        """
        self.device, self.folders = device, folders
        self._low_vram, self._new_progress, self._on_check = low_vram, new_progress, on_check
        # Weakly, so that a module goes when its owner lets it go.
        self._on_device: WeakSet[nn.Module] = WeakSet()

    @property
    def operations(self) -> Layers:
        return nn

    def compute_device(self) -> torch.device:
        return self.device

    def offload_device(self) -> torch.device:
        return _CPU

    def supported_dtype(self, wanted: torch.dtype) -> torch.dtype:
        return dtype_or_float32(wanted, self.device.type == "cuda" and torch.cuda.is_bf16_supported())

    def hold(self, module: nn.Module) -> nn.Module:
        return module

    def bring(self, handle: nn.Module, bytes_needed: float = 0, streamable: bool = False) -> torch.device:
        if self._low_vram() or not self._fits(handle, bytes_needed):
            self._send_away([module for module in self._on_device if module is not handle])
        handle.to(self.device)
        self._on_device.add(handle)
        return self.device

    def release(self) -> None:
        """Moves all modules to the CPU, for users who want the memory back after each run."""
        self._send_away(list(self._on_device))

    def progress(self) -> OnProgress:
        return self._new_progress()

    def check_cancelled(self) -> None:
        self._on_check()

    def _fits(self, module: nn.Module, bytes_needed: float) -> bool:
        free = memory.free_bytes(self.device)
        weights = 0 if module in self._on_device else memory.weight_bytes(module)
        return free is None or weights + bytes_needed <= free

    def _send_away(self, modules: list[nn.Module]) -> None:
        for module in modules:
            module.to(_CPU)
            self._on_device.discard(module)
        if modules:
            memory.empty_cache()
