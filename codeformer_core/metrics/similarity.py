"""PSNR and SSIM as functions of two batches of images, in torch alone.

Shape legend: B images, 3 colours RGB, H W height and width, K side of the window, N planes of one colour each.
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


def psnr(made_B3HW: Tensor, reference_B3HW: Tensor, weights_BHW: Tensor | None = None) -> Tensor:
    """Peak signal-to-noise ratio in dB: values_B float64 on the CPU; infinite for equal images.

    made_B3HW, reference_B3HW: RGB [0, 1].
    weights_BHW: how much each pixel counts, at least 0; all count the same without it.
    """
    error_BHW = (made_B3HW.float() - reference_B3HW.float()).square().mean(1)
    if weights_BHW is None:
        error_B = error_BHW.mean((1, 2))
    else:
        error_B = (error_BHW * weights_BHW).sum((1, 2)) / weights_BHW.sum((1, 2))
    # Not every device has float64.
    return -10 * error_B.cpu().double().log10()


def ssim(made_B3HW: Tensor, reference_B3HW: Tensor) -> Tensor:
    """Structural similarity, mean over pixels and colours: values_B float64 on the CPU; 1 for equal images.

    The border is mirrored.

    made_B3HW, reference_B3HW: RGB [0, 1].
    Raises ValueError for images smaller than the window.
    """
    height, width = made_B3HW.shape[2:]
    if min(height, width) < WINDOW:
        raise ValueError(
            f"SSIM needs a reference of at least {WINDOW}x{WINDOW} pixels, got {width}x{height}: choose a larger one"
        )
    # Plane after plane: five smoothed copies of a whole batch would be a lot of memory.
    pairs = zip(made_B3HW.flatten(0, 1), reference_B3HW.flatten(0, 1), strict=True)
    planes = [_ssim(made_HW.float(), reference_HW.float()) for made_HW, reference_HW in pairs]
    return torch.unflatten(torch.stack(planes), 0, (-1, made_B3HW.shape[1])).mean(1).cpu().double()


def _ssim(made_HW: Tensor, reference_HW: Tensor) -> Tensor:
    """Of one plane, a single value."""
    parts = (made_HW, reference_HW, made_HW.square(), reference_HW.square(), made_HW * reference_HW)
    made_mean, reference_mean, made_square, reference_square, product = _smoothed(torch.stack(parts))
    made_variance = (made_square - made_mean.square()).clamp_min(0)
    reference_variance = (reference_square - reference_mean.square()).clamp_min(0)
    covariance = product - made_mean * reference_mean
    luminance = (2 * made_mean * reference_mean + LUMINANCE_CONSTANT) / (
        made_mean.square() + reference_mean.square() + LUMINANCE_CONSTANT
    )
    contrast = (2 * covariance + CONTRAST_CONSTANT) / (made_variance + reference_variance + CONTRAST_CONSTANT)
    return (luminance * contrast).mean()


def _smoothed(planes_NHW: Tensor) -> Tensor:
    reach = WINDOW // 2
    places_K = torch.arange(-reach, reach + 1, device=planes_NHW.device, dtype=torch.float32)
    weights_K = (-0.5 * (places_K / SIGMA).square()).exp()
    # A kernel for each plane: many planes at once are several times faster than a batch of single ones.
    kernels_N1K = (weights_K / weights_K.sum()).expand(len(planes_NHW), 1, WINDOW)
    padded_1NHW = F.pad(planes_NHW[None], (reach,) * 4, mode="reflect")
    rows_1NHW = F.conv2d(padded_1NHW, kernels_N1K[:, :, None], groups=len(planes_NHW))
    return F.conv2d(rows_1NHW, kernels_N1K[..., None], groups=len(planes_NHW))[0]
