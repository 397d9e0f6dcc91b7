"""Brightness and colours apart: gray photographs are recognised and stay gray, colours go without brightness.

Shape legend: B faces, H W height and width.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Mean of the variances of R-G, R-B and G-B, in (0..255) squared; the published threshold.
GRAY_THRESHOLD = 10.0
LUMA_RGB = (0.2989, 0.5870, 0.1140)


def is_gray(image_HW3: Tensor) -> bool:
    """Whether an image has no colour but for noise and compression.

    image_HW3: RGB [0, 1].
    """
    red_HW, green_HW, blue_HW = (image_HW3.float() * 255).unbind(-1)
    variances = [
        difference.var(correction=0) for difference in (red_HW - green_HW, red_HW - blue_HW, green_HW - blue_HW)
    ]
    return float(torch.stack(variances).mean()) <= GRAY_THRESHOLD


def match_gray(restored_B3HW: Tensor, original_B3HW: Tensor, *, clip: bool = True) -> Tensor:
    """Restored faces ([0, 1]) without colour, with their input crop's brightness and contrast per channel.

    clip: keep [0, 1]. Without it values outside wrap to black and white specks when they become 8-bit, as published.
    """
    luma_13 = restored_B3HW.new_tensor(LUMA_RGB)
    gray_B1HW = torch.einsum("bchw,c->bhw", restored_B3HW, luma_13)[:, None]
    restored_var, restored_mean = torch.var_mean(gray_B1HW, dim=(2, 3), correction=0, keepdim=True)
    original_var, original_mean = torch.var_mean(original_B3HW, dim=(2, 3), correction=0, keepdim=True)
    epsilon = 1e-5 / 255**2  # published as 1e-5 on the 0..255 scale
    gain = ((original_var + epsilon) / (restored_var + epsilon)).sqrt()
    matched_B3HW = (gray_B1HW - restored_mean) * gain + original_mean
    return matched_B3HW.clamp(0, 1) if clip else matched_B3HW


def with_luma_of(colour_HW3: Tensor, luma_HW3: Tensor) -> Tensor:
    """The chroma of one image with the brightness (BT.601 luma) of another, RGB [0, 1]; or of batches of them.

    Where that leaves the range, the chroma fades until it fits, so the brightness is exact.
    """
    weights_3 = colour_HW3.new_tensor(LUMA_RGB)
    weights_3 /= weights_3.sum()  # the published ones add up to 0.9999
    luma_HW1 = (luma_HW3 @ weights_3)[..., None].clamp(0, 1)
    chroma_HW3 = colour_HW3 - (colour_HW3 @ weights_3)[..., None]
    room_HW3 = torch.where(chroma_HW3 > 0, 1 - luma_HW1, luma_HW1)
    fits_HW1 = (room_HW3 / chroma_HW3.abs().clamp_min(1e-6)).amin(-1, keepdim=True).clamp(max=1)
    return luma_HW1 + chroma_HW3 * fits_HW1
