"""A picture's pixels -> the bytes of a PNG, JPEG, WebP, TIFF or BMP file.

Shape legend: H W picture height and width, C channels (1 gray, 2 gray and alpha, 3 RGB, 4 RGBA).
"""

from __future__ import annotations

import io
import logging
import struct
import zlib

import numpy as np
import torch
from PIL import Image

from .content import Picture
from .header import PNG_SIGNATURE
from .metadata import main_exif_text, profile_for
from .tiff import encode_tiff

logger = logging.getLogger(__name__)

QUALITY = 95
_WITH_ALPHA = ("PNG", "WEBP", "TIFF")
_WITH_16_BIT = ("PNG", "TIFF")
_LONGEST_SIDE = {"JPEG": 65500, "WEBP": 16383}  # libjpeg's and WebP's own limits
_LONGEST_JPEG_EXIF = 65533
_METERS_PER_INCH = 0.0254
_STRIP_VALUES = 1 << 22
_OPAQUE = 254.5 / 255  # what becomes 255


def encode(picture: Picture, file_format: str, name: str) -> bytes:
    """The file's bytes. What the format can't hold is left out: 16 bits are rounded to 8, and alpha is
    dropped with a warning (the colours under it stay as they are; nobody knows the background it was meant
    for).

    Raises ValueError for values that are not numbers and for pictures too large for the format.
    """
    height, width, _ = picture.image_HWC.shape
    longest = _LONGEST_SIDE.get(file_format)
    if longest is not None and max(height, width) > longest:
        raise ValueError(
            f"{name}: {width}x{height} pixels are too many for {file_format}, "
            f"which takes {longest} a side; write PNG or TIFF"
        )
    bit_depth = picture.bit_depth if file_format in _WITH_16_BIT else 8
    image_HWC = picture.image_HWC
    # Smallest and largest are finite exactly when all values are, and need no mask of the picture's size.
    if not all(map(torch.isfinite, torch.aminmax(image_HWC))):
        raise ValueError(
            f"{name}: not written, because the picture holds values that are not numbers (NaN or infinity)"
        )
    if picture.has_alpha and file_format not in _WITH_ALPHA:
        if image_HWC[..., 3].min() < _OPAQUE:
            logger.warning("%s: %s holds no transparency; it is dropped. Write PNG, WebP or TIFF", name, file_format)
        image_HWC = image_HWC[..., :3]
    # WebP has no gray at all; 16-bit gray with alpha is more than OpenCV and Pillow can read back.
    can_be_gray = file_format != "WEBP" and (bit_depth == 8 or image_HWC.shape[2] == 3)
    gray = picture.gray and can_be_gray and _is_gray(image_HWC)
    if gray:
        image_HWC = torch.cat([image_HWC[..., :3].mean(2, keepdim=True), image_HWC[..., 3:]], dim=2)
    pixels_HWC = _quantise(image_HWC, bit_depth)
    profile = profile_for(picture.icc_profile, gray)
    if file_format == "TIFF":
        return encode_tiff(pixels_HWC, profile, picture.dpi, main_exif_text(picture.exif))
    if bit_depth == 8:
        return _encode_8_bit(pixels_HWC, picture, file_format, profile, name)
    return _encode_png16(pixels_HWC, picture, profile, name)


def _quantise(image_HWC: torch.Tensor, bit_depth: int) -> np.ndarray:
    """Values outside [0, 1] are clipped, the rest rounded to the nearest step. In strips: a whole picture once more
    as floats is what large ones have no memory for."""
    steps = (1 << bit_depth) - 1
    height, width, channels = image_HWC.shape
    pixels_HWC = np.empty((height, width, channels), np.uint8 if bit_depth == 8 else np.uint16)
    rows = max(1, _STRIP_VALUES // (width * channels))
    for top in range(0, height, rows):
        strip_HWC = image_HWC[top : top + rows].detach().to("cpu", torch.float32)
        pixels_HWC[top : top + rows] = strip_HWC.clamp(0, 1).mul_(steps).round_().numpy()
    return pixels_HWC


def _is_gray(image_HWC: torch.Tensor) -> bool:
    """Channels equal but for less than an 8-bit step, which is what computing with them leaves."""
    rgb_HWC = image_HWC[..., :3]
    return bool((rgb_HWC.amax(2) - rgb_HWC.amin(2)).max() < 1 / 255)


def _encode_8_bit(
    pixels_HWC: np.ndarray, picture: Picture, file_format: str, profile: bytes | None, name: str
) -> bytes:
    options: dict[str, object] = {}
    if file_format == "JPEG":
        options = {
            "quality": QUALITY,
            "subsampling": 0,
        }  # halved colour resolution shows around lips and eyes
    elif file_format == "WEBP":
        # exact: colours under transparent pixels are kept too.
        options = {"lossless": True, "exact": True} if picture.lossless else {"quality": QUALITY}
    if file_format != "BMP":
        options |= {"icc_profile": profile, "exif": _fitting_exif(picture.exif, file_format, name)}
    if picture.dpi is not None and file_format != "WEBP":
        options["dpi"] = picture.dpi
    image = Image.fromarray(pixels_HWC[..., 0] if pixels_HWC.shape[2] == 1 else pixels_HWC)
    # Encoded in memory: Pillow reports a full disk as "encoder error -2", a plain file write says what it is.
    stream = io.BytesIO()
    image.save(stream, format=file_format, **{key: value for key, value in options.items() if value})
    return stream.getvalue()


def _fitting_exif(exif: bytes | None, file_format: str, name: str) -> bytes:
    if exif is not None and file_format == "JPEG" and len(exif) > _LONGEST_JPEG_EXIF:
        logger.warning("%s: its %s bytes of EXIF data are too many for JPEG and left out", name, f"{len(exif):,}")
        return b""
    return exif or b""


def _encode_png16(pixels_HWC: np.ndarray, picture: Picture, profile: bytes | None, name: str) -> bytes:
    try:
        import cv2
    except ImportError as error:
        raise ImportError(
            f"{name}: writing 16 bits per channel needs OpenCV, which can't be imported ({error}); "
            "run pip install opencv-python"
        ) from error
    order = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[pixels_HWC.shape[2]]
    written, encoded = cv2.imencode(".png", np.ascontiguousarray(pixels_HWC[..., order]))
    assert written  # the picture's kind and size were checked
    chunks = b""
    if profile is not None:
        chunks += _png_chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(profile))
    if picture.dpi is not None:
        horizontal, vertical = (round(dpi / _METERS_PER_INCH) for dpi in picture.dpi)
        chunks += _png_chunk(b"pHYs", struct.pack(">IIB", horizontal, vertical, 1))
    if picture.exif is not None:
        chunks += _png_chunk(b"eXIf", picture.exif.removeprefix(b"Exif\0\0"))
    after_header = len(PNG_SIGNATURE) + 25  # IHDR always takes 25 bytes
    data = encoded.tobytes()
    return data[:after_header] + chunks + data[after_header:]


def _png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
