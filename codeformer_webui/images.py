"""PIL images and uint8 arrays <-> the core's float images.

Shape legend: H W height and width, C channels (3 or 4).
"""

from __future__ import annotations

import base64
import binascii
import io
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

ALPHA_MODES = ("RGBA", "LA", "PA", "RGBa", "La")


def to_tensor(image: Image.Image) -> Tensor:
    """image_1HWC: floats in [0, 1], RGB, or RGBA where the image has transparency."""
    has_alpha = image.mode in ALPHA_MODES or "transparency" in image.info
    return array_to_tensor(np.asarray(image.convert("RGBA" if has_alpha else "RGB")))


def array_to_tensor(image_HWC: np.ndarray) -> Tensor:
    """image_1HWC: floats in [0, 1].

    image_HWC: uint8, RGB or RGBA.
    """
    # A copy: arrays of PIL images are read-only.
    return torch.from_numpy(np.array(image_HWC)).float().div_(255)[None]


def to_array(image_1HWC: Tensor) -> np.ndarray:
    """image_HWC uint8, rounded."""
    return image_1HWC[0].detach().float().clamp(0, 1).mul(255).round().to(torch.uint8).cpu().numpy()


def to_image(image_1HWC: Tensor) -> Image.Image:
    return Image.fromarray(to_array(image_1HWC))


def from_base64(text: Any, name: str = "image") -> Image.Image:
    """The upright image in base64, with or without a data URL's head.

    name: of the field, for messages.
    Raises ValueError naming the field and the fix.
    """
    from PIL import ImageOps

    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"{name}: give a picture as base64 text, got {'nothing' if not text else type(text).__name__}")
    if text.startswith(("http://", "https://")):
        raise ValueError(f"{name}: addresses are not fetched. Send the picture itself as base64 text")
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"{name}: this is not base64 ({error}). Send the bytes of a PNG, JPEG or WebP file") from error
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
        return ImageOps.exif_transpose(image) or image
    except UnidentifiedImageError as error:
        raise ValueError(f"{name}: these {len(data)} bytes are not a picture that Pillow reads") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{name}: the picture can't be read ({error})") from error


def to_base64(image: Image.Image) -> str:
    """As PNG."""
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode("ascii")


def side_by_side(before: Image.Image, after: Image.Image) -> Image.Image:
    """Before on the left, in the size of after."""
    left = before.convert("RGB").resize(after.size, Image.Resampling.BICUBIC)
    both = Image.new("RGB", (after.width * 2 + 4, after.height), "white")
    both.paste(left, (0, 0))
    both.paste(after.convert("RGB"), (after.width + 4, 0))
    return both
