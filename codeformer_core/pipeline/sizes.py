"""Sizes of a batch of images on their way, and the memory that they take."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..runtime import memory


@dataclass(frozen=True)
class Sizes:
    """Height and width of the images as they came, as they are worked on, and of the result."""

    source: tuple[int, int]
    working: tuple[int, int]
    canvas: tuple[int, int]

    @property
    def enlarged(self) -> float:
        """Working pixels per source pixel; 1 but in the official recipe."""
        return min(self.working) / min(self.source)

    @property
    def upscale_xy(self) -> tuple[float, float]:
        """Canvas pixels per working pixel, exact for sizes that had to be rounded."""
        return self.canvas[1] / self.working[1], self.canvas[0] / self.working[0]


def plan_sizes(height: int, width: int, upscale: float = 1.0) -> Sizes:
    """Images are worked on as they came; the result is `upscale` times as large."""
    size = (height, width)
    return Sizes(size, size, (max(1, round(height * upscale)), max(1, round(width * upscale))))


def require_memory(images_BHWC: Tensor, sizes: Sizes) -> None:
    """Raise NotEnoughMemory, with both numbers, before anything of an image's size is made."""
    batch, height, width, channels = images_BHWC.shape
    converted = 0 if images_BHWC.dtype == torch.float32 else channels
    enlarged = 3 if sizes.working != sizes.source else 0
    has_alpha = channels in (2, 4)
    # Colour and mask; with alpha the two are joined in a tensor of their own; one image while it is being resized.
    result = 3 + 1 + (5 if has_alpha else 0)
    resizing = 3 if sizes.canvas != sizes.working else 0
    values = batch * height * width * converted
    values += batch * sizes.working[0] * sizes.working[1] * enlarged
    values += sizes.canvas[0] * sizes.canvas[1] * (batch * result + resizing)
    size = f"{sizes.canvas[1]}x{sizes.canvas[0]} pixels"
    what = f"a result of {size}" if batch == 1 else f"a result of {batch} images of {size}"
    memory.require(values * 4, images_BHWC.device, what)
