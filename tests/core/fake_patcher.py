"""ComfyUI's memory manager in small: room for one model; the weights of a model that was evicted are no numbers."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

CPU = torch.device("cpu")


class FakePatcher:
    def __init__(self, model: nn.Module, load_device: torch.device, offload_device: torch.device) -> None:
        self.model, self.load_device = model, load_device
        self.kept: dict[str, Tensor] | None = None
        self.evict()

    def bring(self) -> None:
        if self.kept is not None:
            for name, parameter in self.model.named_parameters():
                parameter.data = self.kept[name]
            self.kept = None

    def evict(self) -> None:
        if self.kept is None:
            self.kept = {name: parameter.data for name, parameter in self.model.named_parameters()}
            for parameter in self.model.parameters():
                parameter.data = torch.full_like(parameter.data, torch.nan)


@dataclass
class FakeManagement:
    """loads: of each call the memory asked for, and whether the model had to come whole."""

    loaded: list[FakePatcher] = field(default_factory=list)
    loads: list[tuple[float, bool]] = field(default_factory=list)

    def get_torch_device(self) -> torch.device:
        return CPU

    def unet_offload_device(self) -> torch.device:
        return CPU

    def should_use_bf16(self, device: torch.device) -> bool:
        return False

    def load_models_gpu(
        self, models: list[FakePatcher], memory_required: float = 0, force_full_load: bool = False
    ) -> None:
        self.loads.append((memory_required, force_full_load))
        self._make_room_for(models)

    def evict_all(self) -> None:
        self._make_room_for([])

    def _make_room_for(self, models: list[FakePatcher]) -> None:
        for patcher in self.loaded:
            if patcher not in models:
                patcher.evict()
        for patcher in models:
            patcher.bring()
        self.loaded = list(models)


class FakeForgeManagement(FakeManagement):
    """As Forge's, which cannot be asked to load a model whole."""

    def load_models_gpu(self, models: list[FakePatcher], memory_required: float = 0) -> None:  # type: ignore[override]
        super().load_models_gpu(models, memory_required)
