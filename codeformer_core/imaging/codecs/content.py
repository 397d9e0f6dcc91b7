"""An image file once it is read: pixels and what has to survive until it is written again.

Shape legend: H W image height and width, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..metadata.content import NOTHING, Metadata


@dataclass(frozen=True, eq=False)
class Picture:
    """One image, upright (no orientation is left to be applied).

    image_HWC: float32, RGB or RGBA (not premultiplied), [0, 1], as encoded in the file: no colour management.
    bit_depth: 8 or 16 bits per channel in the file.
    gray: the file held one colour channel; image_HWC repeats it three times.
    icc_profile: raw ICC profile, not applied to the pixels.
    exif: raw EXIF, with or without "Exif\\0\\0" before it, upright and without thumbnail; its sizes are set when it is
        written.
    dpi: horizontal and vertical pixels per inch.
    format: "PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "AVIF" or "MPO" (a JPEG that holds several images).
    lossless: the file's compression loses nothing; decides how WebP and AVIF are written.
    metadata: XMP, IPTC, comments, texts and more, as bytes.
    """

    image_HWC: torch.Tensor
    bit_depth: int = 8
    gray: bool = False
    icc_profile: bytes | None = None
    exif: bytes | None = None
    dpi: tuple[float, float] | None = None
    format: str = "PNG"
    lossless: bool = True
    metadata: Metadata = NOTHING

    def __post_init__(self) -> None:
        shape = tuple(self.image_HWC.shape)
        if len(shape) != 3 or shape[2] not in (3, 4) or 0 in shape:
            raise ValueError(f"an image is a tensor (height, width, 3 or 4) with at least one pixel, got {shape}")
        if self.bit_depth not in (8, 16):
            raise ValueError(f"an image has 8 or 16 bits per channel, got {self.bit_depth}")

    @property
    def has_alpha(self) -> bool:
        return self.image_HWC.shape[2] == 4
