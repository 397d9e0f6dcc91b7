"""MediaPipe's face mesh network: 468 points of a face, and how sure it is to see one.

Source: the graph of `face_landmark.tflite` ("facemesh-lite", MediaPipe 0.10.14, Apache-2.0); the network is that of
Kartynnik et al. 2019, arXiv 1907.06724.
Shape legend: B faces, S = 192 side of a face, C channels, h w of a feature map, N = 468 points.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

SEEN_SIDE = 192
POINTS = 468
# Channels of the blocks that both heads share; every step to the next stage halves the size.
_STAGES = ((16, 2), (32, 3), (64, 3), (128, 3), (128, 3))
_NARROW = 32


class FaceMesh(nn.Module):
    """`module(faces_B3SS)` -> (points_BN3, logits_B)."""

    def __init__(self) -> None:
        super().__init__()
        channels = _STAGES[0][0]
        self.stem = nn.Conv2d(3, channels, 3, stride=2)
        self.stem_activation = nn.PReLU(channels)
        blocks: list[Block] = []
        for stage, (out_channels, count) in enumerate(_STAGES):
            for number in range(count):
                blocks.append(Block(channels, out_channels, halves=stage > 0 and number == 0))
                channels = out_channels
        self.blocks = nn.Sequential(*blocks)
        self.points = Head(channels, 3, 3 * POINTS)
        self.flag = Head(channels, 1, 1)

    def forward(self, faces_B3SS: Tensor) -> tuple[Tensor, Tensor]:
        """faces_B3SS: RGB in [0, 1].

        points_BN3: x and y in pixels of the face, measured from its edges; z in the same unit, smaller is nearer.
        logits_B: above 0 where it is a face.
        """
        x_BChw = self.stem_activation(self.stem(_padded(faces_B3SS)))
        x_BChw = self.blocks(x_BChw)
        return self.points(x_BChw).unflatten(1, (POINTS, 3)), self.flag(x_BChw)[:, 0]


class Block(nn.Module):
    """A depthwise and a 1x1 convolution, added to the input: as it is, or its maxima and channels of zeros."""

    def __init__(self, in_channels: int, out_channels: int, halves: bool = False) -> None:
        super().__init__()
        self.halves = halves
        self.added_channels = out_channels - in_channels
        self.depthwise = nn.Conv2d(
            in_channels, in_channels, 3, 2 if halves else 1, 0 if halves else 1, groups=in_channels
        )
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1)
        self.activation = nn.PReLU(out_channels)

    def forward(self, x_BChw: Tensor) -> Tensor:
        y_BChw = self.pointwise(self.depthwise(_padded(x_BChw) if self.halves else x_BChw))
        if self.halves:
            x_BChw = F.max_pool2d(x_BChw, 2)
        if self.added_channels:
            x_BChw = F.pad(x_BChw, (0, 0, 0, 0, 0, self.added_channels))
        return self.activation(x_BChw + y_BChw)


class Head(nn.Module):
    """Blocks of which the first halves, fewer channels, one block more, and a convolution over all that is left."""

    def __init__(self, channels: int, blocks: int, outputs: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(Block(channels, channels, halves=number == 0) for number in range(blocks)))
        self.narrow = nn.Conv2d(channels, _NARROW, 1)
        self.narrow_activation = nn.PReLU(_NARROW)
        self.last_block = Block(_NARROW, _NARROW)
        self.output = nn.Conv2d(_NARROW, outputs, SEEN_SIDE // 2 ** (len(_STAGES) + 1))

    def forward(self, x_BChw: Tensor) -> Tensor:
        """-> (B, outputs)"""
        x_BChw = self.narrow_activation(self.narrow(self.blocks(x_BChw)))
        return self.output(self.last_block(x_BChw)).flatten(1)


def _padded(x_BChw: Tensor) -> Tensor:
    """One row and one column of zeros behind an even size: what TensorFlow's padding "same" does where it halves."""
    return F.pad(x_BChw, (0, 1, 0, 1))
