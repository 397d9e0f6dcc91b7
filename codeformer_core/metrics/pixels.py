"""PSNR, SSIM, the similarity of gradients and sharpness: metrics that need no file.

All on RGB, no border cut off, as VQFR's published comparison does for faces.
Shape legend: B faces, H W height and width, E = 2B derivatives, of each face across and down.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .kinds import Better, check_pair
from .similarity import psnr, ssim

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
        check_pair(restored_B3HW, clean_B3HW)
        return psnr(restored_B3HW, clean_B3HW)


class Ssim:
    """Structural similarity, mean over pixels and the three colours; 1 for equal faces.

    Windows at the border see the image mirrored there; programs that leave the border out give other numbers, the
    smaller the face the more.
    """

    name = "SSIM"
    better: Better = "higher"

    @torch.no_grad()
    def measure(self, restored_B3HW: Tensor, clean_B3HW: Tensor) -> Tensor:
        check_pair(restored_B3HW, clean_B3HW)
        return ssim(restored_B3HW, clean_B3HW)


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
    """magnitude_BHW of the luma's gradient by Prewitt's 3x3 masks / 3, the border repeated.

    faces_B3HW: RGB in [0, 1].
    """
    across_33 = torch.tensor([[1.0, 0.0, -1.0]] * 3, device=faces_B3HW.device) / 3
    return mask_magnitude(luma(faces_B3HW), across_33)


def mask_magnitude(luma_BHW: Tensor, across_33: Tensor) -> Tensor:
    """magnitude_BHW of the gradient by a mask and its transpose, the border repeated."""
    # Faces as channels: many channels at once are several times faster than a batch of single ones.
    faces = len(luma_BHW)
    masks_2133 = torch.stack((across_33, across_33.T)).unsqueeze(1)
    padded_1BHW = F.pad(luma_BHW[None], (1, 1, 1, 1), mode="replicate")
    sides_1EHW = F.conv2d(padded_1BHW, masks_2133.repeat(faces, 1, 1, 1), groups=faces)
    return torch.unflatten(sides_1EHW.square(), 1, (faces, 2)).sum(2)[0].sqrt()


def luma(faces_B3HW: Tensor) -> Tensor:
    """luma_BHW float32, BT.601 full range.

    faces_B3HW: RGB in [0, 1].
    """
    return (faces_B3HW.float() * faces_B3HW.new_tensor(LUMA, dtype=torch.float32).view(1, 3, 1, 1)).sum(1)
