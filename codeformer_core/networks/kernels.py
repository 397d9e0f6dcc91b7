"""Operations computed in another way than their papers write them, because it is faster or more precise.

Each has a test that holds it against the plain form, with torch's layers and with a host's.
Shape legend: B images, C channels, H W height and width, S strips of an image, G groups of channels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import norm_gradient, strips
from .operations import Operations

# torch's CPU kernel for channels_last keeps one running sum of squares per group for as many rows as a thread gets. In
# float32 that costs three digits on a 512x512 map, more with fewer threads (measured: errors of 3e-4 against 7e-7).
# A strip of this many pixels costs none; below 1024 the kernel takes another, slow way.
STRIP_PIXELS = 2048
MIN_MAP_SIZE = 128 * 128


# Kernels are mixed into a Conv2d, torch's or a host's.
_Layer = nn.Conv2d if TYPE_CHECKING else object


class ConvolutionKernel(_Layer):
    """Another arithmetic for a Conv2d layer, torch's or a host's.

    Layers bring their weights in their own way and then call `_conv_forward`, which torch does not promise to keep. So
    the shape of every result is checked: a layer that computes a plain convolution instead is an error, not a wrong
    image.
    """

    def compute(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The layer's result from its weights, in the precision and on the device of the input."""
        raise NotImplementedError

    def output_shape(self, input_shape: torch.Size) -> tuple[int, ...]:
        """The shape of `compute`'s result for an input of this shape."""
        raise NotImplementedError

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return self.compute(input, weight, bias)

    def forward(self, input: Tensor) -> Tensor:
        output: Tensor = super().forward(input)
        if output.shape != self.output_shape(input.shape):
            raise RuntimeError(
                f"{type(self).__bases__[1].__qualname__} of this torch or host computes a convolution of its own: "
                f"{tuple(output.shape)} instead of {self.output_shape(input.shape)}; please report "
                "it with the versions of torch and the host"
            )
        return output


def convolution_with(kernel: type[ConvolutionKernel], operations: Operations) -> type[nn.Conv2d]:
    """The class of a Conv2d layer from `operations` that computes `kernel`."""
    return type(f"{kernel.__name__}Conv2d", (kernel, operations.Conv2d), {})


