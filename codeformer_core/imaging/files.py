"""Picture files in and out: PNG, JPEG, WebP, TIFF and BMP, 8 and 16 bits, upright, whole or not at all.

Shape legend: H W picture height and width, C channels.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import struct
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from ..runtime import memory
from ..runtime.errors import ExistingFileError
from .codecs.content import Picture
from .codecs.decode import GRAY_MODES, bits_per_channel, check_png, decode_8_bit, decode_16_bit
from .codecs.encode import encode
from .codecs.header import Header, read_header
from .codecs.metadata import read_dpi, read_exif, read_orientation, turn_upright
from .codecs.suffixes import FORMATS_IN_WORDS, WRITABLE

__all__ = ["Picture", "read_image", "write_image"]

logger = logging.getLogger(__name__)

# Pillow opens MPO as JPEG.
_FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF")
_LOSSY_TIFF = ("jpeg", "tiff_jpeg", "webp")
# What decoders raise about bad data, besides OSError.
_BAD_DATA = (ValueError, SyntaxError, TypeError, KeyError, IndexError, EOFError, struct.error, zlib.error)
_pillow_limit_lock = threading.Lock()


def read_image(path: str | os.PathLike[str]) -> Picture:
    """The picture in a file, upright; of an animation or a multi-page file the first picture, with a warning.

    Raises FileNotFoundError and other OSErrors as the system gives them; ValueError naming the file when it
    is empty, not a picture, truncated, without pixels, of a kind that isn't read, or larger than the free
    memory (checked against the size in the file's header, before anything is decoded); ImportError when 16
    bits need an OpenCV that isn't there.
    """
    path = Path(path)
    mode = path.stat().st_mode  # asked before opening, which waits for ever at a pipe
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise ValueError(f"{path}: a pipe or device, not a picture file; save the picture first")
    with path.open("rb") as stream:
        if os.fstat(stream.fileno()).st_size == 0:
            raise ValueError(f"{path}: the file is empty (0 bytes)")
        header = read_header(stream)
        if header.width is not None and header.height is not None:
            _check_size(path, header.width, header.height, header.bit_depth or 8)
        with _named_errors(path):
            return _decode(path, stream, header)


def write_image(path: str | os.PathLike[str], picture: Picture, *, overwrite: bool = False) -> None:
    """Write a picture in the format its file name ends with: whole, or not at all.

    16 bits are kept in PNG and TIFF and rounded to 8 elsewhere; alpha is kept in PNG, WebP and TIFF and
    dropped with a warning elsewhere; JPEG has quality 95, WebP too unless the source was lossless. A gray
    source is written gray as long as its pixels still are. Colour profile, resolution and EXIF are kept where
    the format has a place for them (TIFF: camera, author, copyright; not the exposure; BMP: resolution only).

    Raises ExistingFileError unless `overwrite`; ValueError for an unknown suffix, values that are not numbers
    or a size the format can't hold; OSError naming the file when the disk is full or the folder missing or
    read-only.
    """
    path = Path(path)
    file_format = WRITABLE.get(path.suffix.lower())
    if file_format is None:
        known = " ".join(WRITABLE)
        raise ValueError(f"{path}: can't write pictures with the ending {path.suffix!r}; use one of {known}")
    _refuse_existing(path, overwrite)
    data = encode(picture, file_format, str(path))
    # In the same folder, so that the last step is one rename; hidden, so that a listing doesn't take it for a
    # picture.
    temporary = path.with_name(f".{os.getpid()}-{threading.get_ident()}.part")
    begun = False
    try:
        with temporary.open("wb") as stream:
            begun = True
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        _refuse_existing(path, overwrite)
        os.replace(temporary, path)
    except FileExistsError:
        raise
    except OSError as error:
        raise OSError(error.errno, f"could not be written: {_cause(error)}", str(path)) from error
    finally:
        if begun:  # else even the attempt could fail, in a folder that isn't one, and hide the real error
            temporary.unlink(missing_ok=True)


def _decode(path: Path, stream: BinaryIO, header: Header) -> Picture:
    with _without_pillow_limit():
        image = Image.open(stream, formats=_FORMATS)
    with image:
        bit_depth = bits_per_channel(image, header.bit_depth)
        _check_size(path, image.width, image.height, bit_depth)
        if getattr(image, "is_animated", False) and image.format != "MPO":
            logger.warning("%s: holds several pictures; only the first is used", path)
        if image.format == "PNG":
            position = stream.tell()  # Pillow reads on from there
            check_png(_all_bytes(stream))
            stream.seek(position)
        lying = image.format == "TIFF" and read_orientation(image, str(path)) >= 5
        if bit_depth == 16:
            pixels_HWC = decode_16_bit(_all_bytes(stream), image)
        else:
            # Some of Pillow's decoders ask for the limit once more.
            large = Image.MAX_IMAGE_PIXELS is not None and image.width * image.height > Image.MAX_IMAGE_PIXELS
            with _without_pillow_limit() if large else nullcontext():
                pixels_HWC = decode_8_bit(image, str(path))
        # Asked again: newer versions of Pillow have applied and removed a TIFF's orientation now, and a PNG
        # may have its EXIF behind the pixels.
        orientation = read_orientation(image, str(path))
        exif, dpi = read_exif(image, str(path)), read_dpi(image)
        profile = None if image.mode == "CMYK" else image.info.get("icc_profile")  # converted to sRGB
        gray, lossless = image.mode in GRAY_MODES, _is_lossless(image, header)
    pixels_HWC = np.ascontiguousarray(turn_upright(pixels_HWC, orientation))
    # Through numpy: torch got its uint16 only in 2.3.
    image_HWC = torch.from_numpy(pixels_HWC.astype(np.float32)).div_((1 << bit_depth) - 1)
    if dpi is not None and (lying or orientation >= 5):
        dpi = (dpi[1], dpi[0])
    return Picture(image_HWC, bit_depth, gray, profile, exif, dpi, image.format or "", lossless)


def _all_bytes(stream: BinaryIO) -> bytes:
    stream.seek(0)
    return stream.read()


def _is_lossless(image: Image.Image, header: Header) -> bool:
    if image.format == "TIFF":
        return image.info.get("compression") not in _LOSSY_TIFF
    return bool(header.lossless)


def _check_size(path: Path, width: int, height: int, bit_depth: int) -> None:
    if width <= 0 or height <= 0:
        raise ValueError(f"{path}: the picture has no pixels ({width}x{height})")
    # Per pixel, four channels: the decoder's buffer, its copy in our order, and the float32 result.
    per_pixel = 4 * (bit_depth // 8) * 2 + 16
    memory.require(width * height * per_pixel, "cpu", f"{path}: reading {width}x{height} pixels")


@contextmanager
def _without_pillow_limit() -> Iterator[None]:
    """Pillow refuses pictures above a fixed number of pixels, whatever the memory; `_check_size` does it by
    memory. The limit is a module global: it is lifted one caller at a time and put back at once."""
    with _pillow_limit_lock:
        limit = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    """Whatever a decoder says about bad data becomes a ValueError with the file's name."""
    try:
        yield
    except UnidentifiedImageError as error:
        raise ValueError(
            f"{path}: not a picture this program can read ({FORMATS_IN_WORDS}), or its start is damaged"
        ) from error
    except OSError as error:
        if error.errno is not None:  # the disk, not the data
            raise
        raise ValueError(f"{path}: the picture is truncated or damaged ({error})") from error
    except ImportError as error:
        raise ImportError(f"{path}: {error}") from error
    except _BAD_DATA as error:
        if str(path) in str(error):
            raise
        if "MAX_TEXT_CHUNK" in str(error):  # Pillow's guard against texts that fill the memory
            raise ValueError(
                f"{path}: a text or colour profile in it unpacks to more than 1 MiB; save the picture without it"
            ) from error
        raise ValueError(f"{path}: {error or 'the picture is damaged'}") from error


def _refuse_existing(path: Path, overwrite: bool) -> None:
    if path.exists() and not overwrite:
        raise ExistingFileError(errno.EEXIST, "exists already and is kept", str(path))


def _cause(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        return "the disk is full"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "the folder or file is read-only"
    return error.strerror or str(error)
