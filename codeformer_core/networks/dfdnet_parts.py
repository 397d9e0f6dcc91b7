"""DFDNet on one part of a face at one scale: find the atom most like it, and add it where it is trusted.

Shape legend: B faces, C channels, H W height and width, K atoms of a dictionary, n side of an atom, D = C*n*n.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .kernels import ConvolutionKernel, convolution_with
from .operations import Device, DType, LayerOptions, Operations

SLOPE = 0.2
VARIANCE_EPSILON = 1e-5
# So many atoms are compared in float32 at a time: 50 MB of the published mouths.
ATOMS_AT_ONCE = 32

# x0, y0, x1, y1; the last two are not included.
Box = tuple[int, int, int, int]


class MatchAndRestyle(ConvolutionKernel):
    """Component AdaIN and feature matching: crops_BCnn -> atoms_BCnn.

    For each crop the atom with the largest inner product, both taken in the crop's own style (its channels' mean and
    unbiased deviation). Atoms are stored with mean 0 and deviation 1 in each channel. So the style enters the products
    as one factor per channel, its mean alike for all atoms, and only the best atom is ever restyled: not K maps for
    every face. The layer's weight_KCnn are the atoms.
    """

    def reset_parameters(self) -> None:
        """Atoms are taken from faces; random ones would only cost time."""
        nn.init.zeros_(self.weight)

    def output_shape(self, input_shape: torch.Size) -> tuple[int, ...]:
        return tuple(input_shape)

    def compute(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        # Products of near atoms differ in the last digits: no autocast here, and float32 at least.
        with torch.autocast(input.device.type, enabled=False):
            crops_BCnn = input if input.dtype == torch.float64 else input.float()
            variance_BC11, mean_BC11 = torch.var_mean(crops_BCnn, dim=(2, 3), keepdim=True)
            deviation_BC11 = (variance_BC11 + VARIANCE_EPSILON).sqrt()
            crops_BD = _flat(crops_BCnn * deviation_BC11)
            scores_BK = torch.cat(
                [crops_BD @ _flat(atoms.to(crops_BD.dtype)).T for atoms in torch.split(weight, ATOMS_AT_ONCE)], dim=1
            )
            best_BCnn = weight[scores_BK.argmax(1)].to(crops_BCnn.dtype)
            return torch.addcmul(mean_BC11, best_BCnn, deviation_BC11).to(input.dtype)


def _flat(x_BCnn: Tensor) -> Tensor:
    """(B, C, n, n) -> (B, D), no copy of what lies in channels_last."""
    return x_BCnn.permute(0, 2, 3, 1).flatten(1)


class PartTransfer(nn.Module):
    """One part at one scale: its dictionary, and the confidence with which an atom is added."""

    def __init__(
        self, channels: int, atoms: int, side: int, *, device: Device, dtype: DType, operations: Operations
    ) -> None:
        super().__init__()
        options: LayerOptions = {"device": device, "dtype": dtype}
        self.side = side
        dictionary = convolution_with(MatchAndRestyle, operations)
        self.dictionary = dictionary(channels, atoms, side, bias=False, **options)
        self.confidence_in = operations.Conv2d(channels, channels, 3, padding=1, **options)
        self.confidence_out = operations.Conv2d(channels, channels, 3, padding=1, **options)

    def forward(self, features_BCHW: Tensor, boxes: list[Box]) -> list[Tensor]:
        """For each face its part (C, y1 - y0, x1 - x0), with the atom's detail added.

        boxes: in pixels of the features.
        """
        crops = [
            features_CHW[None, :, y0:y1, x0:x1]
            for features_CHW, (x0, y0, x1, y1) in zip(features_BCHW, boxes, strict=True)
        ]
        resized = [F.interpolate(crop, (self.side, self.side), mode="bilinear", align_corners=False) for crop in crops]
        atoms_BCnn = self.dictionary(torch.cat(resized))
        atoms = [
            F.interpolate(atom_CHW[None], crop.shape[2:]) for atom_CHW, crop in zip(atoms_BCnn, crops, strict=True)
        ]
        differences = [atom - crop for atom, crop in zip(atoms, crops, strict=True)]
        return [
            torch.addcmul(crop, confidence, atom)[0]
            for crop, confidence, atom in zip(crops, self._confidences(differences), atoms, strict=True)
        ]

    def _confidences(self, differences: list[Tensor]) -> list[Tensor]:
        """All at once, whatever their sizes: padded to the largest. Beyond its own edge every one sees zeros, also in
        the second convolution, as if it were alone."""
        heights, widths = zip(*(difference.shape[2:] for difference in differences), strict=True)
        height, width = max(heights), max(widths)
        padded_BCHW = torch.cat([F.pad(x, (0, width - x.shape[3], 0, height - x.shape[2])) for x in differences])
        is_inside_B1HW = padded_BCHW.new_zeros((len(differences), 1, height, width))
        for inside_1HW, difference in zip(is_inside_B1HW, differences, strict=True):
            inside_1HW[:, : difference.shape[2], : difference.shape[3]] = 1
        hidden_BCHW = F.leaky_relu(self.confidence_in(padded_BCHW), SLOPE) * is_inside_B1HW
        confidence_BCHW = self.confidence_out(hidden_BCHW)
        return [
            confidence_CHW[None, :, :high, :wide]
            for confidence_CHW, high, wide in zip(confidence_BCHW, heights, widths, strict=True)
        ]
