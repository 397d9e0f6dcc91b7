"""Norm, swish and convolution of large maps on a CPU, a few rows at a time.

Layer by layer, each step reads and writes a map of 64 MiB, and the system first has to clear new memory for it; a strip
of rows stays in the processor's cache from the norm to the convolution. In float32, convolutions between many channels
are computed by Winograd's method (arXiv 1509.09308, F(4x4, 3x3)): 36 multiplications for 16 outputs instead of 144.

Shape legend: B images, C channels in, O channels out, H W height and width, R rows of a strip, T tiles of 4x4 outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Writes the convolution's input for some rows: (image, the map's rows as R W C, where to write R W C).
Prepare = Callable[[int, Tensor, Tensor], None]

# Smaller maps stay in the cache by themselves.
MIN_MAP_SIZE = {torch.float32: 128 * 128, torch.bfloat16: 256 * 256}
# Numbers of a strip for each thread: 2 MiB in float32. In bfloat16 the convolutions are so fast that calls count.
_STRIP_SIZE = {torch.float32: 2**19, torch.bfloat16: 2**21}
# torch sums a strip of this many pixels in float32 without a loss that matters; whole maps lose three digits.
_SUMMED_PIXELS = 2048
# With fewer channels the transforms cost more than the multiplications saved.
_MIN_WINOGRAD_CHANNELS = 64
_TILES_AT_ONCE = 128

# Winograd's matrices for 4 outputs of 3 taps, from the points 0, 1, -1, 2, -2 (table in the paper's section 4.2).
_INPUT = torch.tensor(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
    dtype=torch.float32,
)
_TAPS = torch.tensor(
    [[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]],
    dtype=torch.float32,
) / 24  # fmt: skip
_OUTPUT = torch.tensor(
    [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]],
    dtype=torch.float32,
)
# Each row and column of a doubled map stands there twice: 6 of its pixels are these 4 of the small one.
_DOUBLED = torch.tensor(
    [[1, 0, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 0], [0, 0, 0, 1]], dtype=torch.float32
)
# What the third row of `_INPUT` would make of them is 0.
_NOT_ZERO = [0, 1, 3, 4, 5]


@dataclass(frozen=True)
class _Form:
    """Winograd's matrices for both axes at once, P products for 16 outputs.

    patch, step: side of the pixels that a tile sees, and from one tile to the next.
    input_PN, taps_P9, output_16P: pixels -> factors, 3x3 weights -> factors, products -> outputs.
    """

    patch: int
    step: int
    input_PN: Tensor
    taps_P9: Tensor
    output_16P: Tensor


def _form(patch: int, step: int, *matrices: Tensor) -> _Form:
    return _Form(patch, step, *(torch.kron(matrix, matrix).contiguous() for matrix in matrices))


_PLAIN = _form(6, 4, _INPUT, _TAPS, _OUTPUT)
_OF_DOUBLED = _form(4, 2, (_INPUT @ _DOUBLED)[_NOT_ZERO], _TAPS[_NOT_ZERO], _OUTPUT[:, _NOT_ZERO])


def pays(x_BCHW: Tensor, *layers: nn.Module) -> bool:
    """Whether layers are computed in strips for this input: torch's own, as a host's have their weights elsewhere."""
    height, width = x_BCHW.shape[2:]
    return (
        x_BCHW.device.type == "cpu"
        and x_BCHW.dtype in MIN_MAP_SIZE
        and height * width >= MIN_MAP_SIZE[x_BCHW.dtype]
        and height % 4 == width % 4 == 0
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and x_BCHW.is_contiguous(memory_format=torch.channels_last)
        and all(type(layer) in (nn.Conv2d, nn.GroupNorm, nn.Identity) for layer in layers)
        and all(parameter.dtype == x_BCHW.dtype for layer in layers for parameter in layer.parameters())
    )


def norm_swish(norm: nn.Module, x_BCHW: Tensor) -> Prepare:
    """Group norm, then swish, for `convolve`."""
    scale_BC, shift_BC = _scale_and_shift(norm, x_BCHW)

    def prepare(image: int, rows_RWC: Tensor, out_RWC: Tensor) -> None:
        torch.addcmul(shift_BC[image], rows_RWC, scale_BC[image], out=out_RWC)
        F.silu(out_RWC, inplace=True)

    return prepare


def norm_alone(norm: nn.Module, x_BCHW: Tensor) -> Prepare:
    """Group norm for `convolve`."""
    scale_BC, shift_BC = _scale_and_shift(norm, x_BCHW)

    def prepare(image: int, rows_RWC: Tensor, out_RWC: Tensor) -> None:
        torch.addcmul(shift_BC[image], rows_RWC, scale_BC[image], out=out_RWC)

    return prepare


def unchanged(image: int, rows_RWC: Tensor, out_RWC: Tensor) -> None:
    """The map as it is, for `convolve`."""
    out_RWC.copy_(rows_RWC)


def leaky(image: int, rows_RWC: Tensor, out_RWC: Tensor) -> None:
    """Leaky ReLU of slope 0.2, for `convolve`."""
    out_RWC.copy_(F.leaky_relu(rows_RWC, 0.2))


def convolve(
    conv: nn.Conv2d,
    x_BCHW: Tensor,
    prepare: Prepare,
    beside_BCHW: Tensor | None = None,
    shortcut: nn.Module | None = None,
) -> Tensor:
    """conv(prepared x_BCHW), plus shortcut(beside_BCHW) where these are given.

    conv: 3x3, padding 1.
    prepare: makes the convolution's input.
    shortcut: sees each pixel alone.
    """
    wide = min(conv.in_channels, conv.out_channels) >= _MIN_WINOGRAD_CHANNELS
    fewer = wide and x_BCHW.dtype == torch.float32
    compute = _Winograd(conv.weight, conv.bias, _PLAIN) if fewer else _Direct(conv.weight, conv.bias)

    def finish(image: int, first: int, last: int, out_RWO: Tensor) -> None:
        if beside_BCHW is not None and shortcut is not None:
            out_RWO += _rows_last(shortcut(_channels_first(beside_BCHW.permute(0, 2, 3, 1)[image, first:last])))

    return _in_strips(x_BCHW, conv.out_channels, 1, prepare, compute, finish)


def doubling_pays(x_BCHW: Tensor, weight: Tensor) -> bool:
    """Whether `double_and_convolve` is faster than other ways."""
    return pays(x_BCHW) and x_BCHW.dtype == torch.float32 and min(weight.shape[:2]) >= _MIN_WINOGRAD_CHANNELS


def double_and_convolve(x_BCHW: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """3x3 convolution, padding 1, of the map with each pixel twice in both directions; 25 products for 16 outputs."""
    return _in_strips(x_BCHW, weight.shape[0], 2, unchanged, _Winograd(weight, bias, _OF_DOUBLED), None)


def _in_strips(
    x_BCHW: Tensor,
    out_channels: int,
    scale: int,
    prepare: Prepare,
    compute: Callable[[Tensor, Tensor], None],
    finish: Callable[[int, int, int, Tensor], None] | None,
) -> Tensor:
    """y_BOHW, `scale` times as large as x_BCHW.

    compute: padded rows, where to write their outputs.
    finish: image, first row, row after the last, their outputs, which it changes.
    """
    batch, channels, height, width = x_BCHW.shape
    x_BHWC = x_BCHW.permute(0, 2, 3, 1)
    y_BHWO = x_BCHW.new_empty(batch, scale * height, scale * width, out_channels)
    rows = max(4, _STRIP_SIZE[x_BCHW.dtype] * torch.get_num_threads() // (width * channels) // 4 * 4)
    # Zeros stay around the rows: the convolution's padding.
    padded_RWC = x_BCHW.new_zeros(min(rows, height) + 2, width + 2, channels)
    for image in range(batch):
        padded_RWC[0] = 0
        for first in range(0, height, rows):
            last = min(first + rows, height)
            above, below = max(first - 1, 0), min(last + 1, height)
            offset = above - first + 1
            prepare(image, x_BHWC[image, above:below], padded_RWC[offset : offset + below - above, 1:-1])
            if below == last:
                padded_RWC[last - first + 1] = 0
            out_RWO = y_BHWO[image, scale * first : scale * last]
            compute(padded_RWC[: last - first + 2], out_RWO)
            if finish is not None:
                finish(image, first, last, out_RWO)
    return y_BHWO.permute(0, 3, 1, 2)


class _Direct:
    """A plain convolution of padded rows."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.weight, self.bias = weight, bias

    def __call__(self, padded_RWC: Tensor, out_RWO: Tensor) -> None:
        out_RWO.copy_(_rows_last(F.conv2d(_channels_first(padded_RWC), self.weight, self.bias)))


