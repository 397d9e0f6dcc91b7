"""PSNR and SSIM in torch alone, for machines that have nothing else; the same numbers as in evaluations.

Shape legend: B pictures, H W height and width, K side of the window.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

# Wang et al. 2004: a Gaussian window of 11 pixels, sigma 1.5, and constants that keep flat parts from dividing by 0.
WINDOW = 11
SIGMA = 1.5
LUMINANCE_CONSTANT = 0.01**2
CONTRAST_CONSTANT = 0.03**2


def psnr(made_B3HW: Tensor, reference_B3HW: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB -> values_B float64; infinite for equal pictures. Both: RGB [0, 1]."""
    error_B = (made_B3HW.double() - reference_B3HW.double()).square().mean((1, 2, 3))
    return -10 * error_B.log10()


def ssim(made_B3HW: Tensor, reference_B3HW: Tensor) -> Tensor:
    """Structural similarity, mean over pixels and colours -> values_B float64; 1 for equal pictures. Both: RGB [0, 1].

    The border is mirrored. Raises ValueError for pictures smaller than the window.
    """
    height, width = made_B3HW.shape[2:]
    if min(height, width) < WINDOW:
        raise ValueError(
            f"SSIM needs a reference of at least {WINDOW}x{WINDOW} pixels, got {width}x{height}: choose a larger one"
        )
    made_B3HW, reference_B3HW = made_B3HW.float(), reference_B3HW.float()
    made_mean, reference_mean = _blurred(made_B3HW), _blurred(reference_B3HW)
    made_variance = (_blurred(made_B3HW.square()) - made_mean.square()).clamp_min(0)
    reference_variance = (_blurred(reference_B3HW.square()) - reference_mean.square()).clamp_min(0)
    covariance = _blurred(made_B3HW * reference_B3HW) - made_mean * reference_mean
    luminance = (2 * made_mean * reference_mean + LUMINANCE_CONSTANT) / (
        made_mean.square() + reference_mean.square() + LUMINANCE_CONSTANT
    )
    contrast = (2 * covariance + CONTRAST_CONSTANT) / (made_variance + reference_variance + CONTRAST_CONSTANT)
    return (luminance * contrast).double().mean((1, 2, 3))


def _blurred(values_B3HW: Tensor) -> Tensor:
    reach = WINDOW // 2
    places_K = torch.arange(-reach, reach + 1, device=values_B3HW.device, dtype=torch.float32)
    weights_K = (-0.5 * (places_K / SIGMA).square()).exp()
    weights_K = weights_K / weights_K.sum()
    padded = F.pad(values_B3HW, (reach,) * 4, mode="reflect").flatten(0, 1)[:, None]
    smooth = F.conv2d(F.conv2d(padded, weights_K.view(1, 1, 1, -1)), weights_K.view(1, 1, -1, 1))
    return smooth.view_as(values_B3HW)
