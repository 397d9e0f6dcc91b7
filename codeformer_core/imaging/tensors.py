"""The only conversions between a host's images, the networks' faces and the detectors' view.

Shape legend: B images, H W height and width, C channels; HWC and BHWC are RGB (or RGBA) floats in [0, 1],
B3HW are RGB floats in [-1, 1].
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    import numpy as np

ResizeMode = Literal["bilinear", "bicubic"]

# Values beyond this, on either side, are no image in [0, 1] that somebody sharpened or lit: most often 8-bit values.
FAR_OUTSIDE = 16.0


@dataclass(frozen=True)
class SplitImages:
    """Images split into colour and, where there was one, transparency.

    rgb_BHW3: float32 [0, 1]; a view of the input where no conversion was needed, so never written to.
    alpha_BHW1: float32 [0, 1] or None.
    """

    rgb_BHW3: Tensor
    alpha_BHW1: Tensor | None


def split_alpha(images_BHWC: Tensor, what: str = "images") -> SplitImages:
    """Check a batch of images and split off its alpha.

    images_BHWC: float, 1 (gray), 2 (gray and alpha), 3 (RGB) or 4 (RGBA) channels, at least one pixel, all finite.
    what: how messages call them.
    Raises ValueError that names the image and the fix.
    """
    check_images(images_BHWC, what)
    images_BHWC = images_BHWC.float()
    channels = images_BHWC.shape[-1]
    alpha_BHW1 = images_BHWC[..., -1:] if channels in (2, 4) else None
    rgb_BHW3 = images_BHWC[..., :3] if channels >= 3 else images_BHWC[..., :1].expand(*images_BHWC.shape[:3], 3)
    return SplitImages(rgb_BHW3, alpha_BHW1)


def check_images(images_BHWC: Tensor, what: str = "images") -> None:
    """Raise ValueError, see `split_alpha`; reads every value and allocates nothing of an image's size."""
    check_layout(images_BHWC, what)
    for index, image_HWC in enumerate(images_BHWC):
        # The smallest and the largest value are finite where all are; they need no mask of the image's size.
        least, most = float(image_HWC.amin()), float(image_HWC.amax())
        if not (math.isfinite(least) and math.isfinite(most)):
            bad = int((~torch.isfinite(image_HWC.float())).sum())
            raise ValueError(
                f"{what}: number {index + 1} holds {bad} values that are NaN or infinite; "
                "the step before it failed (often a VAE in half precision): decode in float32"
            )
        if max(-least, most) > FAR_OUTSIDE:
            raise ValueError(f"{what}: number {index + 1}: {outside_words(least, most)}")


def outside_words(least: float, most: float) -> str:
    """What is wrong with values from `least` to `most`, and the fix."""
    return (
        f"its values reach from {least:g} to {most:g}, and images have [0, 1]; divide 8-bit values by 255 and 16-bit "
        "values by 65535, and tone-map an HDR image first"
    )


def check_layout(images_BHWC: Tensor, what: str = "images") -> None:
    """The part of `check_images` that looks at no value and so costs nothing."""
    if not isinstance(images_BHWC, Tensor) or images_BHWC.ndim != 4:
        found = tuple(images_BHWC.shape) if isinstance(images_BHWC, Tensor) else type(images_BHWC).__name__
        raise ValueError(f"{what} must be a tensor of shape (batch, height, width, channels), got {found}")
    if not images_BHWC.is_floating_point():
        raise ValueError(f"{what} must be floats in [0, 1], got {images_BHWC.dtype}; divide 8-bit values by 255")
    batch, height, width, channels = images_BHWC.shape
    if min(batch, height, width) == 0:
        raise ValueError(f"{what}: there is nothing to work on, {batch} of {width}x{height} pixels")
    if channels not in (1, 2, 3, 4):
        raise ValueError(f"{what} must have 1 to 4 channels (gray, gray+alpha, RGB, RGBA), got {channels}")


def fit_masks(masks_BHW: Tensor, batch: int, size_hw: tuple[int, int] | None, what: str = "the mask") -> Tensor:
    """masks_BHW float32 [0, 1], one for each image.

    masks_BHW: numbers or booleans, one for each image or one for all (then the first axis may be missing), any size.
    batch: number of images.
    size_hw: height and width in pixels that the masks are stretched to; None keeps theirs.
    what: how messages call them.
    Raises ValueError naming the mask and the fix.
    """
    masks = masks_BHW[None] if isinstance(masks_BHW, Tensor) and masks_BHW.ndim == 2 else masks_BHW
    if not isinstance(masks, Tensor) or masks.ndim != 3 or len(masks) not in (1, batch) or masks.numel() == 0:
        found = tuple(masks.shape) if isinstance(masks, Tensor) else type(masks).__name__
        count = "1" if batch == 1 else f"1 or {batch}"
        raise ValueError(
            f"{what} must have the shape ({count}, height, width), got {found}. "
            "Give one mask for each image, or one for all"
        )
    if not torch.isfinite(masks).all():
        raise ValueError(f"{what} holds values that are NaN or infinite. Mend the step that made it")
    height, width = size_hw or (masks.shape[1], masks.shape[2])
    fitted_BHW1 = resize(masks.float()[..., None], height, width).clamp(0, 1)
    return fitted_BHW1[..., 0].expand(batch, -1, -1)


