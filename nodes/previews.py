"""Small copies of pictures, for the views in the browser."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .. import codeformer_core as core
from . import host

# A view in a node is smaller than this even at high zoom.
LONGEST_SIDE = 1024


def small_copies(images_BHWC: Tensor) -> list[dict[str, str]]:
    """Saves each picture, shrunk to LONGEST_SIDE where it is larger, without its alpha; how the editor asks for it."""
    height, width = images_BHWC.shape[1:3]
    shrink = min(1.0, LONGEST_SIDE / max(height, width))
    size = max(1, round(height * shrink)), max(1, round(width * shrink))
    # One by one: the larger copy of a whole batch is never made.
    rgb = (core.split_alpha(image_HWC[None]).rgb_BHW3 for image_HWC in images_BHWC)
    small = (core.resize(one_1HW3, *size).clamp(0, 1) for one_1HW3 in rgb)
    return [saved for one_1HW3 in small for saved in host.preview_images(one_1HW3)]


def before_and_after(before_BHWC: Tensor, after_BHWC: Tensor, most: int = 8) -> dict[str, Any]:
    """The `ui` output of which the view Before and after is made; of the first `most` pictures."""
    height, width = after_BHWC.shape[1:3]
    pairs = zip(small_copies(before_BHWC[:most]), small_copies(after_BHWC[:most]), strict=True)
    shown = [{"before": before, "after": after, "width": width, "height": height} for before, after in pairs]
    return {"codeformer_compare": [{"pairs": shown, "total": len(after_BHWC)}]}
