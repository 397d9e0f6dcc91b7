"""An image's pixels and metadata -> the bytes of a PNG, JPEG, WebP, TIFF, BMP or AVIF file.

Shape legend: H W image height and width, C channels (1 gray, 2 gray and alpha, 3 RGB, 4 RGBA).
"""

from __future__ import annotations

import io
import logging
import struct
from collections.abc import Mapping

import numpy as np
import torch
from PIL import Image

from ..containers import jpeg, png, webp
from ..metadata.attachments import Attachments, unplaced
from ..metadata.exif import PREFIX, with_size, without_orientation
from ..metadata.ifd import DamagedDirectory
from ..tensors import FAR_OUTSIDE, outside_words
from .avif import require_avif
from .content import Picture
from .metadata import fits_pixels
from .suffixes import check_size
from .tiff import encode_tiff

logger = logging.getLogger(__name__)

QUALITY = 95
_WITH_ALPHA = ("PNG", "WEBP", "TIFF", "AVIF")
_WITH_16_BIT = ("PNG", "TIFF")
_STRIP_VALUES = 1 << 22
_OPAQUE = 254.5 / 255  # what becomes 255


def encode(picture: Picture, file_format: str, name: str) -> bytes:
    """The file's bytes.

    What the format can't hold is left out with one warning that names it: 16 bits are rounded to 8, and alpha is
    dropped (the colours under it stay as they are; nobody knows the background it was meant for).

    file_format: "PNG", "JPEG", "WEBP", "TIFF", "BMP" or "AVIF".
    name: of the file, for messages.
    Raises ValueError for values that are not numbers or far outside [0, 1], and for images too large for the format;
    ImportError with the fix where a package is missing for it.
    """
    height, width, _ = picture.image_HWC.shape
    if file_format == "AVIF":
        require_avif(name)
    try:
        check_size(file_format, width, height)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    bit_depth = picture.bit_depth if file_format in _WITH_16_BIT else 8
    image_HWC = picture.image_HWC
    shown = file_format.replace("WEBP", "WebP")
    _check_values(image_HWC, name)
    if picture.has_alpha and file_format not in _WITH_ALPHA:
        if image_HWC[..., 3].min() < _OPAQUE:
            logger.warning("%s: %s holds no transparency; it is dropped. Write PNG, WebP or TIFF", name, shown)
        image_HWC = image_HWC[..., :3]
    if picture.bit_depth > bit_depth:
        logger.warning("%s: %s holds 8 bits per channel; the source's 16 are rounded", name, shown)
    # WebP has no gray at all; 16-bit gray with alpha is more than OpenCV and Pillow can read back.
    can_be_gray = file_format != "WEBP" and (bit_depth == 8 or image_HWC.shape[2] == 3)
    gray = picture.gray and can_be_gray and _is_gray(image_HWC)
    if gray:
        image_HWC = torch.cat([image_HWC[..., :3].mean(2, keepdim=True), image_HWC[..., 3:]], dim=2)
    pixels_HWC = _quantise(image_HWC, bit_depth)
    attached = _attachments(picture, gray, name)
    data = _encode(pixels_HWC, picture, file_format, attached, name)
    lost = [*attached.lost, *unplaced(attached, file_format)]
    if lost:
        logger.warning("%s: not carried over into %s: %s", name, shown, "; ".join(dict.fromkeys(lost)))
    return data


def _check_values(image_HWC: torch.Tensor, name: str) -> None:
    least, most = torch.aminmax(image_HWC)
    # Smallest and largest are finite exactly when all values are, and need no mask of the image's size.
    if not (torch.isfinite(least) and torch.isfinite(most)):
        raise ValueError(f"{name}: not written, because the image holds values that are not numbers (NaN or infinity)")
    if max(-float(least), float(most)) > FAR_OUTSIDE:
        raise ValueError(f"{name}: not written, because {outside_words(float(least), float(most))}")


def _attachments(picture: Picture, gray: bool, name: str) -> Attachments:
    """What goes along, as it fits the pixels that are written."""
    height, width, _ = picture.image_HWC.shape
    profile = picture.icc_profile
    lost: list[str] = []
    if profile is not None and not fits_pixels(profile, gray):
        space = profile[16:20].decode("latin-1").strip()
        lost.append(f"its colour profile, which is for {space} and not for {'gray' if gray else 'RGB'} pixels")
        profile = None
    exif = None if picture.exif is None else picture.exif.removeprefix(PREFIX)
    try:
        exif = None if exif is None else with_size(exif, width, height)
    except (DamagedDirectory, struct.error):
        lost.append("its EXIF data, which is damaged")
        exif = None
    return Attachments(profile, exif, picture.dpi, picture.metadata, lost)


def _encode(pixels_HWC: np.ndarray, picture: Picture, file_format: str, attached: Attachments, name: str) -> bytes:
    match file_format:
        case "TIFF":
            return encode_tiff(pixels_HWC, attached)
        case "PNG":
            plain = _save(pixels_HWC, "PNG", {}) if pixels_HWC.dtype == np.uint8 else _encode_png16(pixels_HWC, name)
            return png.put_together(plain, attached)
        case "JPEG":
            # Halved colour resolution shows around lips and eyes.
            options = {"quality": QUALITY, "subsampling": 0, "dpi": attached.dpi}
            return jpeg.put_together(_save(pixels_HWC, "JPEG", options), attached)
        case "BMP":
            return _save(pixels_HWC, "BMP", {"dpi": attached.dpi})
        case _:
            pass  # AVIF and WebP, whose metadata Pillow writes
    options = {"icc_profile": attached.icc_profile, "exif": attached.exif, "xmp": attached.metadata.xmp}
    if file_format == "AVIF":
        if attached.exif is not None:
            options["exif"] = without_orientation(attached.exif)
        # 100 is as near to lossless as 8-bit YCbCr can be.
        options |= {"quality": 100 if picture.lossless else QUALITY, "subsampling": "4:4:4"}
        return _save(pixels_HWC, "AVIF", options)
    # exact: colours under transparent pixels are kept too.
    options |= {"lossless": True, "exact": True} if picture.lossless else {"quality": QUALITY}
    extras = [extra for extra in attached.metadata.extras if extra.format == "WEBP"]
    height, width = pixels_HWC.shape[:2]
    return webp.with_extras(_save(pixels_HWC, "WEBP", options), extras, width, height)


def _quantise(image_HWC: torch.Tensor, bit_depth: int) -> np.ndarray:
    """Values outside [0, 1] are clipped, the rest rounded to the nearest step.

    In strips: memory does not hold a large image once more as floats.
    """
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


def _save(pixels_HWC: np.ndarray, file_format: str, options: Mapping[str, object]) -> bytes:
    image = Image.fromarray(pixels_HWC[..., 0] if pixels_HWC.shape[2] == 1 else pixels_HWC)
    # Encoded in memory: Pillow reports a full disk as "encoder error -2", a plain file write says what it is.
    stream = io.BytesIO()
    image.save(stream, format=file_format, **{key: value for key, value in options.items() if value is not None})
    return stream.getvalue()


def _encode_png16(pixels_HWC: np.ndarray, name: str) -> bytes:
    try:
        import cv2
    except ImportError as error:
        raise ImportError(
            f"{name}: writing 16 bits per channel needs OpenCV, which can't be imported ({error}); "
            "run pip install opencv-python"
        ) from error
    order = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[pixels_HWC.shape[2]]
    written, encoded = cv2.imencode(".png", np.ascontiguousarray(pixels_HWC[..., order]))
    assert written  # the image's kind and size were checked
    return encoded.tobytes()