def merge_alpha(rgb_BHW3: Tensor, alpha_BHW1: Tensor | None) -> Tensor:
    """images_BHWC with the alpha re-attached, resized to the size of the colour."""
    if alpha_BHW1 is None:
        return rgb_BHW3
    height, width = rgb_BHW3.shape[1:3]
    return torch.cat((rgb_BHW3, resize(alpha_BHW1.to(rgb_BHW3.device), height, width)), dim=-1)


def is_constant(image_HWC: Tensor) -> bool:
    """Whether all pixels are equal: nothing to work on, or a placeholder."""
    return bool((image_HWC == image_HWC[:1, :1]).all())


def resize(images_BHWC: Tensor, height: int, width: int, mode: ResizeMode = "bilinear") -> Tensor:
    """Area-weighted when shrinking. The same tensor comes back when the size already fits."""
    if images_BHWC.shape[1:3] == (height, width):
        return images_BHWC
    shrinks = height < images_BHWC.shape[1] or width < images_BHWC.shape[2]
    resized_BCHW = F.interpolate(
        images_BHWC.permute(0, 3, 1, 2),
        size=(height, width),
        mode=mode,
        align_corners=False,
        antialias=shrinks,
    )
    return resized_BCHW.permute(0, 2, 3, 1).contiguous()


def enlarge_8bit(images_BHWC: Tensor, factor: float) -> Tensor:
    """OpenCV's own 8-bit bilinear resize by a factor, which is kept exactly where the size has to be rounded."""
    import cv2

    return _in_8bit(
        images_BHWC, lambda image: cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR)
    )


def resize_8bit(images_BHWC: Tensor, height: int, width: int, *, lanczos: bool = False) -> Tensor:
    """OpenCV's own 8-bit resize, bilinear or LANCZOS4, whose roundings the published numbers contain."""
    import cv2

    interpolation = cv2.INTER_LANCZOS4 if lanczos else cv2.INTER_LINEAR
    return _in_8bit(images_BHWC, lambda image: cv2.resize(image, (width, height), interpolation=interpolation))


def _in_8bit(images_BHWC: Tensor, change: Callable[[np.ndarray], np.ndarray]) -> Tensor:
    import numpy as np

    levels_BHWC = images_BHWC.clamp(0, 1).mul_(255).round_().to(torch.uint8).cpu().numpy()
    changed_BHWC = np.stack([change(image_HWC) for image_HWC in levels_BHWC])
    return (torch.from_numpy(changed_BHWC).float() / 255).to(images_BHWC.device)


def to_network(images_BHW3: Tensor) -> Tensor:
    """[0, 1] BHWC -> [-1, 1] BCHW."""
    return images_BHW3.permute(0, 3, 1, 2) * 2 - 1


def from_network(faces_B3HW: Tensor) -> Tensor:
    """[-1, 1] BCHW -> [0, 1] BHWC."""
    return ((faces_B3HW + 1) / 2).permute(0, 2, 3, 1).contiguous()


def quantize_8bit(values: Tensor) -> Tensor:
    """[0, 1] rounded (half up, as OpenCV) to multiples of 1/255: what 8-bit images between two steps keep."""
    # The small number keeps exact halves, which float32 can land just below, on the upper side.
    return values.clamp(0, 1).mul_(255).add_(0.501).floor_().div_(255)


def detector_view(image_HWC: Tensor) -> np.ndarray:
    """The input of detectors: uint8 (H, W, 3) BGR, contiguous.

    image_HWC: floats in [0, 1], 1 to 4 channels; alpha is ignored.
    """
    channels = image_HWC.shape[-1]
    rgb_HW3 = image_HWC[..., :3] if channels >= 3 else image_HWC[..., :1].expand(*image_HWC.shape[:2], 3)
    levels_HW3 = rgb_HW3.float().clamp(0, 1).mul_(255).round_().to(torch.uint8)
    return levels_HW3.flip(-1).contiguous().cpu().numpy()
