"""The pixel path: frequency bands of the input, let through to the output by a learned gate.

Not part of the published CodeFormer, which makes every output pixel from codes and fused features. A small network
can't paint a sharp photo's own detail; with this path it needn't.
Shape legend: B faces, C channels, H W height and width, N frequency bands, E bands whose energy is seen, h w a quarter
of H W, S side of an image, K places of a blur; faces are RGB, about [-1, 1].
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .operations import Device, DType, LayerOptions, Operations

# Gates are found at a side divided by this.
SHRINK = 4
# Variance below which a band is empty: four times that of rounding to 8 bits, in [-1, 1].
EMPTY = 4 * (2 / 255) ** 2 / 12
# A Gaussian's weights beyond so many sigmas are left out.
_REACH_IN_SIGMAS = 3
# Pixels of a row that are blurred at a time: longer rows would mostly be multiplied by zeros.
_PIECE = 64


@dataclass(frozen=True)
class PixelPathConfig:
    """sigmas: pixels, ascending; Gaussians that cut the difference into len + 1 bands, finest first.
    width: channels of the gate's hidden layers.
    """

    sigmas: tuple[float, ...]
    width: int

    def __post_init__(self) -> None:
        ascends = all(low < high for low, high in zip(self.sigmas, self.sigmas[1:], strict=False))
        if not self.sigmas or self.sigmas[0] <= 0 or not ascends:
            raise ValueError(f"pixel_path: sigmas must be above 0 and ascend, got {list(self.sigmas)}")
        if self.width < 1:
            raise ValueError(f"pixel_path: width must be at least 1, got {self.width}")

    @property
    def bands(self) -> int:
        return len(self.sigmas) + 1


class PixelPath(nn.Module):
    """made + fidelity * sum over bands of gate * band(input - made); gates lie between 0 and 1.

    A gate of 0 leaves what the network made, 1 takes the input's own band. Gates are found at a quarter of the size,
    from the energies of the bands of input and output and from the colours; and from the mean and deviation of these
    over the whole face, because blur, noise and compression are alike everywhere. Energies are given because a
    thousandth of a face's variance is hard to find: convolutions over pixels or over the generator's features didn't,
    in hundreds of steps.
    """

    def __init__(self, config: PixelPathConfig, *, device: Device, dtype: DType, operations: Operations) -> None:
        super().__init__()
        options: LayerOptions = {"device": device, "dtype": dtype}
        self.config = config
        seen = 2 * (len(config.sigmas) + 1) + 3
        self.gate_in = operations.Conv2d(seen, config.width, 3, padding=1, **options)
        self.gate_middle = operations.Conv2d(config.width, config.width, 3, padding=2, dilation=2, **options)
        self.gate_face = operations.Linear(2 * config.width, config.width, **options)
        self.gate_out = operations.Conv2d(config.width, config.bands, 3, padding=1, **options)

    def forward(self, input_B3HW: Tensor, made_B3HW: Tensor, fidelity: float | Tensor) -> tuple[Tensor, Tensor]:
        """output_B3HW, and logits_BNhw of the gates at a quarter of the size, the finest band first.

        input_B3HW, made_B3HW: RGB, about [-1, 1].
        """
        logits_BNhw = self.gate_logits(input_B3HW, made_B3HW)
        gates_BNHW = F.interpolate(
            torch.sigmoid(logits_BNhw.float()), size=input_B3HW.shape[2:], mode="bilinear", align_corners=False
        )
        bands = split_bands(input_B3HW.float() - made_B3HW.float(), self.config.sigmas)
        added_B3HW = sum(gates_BNHW[:, band : band + 1] * bands[band] for band in range(len(bands)))
        return (made_B3HW.float() + fidelity * added_B3HW).to(made_B3HW.dtype), logits_BNhw

    def gate_logits(self, input_B3HW: Tensor, made_B3HW: Tensor) -> Tensor:
        """logits_BNhw; their sigmoid is the gate, 0 for the generated band, 1 for the input's own."""
        # Gates judge what was made; what is made should not be trained to move them.
        made_B3HW = made_B3HW.detach()
        seen = [
            band_energies(input_B3HW, self.config.sigmas),
            band_energies(made_B3HW, self.config.sigmas),
            F.avg_pool2d(input_B3HW, SHRINK),
        ]
        seen_BChw = torch.cat([each.to(made_B3HW.dtype) for each in seen], dim=1)
        hidden_BChw = F.silu(self.gate_in(seen_BChw))
        # In float32: deviations of half precision lose what tells faint noise from none.
        deviation_BC, mean_BC = torch.std_mean(hidden_BChw.float(), dim=(2, 3), correction=0)
        face_BC = self.gate_face(torch.cat((mean_BC, deviation_BC), dim=1).to(hidden_BChw.dtype))
        hidden_BChw = F.silu(self.gate_middle(hidden_BChw) + face_BC[:, :, None, None])
        return self.gate_out(hidden_BChw)


