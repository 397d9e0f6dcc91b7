"""A host with ComfyUI's memory manager: ComfyUI, Forge (`backend`) and reForge (`ldm_patched`) share its interface.

The program's own modules are handed in; nothing of a program is imported here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from .host import Layers, ModelFolders, dtype_or_float32
from .progress import OnProgress


class Patcher(Protocol):
    """What is used of a ModelPatcher."""

    model: nn.Module
    load_device: torch.device


class MemoryManagement(Protocol):
    """What is used of the module model_management (Forge: memory_management)."""

    def get_torch_device(self) -> torch.device: ...

    def unet_offload_device(self) -> torch.device: ...

    def should_use_bf16(self, device: torch.device) -> bool: ...

    def load_models_gpu(self, models: list[Any], memory_required: float = 0, **options: bool) -> None: ...


@dataclass(frozen=True)
class PatcherHost:
    """A `Host` whose handles are the program's patchers.

    management: the program's memory manager.
    patcher_class: (module, load_device=..., offload_device=...) -> patcher.
    operations: the program's layers that take their weights from wherever the manager left them, or torch.nn.
    folders: where weight files lie.
    new_progress: makes a progress display, which also obeys cancel.
    on_check: raises the program's own exception when the user has cancelled.
    forces_full_load: load_models_gpu takes force_full_load (ComfyUI, reForge; not Forge).
    """

    management: MemoryManagement
    patcher_class: Callable[..., Patcher]
    operations: Layers
    folders: ModelFolders
    new_progress: Callable[[], OnProgress]
    on_check: Callable[[], None]
    forces_full_load: bool = True

    def compute_device(self) -> torch.device:
        return self.management.get_torch_device()

    def offload_device(self) -> torch.device:
        return self.management.unet_offload_device()

    def supported_dtype(self, wanted: torch.dtype) -> torch.dtype:
        return dtype_or_float32(wanted, self.management.should_use_bf16(self.compute_device()))

    def hold(self, module: nn.Module) -> Patcher:
        return self.patcher_class(module, load_device=self.compute_device(), offload_device=self.offload_device())

    def bring(self, handle: Patcher, bytes_needed: float = 0, streamable: bool = False) -> torch.device:
        whole = not streamable
        if self.forces_full_load:
            self.management.load_models_gpu([handle], memory_required=bytes_needed, force_full_load=whole)
        else:
            self.management.load_models_gpu([handle], memory_required=bytes_needed)
            if whole:
                # A manager short of memory leaves weights behind, which layers of torch.nn would not find.
                handle.model.to(handle.load_device)
        return handle.load_device

    def progress(self) -> OnProgress:
        return self.new_progress()

    def check_cancelled(self) -> None:
        self.on_check()
