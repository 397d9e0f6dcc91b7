"""A network with one weight for each colour."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class GainConfig:
    image_size: int


class Gain(nn.Module):
    """Multiplies each colour with its own factor."""

    def __init__(self, config: GainConfig, *, device=None, dtype=None, operations=nn) -> None:
        super().__init__()
        self.config = config
        self.gain = operations.Conv2d(3, 3, 1, groups=3, bias=False, device=device, dtype=dtype)

    def forward(self, faces_B3HW: Tensor, fidelity: float) -> Tensor:
        """Fidelity 1 gives the faces back as they came."""
        return fidelity * faces_B3HW + (1 - fidelity) * self.gain(faces_B3HW)
