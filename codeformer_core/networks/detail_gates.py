"""How much of each frequency band of a photo is the scene's own signal: detail against noise, blocks and screens.

A small network that sees energies, not pixels. It knows nothing of faces or restorers, so that one serves all of them.
Shape legend: B images, H W their size, N bands with a gate, E seen energies, h w a quarter of H W.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .pixel_path import EMPTY, SHRINK, split_bands

# Pixels: Gaussians that cut off the bands with a gate, finest first; what is coarser is not detail.
SIGMAS = (1.0, 2.0, 4.0)
_SEEN_SIGMAS = (0.5, 1.0, 2.0, 4.0, 8.0)
# Pixels: windows over which the direction of gradients is judged. Lines have one, noise hasn't.
_WINDOWS = (8, 16)
_SEEN = len(_SEEN_SIGMAS) + len(_WINDOWS) + 1


class DetailGates(nn.Module):
    """width: channels of the hidden layers."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.first = nn.Conv2d(_SEEN, width, 3, padding=1)
        self.middle = nn.Conv2d(width, width, 3, padding=2, dilation=2)
        self.whole = nn.Linear(2 * width, width)
        self.last = nn.Conv2d(width, len(SIGMAS), 3, padding=1)

    def forward(self, luma_B1HW: Tensor) -> Tensor:
        """logits_BNhw, finest band first; their sigmoid is 1 where a band is the scene's, 0 where it is not.

        luma_B1HW: float32, [-1, 1], sides divisible by 4.
        """
        hidden_BChw = F.silu(self.first(_seen(luma_B1HW)))
        # Noise and compression are alike everywhere in a photo.
        deviation_BC, mean_BC = torch.std_mean(hidden_BChw, dim=(2, 3), correction=0)
        whole_BC = self.whole(torch.cat((mean_BC, deviation_BC), dim=1))
        hidden_BChw = F.silu(self.middle(hidden_BChw) + whole_BC[:, :, None, None])
        return self.last(hidden_BChw)


def _seen(luma_B1HW: Tensor) -> Tensor:
    """-> (B, E + windows + 1, h, w): logarithms of energies, how much gradients have one direction, brightness."""
    energies = [F.avg_pool2d(band.square(), SHRINK) for band in split_bands(luma_B1HW, _SEEN_SIGMAS)[:-1]]
    logarithms = torch.log(torch.cat(energies, dim=1) + EMPTY) / 2 + 3
    return torch.cat((logarithms, *_coherence(luma_B1HW), F.avg_pool2d(luma_B1HW, SHRINK)), dim=1)


def _coherence(luma_B1HW: Tensor) -> list[Tensor]:
    """-> for each window (B, 1, h, w) in [0, 1]: 1 where all gradients are parallel, near 0 in noise."""
    padded = F.pad(luma_B1HW, (1, 1, 1, 1), mode="replicate")
    across = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
    down = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2
    products = F.avg_pool2d(torch.cat((across * across, down * down, across * down), dim=1), SHRINK)
    found: list[Tensor] = []
    for window in _WINDOWS:
        cells = window // SHRINK + 1
        around = F.avg_pool2d(products, cells, 1, cells // 2, count_include_pad=False)
        around = around[..., : products.shape[2], : products.shape[3]]
        xx, yy, xy = around[:, 0:1], around[:, 1:2], around[:, 2:3]
        found.append(((xx - yy).square() + 4 * xy.square()).sqrt() / (xx + yy + EMPTY))
    return found