class DoubleAndConvolve(ConvolutionKernel):
    """Nearest-neighbour doubling followed by a 3x3 convolution, computed on the small map.

    After doubling, each 3x3 window of the large map covers only 2x2 pixels of the small one; which ones depends
    on whether the output row and column are even or odd. So the pair equals four 2x2 convolutions, one per phase,
    whose weights are sums of the 3x3 weights: 4/9 of the multiplications, and the large map is written only once.
    """

    def output_shape(self, input_shape: torch.Size) -> tuple[int, ...]:
        batch, channels, height, width = input_shape
        return batch, channels, 2 * height, 2 * width

    def compute(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        trains = torch.is_grad_enabled() and (input.requires_grad or weight.requires_grad)
        if trains or torch.compiler.is_exporting():
            # Four writes into one tensor cost more in the way back than they save, and other programs know none.
            return F.conv2d(F.interpolate(input, scale_factor=2, mode="nearest"), weight, bias, padding=1)
        if strips.doubling_pays(input, weight):
            return strips.double_and_convolve(input, weight, bias)
        batch, _, height, width = input.shape
        channels = weight.shape[0]
        output_BCHW = torch.empty(
            (batch, channels, 2 * height, 2 * width),
            dtype=input.dtype,
            device=input.device,
            memory_format=torch.channels_last,
        )
        padded_BCHW = F.pad(input, (1, 1, 1, 1))
        for row, weight_row in enumerate(_merge_taps(weight, dim=2)):
            for column, weight_phase in enumerate(_merge_taps(weight_row, dim=3)):
                window_BCHW = padded_BCHW[:, :, row : row + height + 1, column : column + width + 1]
                output_BCHW[:, :, row::2, column::2] = F.conv2d(window_BCHW, weight_phase, bias)
        return output_BCHW


def _merge_taps(weight: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """3 taps on the doubled axis -> 2 taps on the small one, for even and for odd outputs."""
    first, second, third = weight.unbind(dim)
    even = torch.stack((first, second + third), dim)
    odd = torch.stack((first + second, third), dim)
    return even, odd


def apply_norm(norm: nn.Module, x_BCHW: Tensor) -> Tensor:
    """norm(x_BCHW): as the layer itself does it, or strip by strip where that is more precise and no slower."""
    # A host's layers have their weights elsewhere.
    if type(norm) is not nn.GroupNorm:
        return norm(x_BCHW)
    if torch.is_grad_enabled():
        return _norm_for_training(norm, x_BCHW)
    return _norm_in_strips(norm, x_BCHW) if _gains(x_BCHW) else norm(x_BCHW)


def _norm_for_training(norm: nn.GroupNorm, x_BCHW: Tensor) -> Tensor:
    """norm(x_BCHW) with gradients through the statistics."""
    if norm_gradient.fits(norm, x_BCHW):
        return norm_gradient.group_norm(norm, x_BCHW)
    device = x_BCHW.device.type
    if device == "cpu" and norm.weight.requires_grad and not x_BCHW.requires_grad:
        # torch 2.12's backward kernel for channels_last on a CPU crashes where the input needs no gradient. So it is
        # in the first fusion block, whose input is cut off from everything before it.
        return norm(x_BCHW.contiguous())
    if x_BCHW.dtype == torch.bfloat16 and norm.weight.dtype == torch.float32 and x_BCHW.requires_grad:
        # Autocast would keep float32 copies of the largest maps for the way back; the sums are float32 all the same.
        with torch.autocast(device, enabled=False):
            return F.group_norm(
                x_BCHW, norm.num_groups, norm.weight.to(x_BCHW.dtype), norm.bias.to(x_BCHW.dtype), norm.eps
            )
    return norm(x_BCHW)


def _gains(x_BCHW: Tensor) -> bool:
    height, width = x_BCHW.shape[2:]
    return (
        not torch.compiler.is_exporting()
        and x_BCHW.device.type == "cpu"
        and x_BCHW.dtype == torch.float32
        and height * width > MIN_MAP_SIZE
        and height % _rows(width) == 0
        and x_BCHW.is_contiguous(memory_format=torch.channels_last)
    )


def _rows(width: int) -> int:
    return max(1, STRIP_PIXELS // width)


def _norm_in_strips(norm: nn.GroupNorm, x_BCHW: Tensor) -> Tensor:
    """Every strip normed by its own mean and deviation, then one scale and shift per strip to the whole map's."""
    batch, channels, height, width = x_BCHW.shape
    rows = _rows(width)
    strips = height // rows
    # Only another look at channels_last memory, as is the way back.
    strips_NCHW = x_BCHW.permute(0, 2, 3, 1).reshape(batch * strips, rows, width, channels).permute(0, 3, 1, 2)
    normed_NCHW, mean_NG, inverse_NG = torch.native_group_norm(
        strips_NCHW, None, None, batch * strips, channels, rows * width, norm.num_groups, norm.eps
    )
    mean_BSG = mean_NG.double().view(batch, strips, -1)
    inverse_BSG = inverse_NG.double().view(batch, strips, -1)
    mean_B1G = mean_BSG.mean(1, keepdim=True)
    variance_BSG = inverse_BSG.pow(-2) - norm.eps + (mean_BSG - mean_B1G).square()
    whole_B1G = (variance_BSG.mean(1, keepdim=True) + norm.eps).rsqrt()
    scale_BSC, shift_BSC = (
        value_BSG.repeat_interleave(channels // norm.num_groups, dim=2) * norm.weight
        for value_BSG in (whole_B1G / inverse_BSG, (mean_BSG - mean_B1G) * whole_B1G)
    )
    scale_NC11, shift_NC11 = (
        value_BSC.float().view(-1, channels, 1, 1) for value_BSC in (scale_BSC, shift_BSC + norm.bias)
    )
    torch.addcmul(shift_NC11, normed_NCHW, scale_NC11, out=normed_NCHW)
    return normed_NCHW.permute(0, 2, 3, 1).reshape(batch, height, width, channels).permute(0, 3, 1, 2)