class _Winograd:
    """The same in float32 with fewer multiplications; outputs have multiples of 4 rows and columns."""

    def __init__(self, weight: Tensor, bias: Tensor | None, form: _Form) -> None:
        outputs, channels = weight.shape[:2]
        self.form = form
        self.bias = weight.new_zeros(outputs) if bias is None else bias
        self.weight_PCO = (form.taps_P9 @ weight.permute(2, 3, 1, 0).reshape(9, -1)).view(-1, channels, outputs)

    def __call__(self, padded_RWC: Tensor, out_RWO: Tensor) -> None:
        height, width, outputs = out_RWO.shape
        form, across, all_down = self.form, width // 4, height // 4
        products, channels = self.weight_PCO.shape[:2]
        down = min(all_down, max(1, _TILES_AT_ONCE * torch.get_num_threads() // across))
        row, column, _ = padded_RWC.stride()
        strides = (row, column, form.step * row, form.step * column, 1)
        # Numbers of each step for a tile; every group of tiles takes the same memory.
        sizes = (form.patch**2 * channels, products * channels, products * outputs, 16 * outputs)
        buffers = [padded_RWC.new_empty(size * down * across) for size in sizes]
        for first in range(0, all_down, down):
            here = min(down, all_down - first)
            tiles = here * across
            seen, factors, made, result = (buffer[: size * tiles] for buffer, size in zip(buffers, sizes, strict=True))
            shape = (form.patch, form.patch, here, across, channels)
            seen.view(shape).copy_(padded_RWC[form.step * first :].as_strided(shape, strides))
            torch.mm(form.input_PN, seen.view(form.patch**2, -1), out=factors.view(products, -1))
            factors_PTC, made_PTO = factors.view(products, tiles, channels), made.view(products, tiles, outputs)
            torch.bmm(factors_PTC, self.weight_PCO, out=made_PTO)
            torch.mm(form.output_16P, made.view(products, -1), out=result.view(16, -1))
            result_44HWO = result.view(4, 4, here, across, outputs)
            rows_H4W4O = out_RWO[4 * first : 4 * (first + here)].view(here, 4, across, 4, outputs)
            torch.add(result_44HWO.permute(2, 0, 3, 1, 4), self.bias, out=rows_H4W4O)


def _channels_first(rows_RWC: Tensor) -> Tensor:
    """(R, W, C) -> (1, C, R, W), the same memory in channels_last."""
    return rows_RWC[None].permute(0, 3, 1, 2)


def _rows_last(x_1CRW: Tensor) -> Tensor:
    return x_1CRW[0].permute(1, 2, 0)


def _scale_and_shift(norm: nn.Module, x_BCHW: Tensor) -> tuple[Tensor, Tensor]:
    """(B, C) float32 each: norm(x) = x * scale + shift."""
    assert isinstance(norm, nn.GroupNorm)
    batch, _, height, width = x_BCHW.shape
    rows = max(1, _SUMMED_PIXELS // width)
    x_BHWC = x_BCHW.permute(0, 2, 3, 1)
    scales: list[Tensor] = []
    shifts: list[Tensor] = []
    for image in range(batch):
        found = [
            torch.batch_norm_update_stats(_channels_first(strip_RWC), None, None, 0.0)
            for strip_RWC in torch.split(x_BHWC[image], rows)
        ]
        # Strips are of one size but for the last.
        share_S1 = torch.tensor([len(strip) for strip in torch.split(torch.arange(height), rows)]).double()[:, None]
        share_S1 /= height
        mean_SC = torch.stack([mean for mean, _ in found]).double()
        variance_SC = torch.stack([variance for _, variance in found]).double()
        mean_SG = torch.unflatten(mean_SC, 1, (norm.num_groups, -1))
        mean_G1 = (mean_SG.mean(2) * share_S1).sum(0)[:, None]
        around = torch.unflatten(variance_SC, 1, (norm.num_groups, -1)) + (mean_SG - mean_G1).square()
        variance_G1 = (around.mean(2) * share_S1).sum(0)[:, None]
        scale_GC = (variance_G1 + norm.eps).rsqrt() * torch.unflatten(norm.weight.double(), 0, (norm.num_groups, -1))
        shift_GC = torch.unflatten(norm.bias.double(), 0, (norm.num_groups, -1)) - mean_G1 * scale_GC
        scales.append(scale_GC.flatten().float())
        shifts.append(shift_GC.flatten().float())
    return torch.stack(scales).to(x_BCHW.dtype), torch.stack(shifts).to(x_BCHW.dtype)
