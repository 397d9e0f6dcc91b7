"""The pixel path's gates: open where the input still has the clean face's own signal, shut where it lost it or where
noise took its place.

Shape legend: B faces, H W height and width, N frequency bands, h w the gates' own size; RGB in [-1, 1].
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ...networks.pixel_path import EMPTY, SHRINK, split_bands

# Gates are taught by windows of so many gates' sides: 16 pixels.
WINDOW = 4


@torch.no_grad()
def gates_wanted(input_B3HW: Tensor, clean_B3HW: Tensor, sigmas: tuple[float, ...]) -> Tensor:
    """wanted_BNhw in [0, 1]: for each band and window the share of the signal that both faces have in common,
    <input, clean> / max(<input, input>, <clean, clean>).

    1 where the input is clean, or both are empty; 0 where the input's band is noise, or gone. What the network made
    doesn't matter: where the input has lost its detail, painted detail isn't taken back.
    """
    pairs = zip(split_bands(input_B3HW.float(), sigmas), split_bands(clean_B3HW.float(), sigmas), strict=True)
    wanted: list[Tensor] = []
    for band, (input_band, clean_band) in enumerate(pairs):
        if band == len(sigmas):
            # The last band has the mean in it, beside which every error would be small.
            mean = F.avg_pool2d(clean_band, input_B3HW.shape[-1])
            input_band, clean_band = input_band - mean, clean_band - mean
        common, of_input, of_clean = (
            F.avg_pool2d(product.mean(1, keepdim=True), SHRINK * WINDOW)
            for product in (input_band * clean_band, input_band.square(), clean_band.square())
        )
        wanted.append((common + EMPTY) / (torch.maximum(of_input, of_clean) + EMPTY))
    return torch.cat(wanted, dim=1).clamp(0, 1)


def gate_loss(logits_BNhw: Tensor, wanted_BNhw: Tensor) -> Tensor:
    """Cross-entropy, whose gradient doesn't vanish where a gate is wide open or shut. wanted: see `gates_wanted`."""
    logits_BNhw = logits_BNhw.float()
    wanted_BNhw = F.interpolate(wanted_BNhw, size=logits_BNhw.shape[2:], mode="nearest")
    return F.binary_cross_entropy_with_logits(logits_BNhw, wanted_BNhw)
