"""PSNR, SSIM, the similarity of gradients and sharpness: metrics that need no file.

All on RGB, no border cut off, as VQFR's published comparison does for faces.
Shape legend: B faces, H W height and width.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .kinds import Better, check_pair

# Wang et al. 2004: a Gaussian window of 11 pixels, sigma 1.5.
SSIM_WINDOW = 11
# Xue et al. 2013 (GMSD, arXiv 1308.3052): 170 for gray levels of 0..255 and gradients by Prewitt.
GRADIENT_CONSTANT = 170 / 255**2
# Mean gradient magnitude of [0, 1] that is nothing but float32's rounding.
FLAT = 1e-6
# BT.601, full range
LUMA = (0.299, 0.587, 0.114)


class Psnr:
    """Peak signal-to-noise ratio in dB: 10 log10(1 / mean squared error of the face); infinite for equal faces."""

    name = "PSNR"
    better: Better = "higher"

    @torch.no_grad()
    def measure(self, restored_B3HW: Tensor, clean_B3HW: Tensor) -> Tensor:
        from torchmetrics.functional.image import peak_signal_noise_ratio

        check_pair(restored_B3HW, clean_B3HW)
        values_B = peak_signal_noise_ratio(
            restored_B3HW.float(), clean_B3HW.float(), data_range=1.0, reduction="none", dim=(1, 2, 3)
        )
        return values_B.cpu().double()


class Ssim:
    """Structural similarity, mean over pixels and the three colours; 1 for equal faces.

    Windows at the border see the picture mirrored there; programs that leave the border out give other numbers, the
    smaller the face the more.
    """

    name = "SSIM"
    better: Better = "higher"

    @torch.no_grad()
    def measure(self, restored_B3HW: Tensor, clean_B3HW: Tensor) -> Tensor:
        from torchmetrics.functional.image import structural_similarity_index_measure

        check_pair(restored_B3HW, clean_B3HW)
        if min(clean_B3HW.shape[2:]) < SSIM_WINDOW:
            raise ValueError(
                f"SSIM needs faces of at least {SSIM_WINDOW}x{SSIM_WINDOW} pixels, got {tuple(clean_B3HW.shape[2:])}"
            )
        values_B = structural_similarity_index_measure(
            restored_B3HW.float(),
            clean_B3HW.float(),
            gaussian_kernel=True,
            sigma=1.5,
            kernel_size=SSIM_WINDOW,
            data_range=1.0,
            reduction="none",
        )
        assert isinstance(values_B, Tensor)  # only with other options there is a picture beside it
        return values_B.reshape(-1).cpu().double()


class GradientSimilarity:
    """How alike the edges are: mean over pixels of (2 g h + c) / (g^2 + h^2 + c); 1 for equal faces.

    g and h: gradient magnitudes of the luma of the restored and the clean face; c: GRADIENT_CONSTANT.
    """

    name = "gradients"
    better: Better = "higher"

    @torch.no_grad()
    def measure(self, restored_B3HW: Tensor, clean_B3HW: Tensor) -> Tensor:
        check_pair(restored_B3HW, clean_B3HW)
        restored_BHW, clean_BHW = gradient_magnitude(restored_B3HW), gradient_magnitude(clean_B3HW)
        similarity_BHW = (2 * restored_BHW * clean_BHW + GRADIENT_CONSTANT) / (
            restored_BHW.square() + clean_BHW.square() + GRADIENT_CONSTANT
        )
        return similarity_BHW.mean((1, 2)).cpu().double()


class Sharpness:
    """How strong the edges are beside the clean face's: mean gradient magnitude of the luma, restored / clean.

    1 for equal faces; below, the face is smoother, above, it is sharper or noisier. NaN where the clean face has a
    single colour.
    """

    name = "sharpness"
    better: Better = "neither"

    @torch.no_grad()
    def measure(self, restored_B3HW: Tensor, clean_B3HW: Tensor) -> Tensor:
        check_pair(restored_B3HW, clean_B3HW)
        restored_B, clean_B = (gradient_magnitude(faces).mean((1, 2)) for faces in (restored_B3HW, clean_B3HW))
        return torch.where(clean_B > FLAT, restored_B / clean_B, torch.nan).cpu().double()


def gradient_magnitude(faces_B3HW: Tensor) -> Tensor:
    """-> magnitude_BHW of the luma's gradient by Prewitt's 3x3 masks / 3, the border repeated."""
    luma_B1HW = (faces_B3HW.float() * faces_B3HW.new_tensor(LUMA, dtype=torch.float32).view(1, 3, 1, 1)).sum(1, True)
    across_33 = torch.tensor([[1.0, 0.0, -1.0]] * 3, device=faces_B3HW.device) / 3
    masks_2133 = torch.stack((across_33, across_33.T)).unsqueeze(1)
    return F.conv2d(F.pad(luma_B1HW, (1, 1, 1, 1), mode="replicate"), masks_2133).square().sum(1).sqrt()