def band_energies(image_B3HW: Tensor, sigmas: tuple[float, ...]) -> Tensor:
    """energies_BEhw float32, a logarithm scaled to a few units, at a quarter of the size.

    E = len(sigmas) + 1 bands, finest first: what Gaussians of half the first sigma and of all of them take away.

    sigmas: pixels, ascending.
    """
    bands = split_bands(image_B3HW.float(), (sigmas[0] / 2, *sigmas))[:-1]
    energies = [F.avg_pool2d(band.square().mean(1, keepdim=True), SHRINK) for band in bands]
    return torch.log(torch.cat(energies, dim=1) + EMPTY) / 2 + 3


def split_bands(image_BCHW: Tensor, sigmas: tuple[float, ...]) -> list[Tensor]:
    """len(sigmas) + 1 images, finest first, whose sum is `image_BCHW`.

    sigmas: pixels, ascending.
    """
    bands: list[Tensor] = []
    for sigma in sigmas:
        smooth_BCHW = gaussian_blur(image_BCHW, sigma)
        bands.append(image_BCHW - smooth_BCHW)
        image_BCHW = smooth_BCHW
    return [*bands, image_BCHW]


def gaussian_blur(image_BCHW: Tensor, sigma: float) -> Tensor:
    """float32 in and out, the border repeated.

    Products with a matrix of weights, piece by piece: on a CPU a third of the time of convolutions with one channel.
    Never under autocast: half precision has fewer digits than the finest bands need.
    """
    with torch.autocast(image_BCHW.device.type, enabled=False):
        across_BCHW = _blurred_rows(image_BCHW.float(), sigma)
        return _blurred_rows(across_BCHW.mT.contiguous(), sigma).mT


def _blurred_rows(image_BCHW: Tensor, sigma: float) -> Tensor:
    reach = max(1, math.ceil(_REACH_IN_SIGMAS * sigma))
    width = image_BCHW.shape[-1]
    pieces = math.ceil(width / _PIECE)
    # Not F.pad: compiled, its gradient fails for images with their channels last (torch 2.12).
    before = image_BCHW[..., :1].expand(-1, -1, -1, reach)
    after = image_BCHW[..., -1:].expand(-1, -1, -1, reach + pieces * _PIECE - width)
    padded = torch.cat((before, image_BCHW, after), dim=-1)
    weights = _blur_weights(sigma, reach, image_BCHW.device)
    return (padded.unfold(-1, _PIECE + 2 * reach, _PIECE) @ weights).flatten(-2)[..., :width]


def _blur_weights(sigma: float, reach: int, device: torch.device) -> Tensor:
    """-> (piece and its surroundings, piece): a column for each blurred pixel."""
    taps = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=device) / sigma) ** 2)
    taps = taps / taps.sum()
    starts = torch.arange(_PIECE, device=device)
    places = starts + torch.arange(2 * reach + 1, device=device)[:, None]
    weights = torch.zeros(_PIECE + 2 * reach, _PIECE, device=device)
    return weights.scatter_(0, places, taps[:, None].expand(-1, _PIECE))
