"""Colour changes of the degraded side; the same functions in both paths. RGB, levels 0..255 in float32."""

from __future__ import annotations

import torch
from torch import Tensor

from .draw import Colors


def change_colors(levels_3HW: Tensor, colors: Colors) -> Tensor:
    """Shift, adjustments in their drawn order, gray; clipped to 0..255 after each. Gray has three equal channels.

    levels_3HW: float32 RGB, 0..255.
    """
    from torchvision.transforms import functional

    adjust = {
        "brightness": functional.adjust_brightness,
        "contrast": functional.adjust_contrast,
        "saturation": functional.adjust_saturation,
        "hue": functional.adjust_hue,
    }
    image_3HW = (levels_3HW / 255).clamp(0, 1)
    if colors.shift_rgb is not None:
        shift_311 = torch.tensor(colors.shift_rgb, device=image_3HW.device)[:, None, None] / 255
        image_3HW = (image_3HW + shift_311).clamp(0, 1)
    for name, value in colors.adjustments:
        if name == "hue" and value == 0:
            continue  # changes nothing, and would take longer than all other steps together
        image_3HW = adjust[name](image_3HW, value)
    if colors.gray:
        image_3HW = functional.rgb_to_grayscale(image_3HW, num_output_channels=3)
    return image_3HW * 255
