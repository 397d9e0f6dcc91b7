"""A small fully convolutional network: for each cell of three grids a score, a box and five landmarks.

Plain 3x3 convolutions, because these are what CPUs are best at. While training most are followed by a batch norm, which
`fold_norms` multiplies into the convolution for use, so that an image of 640x640 takes 1.1 billion multiplications.

Shape legend: B images, H W height and width, C channels, h w the cells of one grid.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# View pixels from one cell to the next, for each grid.
STRIDES = (8, 16, 32)
# One score, four numbers for the box, ten for the landmarks.
OUTPUTS = 15
# So rare are faces: the score with which training begins.
_FIRST_SCORE_LOGIT = -4.6


class StarterNetwork(nn.Module):
    """has_norms: with batch norms, for training; the weights that are shipped have none."""

    def __init__(self, has_norms: bool = False) -> None:
        super().__init__()
        self.has_norms = has_norms
        self.fine = nn.Sequential(
            Block(3, 16, 2, has_norms),
            Block(16, 24, 2, has_norms),
            Block(24, 24, 1, has_norms),
            Block(24, 48, 2, has_norms),
            Block(48, 48, 1, has_norms),
            Block(48, 48, 1, has_norms),
        )
        self.middle = nn.Sequential(Block(48, 64, 2, has_norms), Block(64, 64, 1, has_norms))
        self.coarse = nn.Sequential(
            Block(64, 64, 2, has_norms), Block(64, 64, 1, has_norms), Block(64, 64, 1, has_norms)
        )
        self.sides = nn.ModuleList(nn.Conv2d(channels, 48, 1) for channels in (48, 64, 64))
        # One head for all grids: a face looks the same in each, only its size is counted in other cells. No norms even
        # while training, for each grid has statistics of its own.
        self.head = nn.Sequential(Block(48, 48, 1, False), Block(48, 48, 1, False))
        self.outputs = nn.ModuleList(nn.Conv2d(48, OUTPUTS, 1) for _ in STRIDES)
        for output in self.outputs:
            assert isinstance(output, nn.Conv2d) and output.bias is not None
            nn.init.normal_(output.weight, std=0.01)
            nn.init.zeros_(output.bias)
            nn.init.constant_(output.bias[:1], _FIRST_SCORE_LOGIT)

    def forward(self, views_B3HW: Tensor) -> list[Tensor]:
        """outputs_B15hw for each of STRIDES, see `decode`.

        views_B3HW: BGR in [-1, 1], sides divisible by 32.
        """
        fine = self.fine(views_B3HW)
        middle = self.middle(fine)
        coarse = self.coarse(middle)
        side_fine, side_middle, side_coarse = (
            side(features) for side, features in zip(self.sides, (fine, middle, coarse), strict=True)
        )
        side_middle = side_middle + F.interpolate(side_coarse, scale_factor=2.0, mode="nearest")
        side_fine = side_fine + F.interpolate(side_middle, scale_factor=2.0, mode="nearest")
        levels = (side_fine, side_middle, side_coarse)
        return [output(self.head(level.relu())) for output, level in zip(self.outputs, levels, strict=True)]


class Block(nn.Module):
    """A 3x3 convolution, a batch norm where there still is one, and ReLU."""

    def __init__(self, channels_in: int, channels_out: int, stride: int, has_norm: bool) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=not has_norm)
        nn.init.kaiming_normal_(self.convolution.weight, nonlinearity="relu")
        self.norm = nn.BatchNorm2d(channels_out) if has_norm else None

    def forward(self, features_BCHW: Tensor) -> Tensor:
        features_BCHW = self.convolution(features_BCHW)
        if self.norm is not None:
            features_BCHW = self.norm(features_BCHW)
        return features_BCHW.relu_()


@torch.no_grad()
def fold_norms(network: StarterNetwork) -> StarterNetwork:
    """A copy on the CPU without batch norms that answers as `network` does in eval mode."""
    folded = StarterNetwork()
    state: dict[str, Tensor] = {}
    # torch leaves the method without types.
    for name, module in cast("Iterator[tuple[str, nn.Module]]", network.named_modules()):
        if isinstance(module, Block) and module.norm is not None:
            norm = module.norm
            assert norm.running_mean is not None and norm.running_var is not None
            gain_C = norm.weight / torch.sqrt(norm.running_var + norm.eps)
            state[f"{name}.convolution.weight"] = module.convolution.weight * gain_C[:, None, None, None]
            state[f"{name}.convolution.bias"] = norm.bias - norm.running_mean * gain_C
    for name, tensor in network.state_dict().items():
        if name in folded.state_dict() and name not in state:
            state[name] = tensor
    folded.load_state_dict({name: tensor.float().cpu().contiguous() for name, tensor in state.items()})
    return folded.eval().requires_grad_(False)
