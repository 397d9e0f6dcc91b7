"""The images that faces are pasted into, at the size of the result.

Shape legend: B images, H W height and width, C channels.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from ..imaging import tensors as imaging
from ..imaging.gray import is_gray, with_luma_of
from ..models.managed import ManagedUpscaler
from ..models.upscaler import ImageUpscaler
from ..runtime.progress import OnProgress

# Images (B, H, W, 3), RGB [0, 1] -> the same images larger, RGB [0, 1], any size.
Upscaler = Callable[[Tensor], Tensor]
# (images_1HW3, height and width, whether somebody else made them) -> the same at that size, RGB [0, 1]
Resize = Callable[[Tensor, tuple[int, int], bool], Tensor]


Given = TypeVar("Given")
# Of a canvas, worked on at a time.
ROWS = 256


def reporting(given: Given, on_progress: OnProgress) -> Given | Upscaler:
    """An upscaler of ours as one that tells its progress to `on_progress`; anything else as it is."""
    return partial(given, on_progress=on_progress) if isinstance(given, ImageUpscaler | ManagedUpscaler) else given


def check_background(given_BHWC: Tensor, batch: int) -> None:
    """Raise ValueError unless these are images, one for each of `batch` or one for all."""
    imaging.check_images(given_BHWC, "backgrounds")
    if len(given_BHWC) not in (1, batch):
        raise ValueError(
            f"there are {batch} images but {len(given_BHWC)} backgrounds: give one for each, or one for all"
        )


def make_canvas(
    rgb_BHW3: Tensor,
    background: Tensor | Upscaler | None,
    size_hw: tuple[int, int],
    resize: Resize,
    *,
    keep_gray: bool = True,
) -> Tensor:
    """A new tensor (B, *size_hw, 3), RGB [0, 1], to paste into.

    rgb_BHW3: the images that faces are taken from, RGB [0, 1].
    background: images of any size, or what makes them from one image; None enlarges rgb_BHW3 itself.
    resize: makes one image fit.
    keep_gray: an upscaler gives no colour to images without any.
    """
    batch = len(rgb_BHW3)
    if background is None and size_hw == tuple(rgb_BHW3.shape[1:3]):
        return rgb_BHW3.clone(memory_format=torch.contiguous_format)
    canvas_BHW3 = torch.empty((batch, *size_hw, 3), device=rgb_BHW3.device)
    # One image at a time: enlarged images, before they are made to fit, are the largest thing in memory.
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
        made_1HW3 = imaging.split_alpha(made_1HWC, "backgrounds").rgb_BHW3.to(rgb_BHW3.device)
        fits = made_1HW3.shape[1:3] == size_hw
        canvas_BHW3[index] = (made_1HW3.clamp(0, 1) if fits else resize(made_1HW3, size_hw, background is not None))[0]
        if keep_gray and callable(background) and is_gray(one_1HW3[0]):
            _take_colour_of(resize_background(one_1HW3, size_hw, False)[0], canvas_BHW3[index])
    return canvas_BHW3


def _take_colour_of(colour_HW3: Tensor, canvas_HW3: Tensor) -> None:
    """In place, a part of the rows at a time, because intermediate results are several times as large."""
    for colour_hW3, canvas_hW3 in zip(torch.split(colour_HW3, ROWS), torch.split(canvas_HW3, ROWS), strict=True):
        canvas_hW3.copy_(with_luma_of(colour_hW3, canvas_hW3))


def resize_background(rgb_1HW3: Tensor, size_hw: tuple[int, int], _given: bool) -> Tensor:
    """Bicubic."""
    return imaging.resize(rgb_1HW3, *size_hw, mode="bicubic").clamp(0, 1)
