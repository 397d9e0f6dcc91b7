"""EfficientNet-lite0 as a source of image features: the stem and the blocks, without the classifier.

Sources: Tan and Le 2019, arXiv 1905.11946 (the table of B0), Sandler et al. 2018, arXiv 1801.04381 (inverted residuals,
ReLU6). "lite" has no squeeze-and-excitation, and ReLU6 in place of swish. Every batch normalisation is already folded
into the convolution before it, see `weights/feature_network.py`: the network is only ever run, not trained.
Shape legend: B images, C channels, H W height and width, h w of a feature map.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from .containers import ModuleList

STEM = -1
STEM_CHANNELS = 32


@dataclass(frozen=True)
class BlockShape:
    """An inverted residual: 1x1 convolution to in_channels * expansion, depthwise convolution, 1x1 to out_channels."""

    in_channels: int
    out_channels: int
    expansion: int
    kernel: int
    stride: int


def _blocks() -> Iterator[BlockShape]:
    # Table 1 of the paper: out channels, expansion, kernel, stride of the first, blocks.
    stages = [
        (16, 1, 3, 1, 1),
        (24, 6, 3, 2, 2),
        (40, 6, 5, 2, 2),
        (80, 6, 3, 2, 3),
        (112, 6, 5, 1, 3),
        (192, 6, 5, 2, 4),
        (320, 6, 3, 1, 1),
    ]
    channels = STEM_CHANNELS
    for out_channels, expansion, kernel, stride, count in stages:
        for number in range(count):
            yield BlockShape(channels, out_channels, expansion, kernel, stride if number == 0 else 1)
            channels = out_channels


BLOCKS = tuple(_blocks())


class EfficientNetLite0(nn.Module):
    """`module(images_B3HW)` -> one feature map (B, C, h, w) per layer asked for, in that order.

    images_B3HW: float RGB, scaled as the weights expect it, any size.
    """

    def __init__(self, layers: Sequence[int]) -> None:
        """layers: block numbers 0..15, STEM for the stem. Blocks after the last one are not built.
        Raises ValueError for an unknown, repeated or missing layer.
        """
        super().__init__()
        known = (STEM, *range(len(BLOCKS)))
        if not layers or len(set(layers)) != len(layers) or not set(layers) <= set(known):
            raise ValueError(f"layers must be different numbers of {STEM} (the stem) to {known[-1]}, got {layers}")
        self.layers = tuple(layers)
        self.stem = SameConv2d(3, STEM_CHANNELS, 3, stride=2)
        self.blocks = ModuleList(InvertedResidual(shape) for shape in BLOCKS[: max(layers) + 1])

    def forward(self, images_B3HW: Tensor) -> list[Tensor]:
        x_BChw = F.relu6(self.stem(images_B3HW))
        found = {STEM: x_BChw}
        for number, block in enumerate(self.blocks):
            found[number] = x_BChw = block(x_BChw)
        return [found[layer] for layer in self.layers]


class InvertedResidual(nn.Module):
    """x_BChw -> (B, out_channels, h / stride, w / stride); adds x where the shape stays."""

    def __init__(self, shape: BlockShape) -> None:
        super().__init__()
        width = shape.in_channels * shape.expansion
        self.expand = nn.Conv2d(shape.in_channels, width, 1) if shape.expansion > 1 else None
        self.depthwise = SameConv2d(width, width, shape.kernel, shape.stride, groups=width)
        self.project = nn.Conv2d(width, shape.out_channels, 1)
        self.adds_input = shape.stride == 1 and shape.in_channels == shape.out_channels

    def forward(self, x_BChw: Tensor) -> Tensor:
        y_BChw = x_BChw if self.expand is None else F.relu6(self.expand(x_BChw))
        y_BChw = self.project(F.relu6(self.depthwise(y_BChw)))
        return x_BChw + y_BChw if self.adds_input else y_BChw


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's "SAME" padding: of an odd number of rows to add, the odd one is at the end."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int, groups: int = 1) -> None:
        # With stride 1 both ends get the same, which the convolution does without a copy.
        super().__init__(in_channels, out_channels, kernel, stride, kernel // 2 if stride == 1 else 0, groups=groups)

    def forward(self, input: Tensor) -> Tensor:
        if self.stride[0] > 1:
            height, width = (self._missing(size) for size in input.shape[2:])
            input = F.pad(input, (width // 2, width - width // 2, height // 2, height - height // 2))
        return super().forward(input)

    def _missing(self, size: int) -> int:
        stride, kernel = self.stride[0], self.kernel_size[0]
        outputs = -(-size // stride)
        return max((outputs - 1) * stride + kernel - size, 0)
