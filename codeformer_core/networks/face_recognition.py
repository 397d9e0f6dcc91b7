"""dlib's face recognition network: a 150-pixel face chip to 128 numbers that say who it is.

Source: Davis King, dlib's `face_recognition_resnet_model_v1` (2017), 29 convolutions after He et al. 2015, arXiv
1512.03385; here rebuilt from the names and shapes of its weights. The factor and offset per channel behind every
convolution are folded into it, see `weights/face_recognition.py`.
Shape legend: B chips, S = 150 side of a chip, C channels, h w of a feature map.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .containers import ModuleList

CHIP_SIDE = 150
DESCRIPTOR_SIZE = 128
# Mean colour of dlib's training faces, RGB in 0..255, and what dlib divides by.
MEAN_RGB = (122.782, 117.001, 104.298)
RANGE = 256.0
# Channels of a stage and its blocks; every stage but the first begins by halving the size.
_STAGES = ((32, 3), (64, 4), (128, 3), (256, 3), (256, 1))


class FaceRecognition(nn.Module):
    """`module(chips_B3SS)` -> descriptors (B, 128). Below a distance of 0.6 two are taken for the same person."""

    mean_311: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 7, stride=2)
        blocks: list[ResidualBlock] = []
        channels = 32
        for stage, (out_channels, count) in enumerate(_STAGES):
            for number in range(count):
                blocks.append(ResidualBlock(channels, out_channels, halves=stage > 0 and number == 0))
                channels = out_channels
        self.blocks = ModuleList(blocks)
        self.head = nn.Linear(channels, DESCRIPTOR_SIZE, bias=False)
        self.register_buffer("mean_311", torch.tensor(MEAN_RGB).view(3, 1, 1), persistent=False)

    def forward(self, chips_B3SS: Tensor) -> Tensor:
        """chips_B3SS: RGB in [0, 1]."""
        x_BChw = F.relu(self.stem((chips_B3SS * 255 - self.mean_311) / RANGE))
        x_BChw = F.max_pool2d(x_BChw, 3, 2)
        for block in self.blocks:
            x_BChw = block(x_BChw)
        return self.head(x_BChw.mean((2, 3)))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, added to the input: as it is, or averaged down by 2 and with channels of zeros."""

    def __init__(self, in_channels: int, out_channels: int, halves: bool) -> None:
        super().__init__()
        self.halves = halves
        # No padding where it halves: of an even side, the result is one row smaller than the averaged input.
        self.first = nn.Conv2d(in_channels, out_channels, 3, 2 if halves else 1, 0 if halves else 1)
        self.second = nn.Conv2d(out_channels, out_channels, 3, padding=1)

    def forward(self, x_BChw: Tensor) -> Tensor:
        y_BChw = self.second(F.relu(self.first(x_BChw)))
        if self.halves:
            x_BChw = F.avg_pool2d(x_BChw, 2)
            x_BChw = _padded(x_BChw, y_BChw.shape[1], *x_BChw.shape[2:])
            y_BChw = _padded(y_BChw, *x_BChw.shape[1:])
        return F.relu(x_BChw + y_BChw)


def _padded(x_BChw: Tensor, channels: int, height: int, width: int) -> Tensor:
    """Zeros added at the end of each axis."""
    missing = (width - x_BChw.shape[3], height - x_BChw.shape[2], channels - x_BChw.shape[1])
    return F.pad(x_BChw, (0, missing[0], 0, missing[1], 0, missing[2])) if any(missing) else x_BChw
