"""The building blocks that the encoder, the generator and the fusion share.

Shape legend: B images, C channels, H W height and width, T = H*W tokens.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from . import strips
from .kernels import DoubleAndConvolve, apply_norm, convolution_with
from .operations import Device, DType, LayerOptions, Operations

# The published 32 groups, but at least two channels in each: a channel normed alone loses its mean over the image,
# and with it, in the last norm, the image's colour.
NORM_GROUPS = 32
NORM_EPSILON = 1e-6


def group_norm(channels: int, device: Device, dtype: DType, operations: Operations) -> nn.Module:
    groups = min(NORM_GROUPS, channels // 2)
    if groups == 0 or channels % groups:
        raise ValueError(f"group norm needs an even number of channels, above 64 a multiple of 32, got {channels}")
    return operations.GroupNorm(groups, channels, eps=NORM_EPSILON, affine=True, device=device, dtype=dtype)


def norm_swish(norm: nn.Module, x_BCHW: Tensor) -> Tensor:
    """Norm, then swish written over the norm's own output: one image-sized buffer less.

    Not for gradients: they need the output, and torch would copy it first.
    """
    normed_BCHW = apply_norm(norm, x_BCHW)
    return F.silu(normed_BCHW, inplace=not normed_BCHW.requires_grad)


class ResidualBlock(nn.Module):
    """(norm, swish, 3x3 convolution) twice, added to the input (through a 1x1 convolution where channels differ)."""

    def __init__(
        self, in_channels: int, out_channels: int, *, device: Device, dtype: DType, operations: Operations
    ) -> None:
        super().__init__()
        options: LayerOptions = {"device": device, "dtype": dtype}
        self.norm1 = group_norm(in_channels, device, dtype, operations)
        self.conv1 = operations.Conv2d(in_channels, out_channels, 3, padding=1, **options)
        self.norm2 = group_norm(out_channels, device, dtype, operations)
        self.conv2 = operations.Conv2d(out_channels, out_channels, 3, padding=1, **options)
        self.shortcut = (
            nn.Identity() if in_channels == out_channels else operations.Conv2d(in_channels, out_channels, 1, **options)
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        if strips.pays(x_BCHW, self.norm1, self.conv1, self.norm2, self.conv2, self.shortcut):
            hidden_BCHW = strips.convolve(self.conv1, x_BCHW, strips.norm_swish(self.norm1, x_BCHW))
            prepare = strips.norm_swish(self.norm2, hidden_BCHW)
            return strips.convolve(self.conv2, hidden_BCHW, prepare, x_BCHW, self.shortcut)
        hidden_BCHW = self.conv1(norm_swish(self.norm1, x_BCHW))
        hidden_BCHW = self.conv2(norm_swish(self.norm2, hidden_BCHW))
        return hidden_BCHW.add_(self.shortcut(x_BCHW))


class SpatialAttention(nn.Module):
    """Single-head self-attention over all positions, added to the input."""

    def __init__(self, channels: int, *, device: Device, dtype: DType, operations: Operations) -> None:
        super().__init__()
        options: LayerOptions = {"device": device, "dtype": dtype}
        self.norm = group_norm(channels, device, dtype, operations)
        self.query = operations.Conv2d(channels, channels, 1, **options)
        self.key = operations.Conv2d(channels, channels, 1, **options)
        self.value = operations.Conv2d(channels, channels, 1, **options)
        self.out = operations.Conv2d(channels, channels, 1, **options)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        normed_BCHW = self.norm(x_BCHW)
        query_B1TC, key_B1TC, value_B1TC = (
            projection(normed_BCHW).flatten(2).transpose(1, 2).unsqueeze(1)
            for projection in (self.query, self.key, self.value)
        )
        attended_B1TC = F.scaled_dot_product_attention(query_B1TC, key_B1TC, value_B1TC)
        attended_BCHW = attended_B1TC.squeeze(1).transpose(1, 2).reshape_as(x_BCHW)
        return x_BCHW + self.out(attended_BCHW)


class Downsample(nn.Module):
    """Halves the image: one zero right and below, then a 3x3 convolution of stride 2."""

    def __init__(self, channels: int, *, device: Device, dtype: DType, operations: Operations) -> None:
        super().__init__()
        self.conv = operations.Conv2d(channels, channels, 3, stride=2, device=device, dtype=dtype)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.conv(F.pad(x_BCHW, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Doubles the image (nearest neighbour), then a 3x3 convolution."""

    def __init__(self, channels: int, *, device: Device, dtype: DType, operations: Operations) -> None:
        super().__init__()
        self.conv = convolution_with(DoubleAndConvolve, operations)(
            channels, channels, 3, padding=1, device=device, dtype=dtype
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.conv(x_BCHW)
