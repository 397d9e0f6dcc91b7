"""Networks that enlarge images, tile by tile; they are spandrel's.

Shape legend: B images, H W height and width, h w of a tile; RGB in [0, 1].
"""

from __future__ import annotations

import dataclasses
import logging
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..imaging import tensors as imaging
from ..imaging.tiles import make_tiles, smallest_tile
from ..runtime import memory
from ..runtime.progress import UPSCALING, OnProgress, no_progress

if TYPE_CHECKING:
    from spandrel import ImageModelDescriptor

logger = logging.getLogger(__name__)

# Side of the largest tiles that are chosen: above it the overlap costs little, and the memory a lot.
MAX_TILE = 512
# Where the device doesn't tell how much memory is free.
CAUTIOUS_TILE = 256
# Tiles begin at multiples of so many pixels, so that the windows of transformers lie as in the whole image.
WINDOW = 16
# Activations at the widest point: for each pixel of a tile (transformers hold far more; of those measured HAT was the
# hungriest), and for each pixel of the enlarged tile (ESRGAN).
FLOATS_PER_PIXEL = 500
FLOATS_PER_PIXEL_OF_TRANSFORMERS = 12_000
FLOATS_PER_LARGE_PIXEL = 220


@dataclass(frozen=True)
class ImageUpscaler:
    """A loaded network. Called with images it enlarges them, so it fits wherever an upscaler is wanted.

    name: where it came from, for messages.
    descriptor: spandrel's.
    device, dtype: where and in what precision tiles are computed.
    tile: their side in pixels; None: as large as the free memory allows.
    """

    name: str
    descriptor: ImageModelDescriptor[nn.Module] = field(repr=False)
    device: torch.device
    dtype: torch.dtype
    tile: int | None = None

    def __post_init__(self) -> None:
        if self.tile is not None and self.tile < self.smallest_tile:
            raise ValueError(f"tiles for {self.name} must have {self.smallest_tile} pixels or more, got {self.tile}")

    @property
    def module(self) -> nn.Module:
        return self.descriptor.model

    @property
    def scale(self) -> int:
        """How many times as large images become."""
        return self.descriptor.scale

    @property
    def smallest_tile(self) -> int:
        return smallest_tile(self._multiple)

    @property
    def bytes_per_pixel(self) -> int:
        """Estimate of the activations that one pixel of a tile needs."""
        is_transformer = any(isinstance(module, nn.Linear) for module in self.module.modules())
        floats = FLOATS_PER_PIXEL_OF_TRANSFORMERS if is_transformer else FLOATS_PER_PIXEL
        return (floats + FLOATS_PER_LARGE_PIXEL * self.scale**2) * self.dtype.itemsize

    def on(self, device: torch.device | str) -> ImageUpscaler:
        """The same module, its tiles computed on `device`; whoever owns the module has moved it there."""
        return dataclasses.replace(self, device=torch.device(device))

    def bytes_for(self, images_BHW3: Tensor) -> int:
        """Estimate of the activations that images of this size are worth making room for."""
        height, width = images_BHW3.shape[1:3]
        tile = self.tile or MAX_TILE
        return min(height, tile) * min(width, tile) * self.bytes_per_pixel

    def __call__(self, images_BHW3: Tensor, on_progress: OnProgress | None = None) -> Tensor:
        """images_BHW3 float32, RGB [0, 1], `scale` times as large, on the images' device.

        images_BHW3: RGB [0, 1], any size.
        on_progress: called with (stage, tiles done, tiles in all) before the first and after each; may raise to cancel.

        Raises ValueError for other shapes and for results that don't fit into memory.
        """
        imaging.check_layout(images_BHW3)
        batch, height, width, channels = images_BHW3.shape
        if channels != 3:
            raise ValueError(f"{self.name} enlarges RGB images of 3 channels, got {channels}: split alpha off before")
        size_hw = height * self.scale, width * self.scale
        what = f"{self.name} makes {batch} x {size_hw[1]}x{size_hw[0]} pixels, which"
        memory.require(batch * math.prod(size_hw) * 3 * 4, images_BHW3.device, what)
        report = on_progress or no_progress
        canvas_BHW3 = torch.empty((batch, *size_hw, 3), device=images_BHW3.device)
        tile = self.tile or self._fitting_tile()
        for index, (image_HW3, canvas_HW3) in enumerate(zip(images_BHW3, canvas_BHW3, strict=True)):
            tile = self._enlarge(image_HW3, canvas_HW3, tile, _one_of(batch, index, report))
        return canvas_BHW3.clamp_(0, 1)

    @property
    def _multiple(self) -> int:
        return math.lcm(WINDOW, self.descriptor.size_requirements.multiple_of)

    def _fitting_tile(self) -> int:
        free = memory.free_bytes(self.device)
        if free is None:
            return self._rounded(CAUTIOUS_TILE)
        return self._rounded(math.isqrt(memory.batch_size(self.bytes_per_pixel, self.device, MAX_TILE**2)))

    def _rounded(self, tile: int) -> int:
        return max(self.smallest_tile, tile // self._multiple * self._multiple)

    def _enlarge(self, image_HW3: Tensor, canvas_HW3: Tensor, tile: int, report: OnProgress) -> int:
        """Fills the canvas. Returns the side of the tiles that did fit."""
        while True:
            try:
                self._enlarge_in_tiles(image_HW3, canvas_HW3, tile, report)
                return tile
            except RuntimeError as error:
                tried = min(tile, max(image_HW3.shape[:2]))
                smaller = self._rounded(tried // 2)
                if smaller >= tried or not memory.is_out_of_memory(error):
                    raise
            logger.warning("out of memory with tiles of %d pixels, continuing with %d", tried, smaller)
            tile = smaller
            # Only here, where the error no longer holds on to what the failed call had made.
            memory.empty_cache()

    @torch.no_grad()
    def _enlarge_in_tiles(self, image_HW3: Tensor, canvas_HW3: Tensor, tile: int, report: OnProgress) -> None:
        canvas_HW3.zero_()
        height, width = image_HW3.shape[:2]
        tiles = make_tiles(height, width, tile, self._multiple)
        report(UPSCALING, 0, len(tiles))
        for done, piece in enumerate(tiles, 1):
            piece.add_to(canvas_HW3, self._run(piece.cut(image_HW3)), self.scale)
            report(UPSCALING, done, len(tiles))

    def _run(self, tile_hw3: Tensor) -> Tensor:
        tile_13hw = tile_hw3.clamp(0, 1).permute(2, 0, 1)[None].to(self.device, self.dtype)
        # spandrel pads to the sizes that the network can take, and clamps.
        made_13hw = self.descriptor(tile_13hw)
        if not torch.isfinite(made_13hw).all():
            raise ValueError(
                f"{self.name} gave values that are NaN or infinite in {str(self.dtype).removeprefix('torch.')}: "
                "choose float32, or another file"
            )
        return made_13hw[0].permute(1, 2, 0)


def _one_of(batch: int, index: int, report: OnProgress) -> OnProgress:
    """Progress of one image as that of its batch."""
    return lambda stage, done, total: report(stage, index * total + done, batch * total)
