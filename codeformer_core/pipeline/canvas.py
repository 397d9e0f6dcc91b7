"""What faces are pasted onto: the pictures at the size of the result, and the memory that takes.

Shape legend: B pictures, H W height and width, C channels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..imaging import tensors as pictures
from ..runtime import memory

# Pictures (B, H, W, 3), RGB [0, 1] -> the same pictures larger, RGB [0, 1], any size.
Upscaler = Callable[[Tensor], Tensor]

# Pictures whose shorter side is below this are enlarged, and stay so, in the published recipe.
PARITY_SHORTER_SIDE = 512


@dataclass(frozen=True)
class Sizes:
    """Height and width of the pictures as they came, as they are worked on, and of the result."""

    source: tuple[int, int]
    working: tuple[int, int]
    canvas: tuple[int, int]

    @property
    def enlarged(self) -> float:
        """Working pixels per source pixel; 1 but in the published recipe."""
        return min(self.working) / min(self.source)

    @property
    def upscale_xy(self) -> tuple[float, float]:
        """Canvas pixels per working pixel, exact for sizes that had to be rounded."""
        return self.canvas[1] / self.working[1], self.canvas[0] / self.working[0]


def plan_sizes(height: int, width: int, upscale: float, parity: bool) -> Sizes:
    if not parity:
        return Sizes(
            (height, width), (height, width), (max(1, round(height * upscale)), max(1, round(width * upscale)))
        )
    factor = max(PARITY_SHORTER_SIDE / min(height, width), 1)
    working = round(height * factor), round(width * factor)
    return Sizes((height, width), working, (int(working[0] * upscale), int(working[1] * upscale)))


def require_memory(images_BHWC: Tensor, sizes: Sizes) -> None:
    """Raise NotEnoughMemory, with both numbers, before anything of a picture's size is made."""
    batch, height, width, channels = images_BHWC.shape
    converted = 0 if images_BHWC.dtype == torch.float32 else channels
    enlarged = 3 if sizes.working != sizes.source else 0
    has_alpha = channels in (2, 4)
    # Colour and mask; with alpha the two are joined in a tensor of their own; one picture while it is being resized.
    result = 3 + 1 + (5 if has_alpha else 0)
    resizing = 3 if sizes.canvas != sizes.working else 0
    values = batch * height * width * converted
    values += batch * sizes.working[0] * sizes.working[1] * enlarged
    values += sizes.canvas[0] * sizes.canvas[1] * (batch * result + resizing)
    size = f"{sizes.canvas[1]}x{sizes.canvas[0]} pixels"
    what = f"a result of {size}" if batch == 1 else f"a result of {batch} pictures of {size}"
    memory.require(values * 4, images_BHWC.device, what)


def as_published(rgb_BHW3: Tensor, sizes: Sizes) -> Tensor:
    """The pictures as the official program reads them: 8-bit steps, small ones enlarged."""
    rgb_BHW3 = pictures.to_8bit_steps(rgb_BHW3)
    if sizes.working == sizes.source:
        return rgb_BHW3
    return pictures.enlarge_8bit(rgb_BHW3, sizes.enlarged)


def check_background(given_BHWC: Tensor, batch: int) -> None:
    """Raise ValueError unless these are pictures, one for each of `batch` or one for all."""
    pictures.check_images(given_BHWC, "backgrounds")
    if len(given_BHWC) not in (1, batch):
        raise ValueError(
            f"there are {batch} pictures but {len(given_BHWC)} backgrounds: give one for each, or one for all"
        )


def make_canvas(rgb_BHW3: Tensor, background: Tensor | Upscaler | None, sizes: Sizes, parity: bool) -> Tensor:
    """A new tensor (B, *sizes.canvas, 3) to paste into.

    background: pictures of any size, or what makes them from one picture; None enlarges rgb_BHW3 itself.
    """
    batch = len(rgb_BHW3)
    if background is None and sizes.canvas == sizes.working:
        return rgb_BHW3.clone(memory_format=torch.contiguous_format)
    canvas_BHW3 = torch.empty((batch, *sizes.canvas, 3), device=rgb_BHW3.device)
    # One picture at a time: enlarged pictures, before they are made to fit, are the largest thing in memory.
    for index in range(batch):
        one_1HW3 = rgb_BHW3[index : index + 1]
        if background is None:
            made_1HWC = one_1HW3
        elif isinstance(background, Tensor):
            given_BHWC: Tensor = background
            made_1HWC = given_BHWC[index : index + 1] if len(given_BHWC) > 1 else given_BHWC
        else:
            made_1HWC = background(one_1HW3)
            check_background(made_1HWC, 1)
        made_1HW3 = pictures.take_apart(made_1HWC, "backgrounds").rgb_BHW3.to(rgb_BHW3.device)
        canvas_BHW3[index] = _fitted(made_1HW3, sizes.canvas, parity, lanczos=background is not None)[0]
    return canvas_BHW3


def _fitted(rgb_1HW3: Tensor, size: tuple[int, int], parity: bool, lanczos: bool) -> Tensor:
    if rgb_1HW3.shape[1:3] == size:
        return rgb_1HW3.clamp(0, 1)
    if parity:
        return pictures.resize_8bit(rgb_1HW3, *size, lanczos=lanczos)
    return pictures.resize(rgb_1HW3, *size, mode="bicubic").clamp(0, 1)
