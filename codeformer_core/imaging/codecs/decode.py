"""Decoded pixels of the two kinds of files: 8 bits per channel through Pillow, 16 through OpenCV.

Shape legend: H W image height and width, C channels (3 RGB, 4 RGBA).
"""

from __future__ import annotations

import io
from typing import Any, cast

import numpy as np
from PIL import Image

from ..metadata.content import Warn

_EIGHT_BIT_MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr")
GRAY_MODES = ("1", "L", "LA", "La", "I;16", "I;16B", "I;16L", "I;16N")
_BITS_PER_SAMPLE, _PHOTOMETRIC, _EXTRA_SAMPLES, _SAMPLE_FORMAT = 258, 262, 338, 339
_STRIPS_AND_TILES = ((273, 279), (324, 325))  # (offsets, byte counts)


def bits_per_channel(image: Image.Image, declared: int | None) -> int:
    """8 or 16 for an opened file.

    Raises ValueError saying what the file holds where that is neither (12-bit, floating point, CIELAB...).
    """
    tags = getattr(image, "tag_v2", None)
    bits = set(tags.get(_BITS_PER_SAMPLE, (1,))) if tags is not None else {declared or 8}
    if tags is not None and set(tags.get(_SAMPLE_FORMAT, (1,))) - {1, 4}:
        raise ValueError("holds floating point or signed values; save it with 8 or 16 bits per channel")
    if bits == {16}:
        if image.mode in ("CMYK", "LAB"):
            raise ValueError(f"holds 16-bit {image.mode}; save it as RGB or with 8 bits per channel")
        return 16
    if max(bits) > 8 or image.mode not in _EIGHT_BIT_MODES:
        raise ValueError(
            f"holds {max(bits)} bits per channel in mode {image.mode}; save it as RGB or gray with 8 or 16 bits"
        )
    return 8


def decode_8_bit(
    image: Image.Image, profile: bytes | None, transparent: tuple[int, ...] | None, depth: int, warn: Warn
) -> np.ndarray:
    """uint8 HWC. Palettes, gray and transparent colours become RGB or RGBA; CMYK goes through its profile to
    sRGB.

    transparent: the colour that stands for transparency, in steps of `depth` bits.
    """
    try:
        image.load()
    except RuntimeError as error:  # what Pillow raises about bad AVIF
        raise ValueError(str(error)) from error
    if image.mode == "CMYK":
        return np.array(_cmyk_to_rgb(image, profile, warn))
    if transparent is not None:
        # Of gray with fewer bits Pillow makes all 256 steps.
        steps = tuple(value * 255 // ((1 << depth) - 1) for value in transparent)
        return _with_alpha(np.array(image.convert("RGB")), steps)
    has_alpha = image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info
    mode = "RGBA" if has_alpha else "RGB"
    if image.mode in ("La", "RGBa"):
        image = image.convert({"La": "LA", "RGBa": "RGBA"}[image.mode])
    return np.array(image.convert(mode))


def _with_alpha(pixels_HW3: np.ndarray, colour: tuple[int, ...]) -> np.ndarray:
    """RGBA: transparent where a pixel has this colour."""
    top = np.iinfo(pixels_HW3.dtype).max
    clear_HW = (pixels_HW3 == np.asarray(colour, pixels_HW3.dtype)).all(axis=2)
    alpha_HW1 = np.where(clear_HW, 0, top).astype(pixels_HW3.dtype)[..., None]
    return np.concatenate([pixels_HW3, alpha_HW1], axis=2)


def _cmyk_to_rgb(image: Image.Image, profile: bytes | None, warn: Warn) -> Image.Image:
    if profile:
        from PIL import ImageCms

        try:
            srgb = cast(Any, ImageCms.createProfile("sRGB"))  # its type is not public
            converted = ImageCms.profileToProfile(image, io.BytesIO(profile), srgb, outputMode="RGB")
            assert converted is not None  # only inPlace=True gives None
            return converted
        except (ImageCms.PyCMSError, OSError) as error:
            warn(f"its CMYK colour profile is unusable ({error}); colours may be off")
    return image.convert("RGB")


def decode_16_bit(data: bytes, image: Image.Image, transparent: tuple[int, ...] | None) -> np.ndarray:
    """uint16 HWC, RGB or RGBA, of a PNG's or TIFF's bytes.

    image: the same file opened by Pillow.
    transparent: the colour that stands for transparency.
    Raises ValueError for damaged data, ImportError with the fix without OpenCV.
    """
    if image.format == "TIFF":
        _check_tiff(data, image)
    try:
        import cv2
    except ImportError as error:
        raise ImportError(
            "16 bits per channel need OpenCV, which can't be imported "
            f"({error}); run pip install opencv-python, or save the image with 8 bits"
        ) from error
    try:
        pixels: np.ndarray | None = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise MemoryError(str(error).strip()) from error
        raise ValueError(f"can't be decoded ({str(error).strip()})") from error
    if pixels is None or pixels.dtype != np.uint16:
        raise ValueError("can't be decoded: its 16-bit data is damaged or of a rare kind; save it as 8-bit or as PNG")
    if sorted(pixels.shape[:2]) != sorted(image.size):  # Pillow swaps the size of a lying TIFF
        raise ValueError(f"declares {image.width}x{image.height} pixels but holds {pixels.shape[1]}x{pixels.shape[0]}")
    if pixels.ndim == 2 or pixels.shape[2] == 1:
        pixels = pixels.reshape(pixels.shape[:2])
        tags = getattr(image, "tag_v2", {})
        # OpenCV hands gray TIFF values out as they stand; photometric 0 means that 0 is white.
        pixels = 65535 - pixels if tags.get(_PHOTOMETRIC) == 0 else pixels
        pixels = np.stack([pixels] * 3, axis=-1)
    else:
        pixels = _sort_channels(pixels, image)
    return pixels if transparent is None else _with_alpha(pixels, transparent)


def _sort_channels(pixels_bgr: np.ndarray, image: Image.Image) -> np.ndarray:
    """OpenCV's BGR(A) -> RGB(A). In a TIFF the fourth channel is only alpha when the file says so (Pillow's
    mode knows) and may be multiplied into the colours already (ExtraSamples 1), which is undone."""
    pixels = pixels_bgr[:, :, [2, 1, 0, 3][: pixels_bgr.shape[2]]]
    if image.format == "PNG" or pixels.shape[2] == 3:
        return pixels
    tags = getattr(image, "tag_v2", {})
    if "A" not in image.mode.upper():
        return pixels[:, :, :3]
    if tuple(tags.get(_EXTRA_SAMPLES, ())) == (1,):
        alpha = np.maximum(pixels[:, :, 3:], 1).astype(np.float32)
        colours = np.minimum(np.rint(pixels[:, :, :3] * (65535 / alpha)), 65535).astype(np.uint16)
        return np.concatenate([colours, pixels[:, :, 3:]], axis=2)
    return pixels


def _check_tiff(data: bytes, image: Image.Image) -> None:
    """Raise ValueError unless all pixel data lies inside the file."""
    tags = getattr(image, "tag_v2", {})
    for offsets, counts in _STRIPS_AND_TILES:
        ends = [start + size for start, size in zip(tags.get(offsets, ()), tags.get(counts, ()), strict=False)]
        if max(ends, default=0) > len(data):
            raise ValueError(f"is truncated: its pixels need {max(ends)} bytes, the file has {len(data)}")
    if data[2:4] not in (b"*\0", b"\0*"):
        raise ValueError("is a BigTIFF with 16 bits per channel; save it as plain TIFF or PNG")
