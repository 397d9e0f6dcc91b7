"""Image files in and out: PNG, JPEG, WebP, TIFF, BMP and AVIF, 8 and 16 bits, upright, whole or not at all.

Shape legend: H W image height and width, C channels.
"""

from __future__ import annotations

import errno
import io
import logging
import os
import platform
import stat
import struct
import threading
import zlib
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from ..runtime import memory
from ..runtime.errors import ExistingFileError
from .codecs.avif import require_avif
from .codecs.content import Picture
from .codecs.decode import GRAY_MODES, bits_per_channel, decode_8_bit, decode_16_bit
from .codecs.detect import detect_format, name_of_stranger
from .codecs.encode import encode
from .codecs.header import Header, read_header
from .codecs.metadata import turn_upright, usable_dpi
from .codecs.suffixes import FORMATS_IN_WORDS, WRITABLE
from .containers import jpeg, png, tiff, webp
from .containers.others import read_parts
from .metadata.content import Parts, Warn
from .metadata.exif import PREFIX

__all__ = ["Picture", "decode_image", "read_image", "write_image"]

logger = logging.getLogger(__name__)

_TAKE_APART: dict[str, Callable[[bytes, Warn, bool], Parts]] = {
    "PNG": png.take_apart,
    "JPEG": jpeg.take_apart,
    "WEBP": webp.take_apart,
    "TIFF": tiff.take_apart,
}
_LOSSY_TIFF = ("jpeg", "tiff_jpeg", "webp")
_SHORTEST_PROFILE = 128  # bytes of an ICC profile's header
# What decoders raise about bad data, besides OSError.
_BAD_DATA = (ValueError, SyntaxError, TypeError, KeyError, IndexError, EOFError, struct.error, zlib.error)
_pillow_limit_lock = threading.Lock()
# Files being written are named by process, thread and machine, so that only what nobody writes any more is deleted.
PART_SUFFIX = ".part"
_MACHINE = f"{zlib.crc32(platform.node().encode()):08x}"


def read_image(path: str | os.PathLike[str], *, strict: bool = False) -> Picture:
    """The image in a file, upright; of an animation or a multi-page file the first image, with a warning.

    The file's bytes decide on the format, not its name. What else the file holds is kept as bytes; what is damaged or
    too large of it is left out with a warning.

    path: PNG, JPEG, WebP, TIFF, BMP, GIF, or AVIF where Pillow reads it.
    strict: refuse an image whose end is missing. Otherwise a JPEG that is cut short is read as far as it goes, and a
    PNG whose pixels are complete is read without its end marker, with a warning.
    Raises FileNotFoundError and other OSErrors as the system gives them; ValueError naming the file when it is empty,
    not an image, truncated, without pixels, of a kind that isn't read, or larger than the free memory (checked against
    the size in the file's header, before anything is decoded); ImportError when 16 bits need OpenCV, or AVIF a newer
    Pillow.
    """
    path = Path(path)
    mode = path.stat().st_mode  # asked before opening, which waits for ever at a pipe
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise ValueError(f"{path}: a pipe or device, not an image file; save the image first")
    with path.open("rb") as stream:
        file_format, header = inspect(path, stream)
        if header.width is not None and header.height is not None:
            _check_size(path, header.width, header.height, header.bit_depth or 8)
        data = stream.read()
    with _named_errors(path):
        return _decode(path, data, file_format, header, strict)


def decode_image(data: bytes, name: str, *, strict: bool = False) -> Picture:
    """As `read_image`, of a file's bytes.

    name: of the file, for messages.
    """
    stream = io.BytesIO(data)
    file_format, header = inspect(name, stream)
    if header.width is not None and header.height is not None:
        _check_size(name, header.width, header.height, header.bit_depth or 8)
    with _named_errors(name):
        return _decode(name, data, file_format, header, strict)


def inspect(path: Path | str, stream: BinaryIO) -> tuple[str, Header]:
    """The format and what the header declares, from the first bytes alone; the stream is left at its start.

    Raises ValueError naming the file when it is empty or not an image that is read; ImportError where Pillow lacks
    AVIF.
    """
    head = stream.read(512)
    stream.seek(0)
    if not head:
        raise ValueError(f"{path}: the file is empty (0 bytes)")
    file_format = detect_format(head)
    if file_format is None:
        raise ValueError(f"{path}: {name_of_stranger(head)}")
    if file_format == "AVIF":
        require_avif(str(path))
    header = read_header(stream)
    if header.raw:
        raise ValueError(f"{path}: is a camera's RAW file, which is not read; develop it to TIFF, PNG or JPEG first")
    return file_format, header


def write_image(path: str | os.PathLike[str], picture: Picture, *, overwrite: bool = False) -> None:
    """Write an image in the format its file name ends with: whole, or not at all.

    16 bits are kept in PNG and TIFF and rounded to 8 elsewhere; alpha is kept in PNG, WebP, TIFF and AVIF and dropped
    elsewhere; JPEG has quality 95, WebP and AVIF too unless the source was lossless. A gray source is written gray as
    long as its pixels still are. Colour profile, resolution, EXIF and the rest of the metadata go over as bytes
    wherever the format has a place for them. Each loss is named in a warning.

    path: its suffix decides on the format.
    overwrite: replace a file that is there.
    Raises ExistingFileError unless `overwrite`; ValueError for an unknown suffix, values that are not numbers or far
    outside [0, 1], or a size the format can't hold; ImportError with the fix for AVIF without a Pillow that writes it;
    OSError naming the file when the disk is full or the folder missing or read-only.
    """
    path = Path(path)
    file_format = WRITABLE.get(path.suffix.lower())
    if file_format is None:
        known = " ".join(WRITABLE)
        raise ValueError(f"{path}: can't write images with the ending {path.suffix!r}; use one of {known}")
    _refuse_existing(path, overwrite)
    data = encode(picture, file_format, str(path))
    # In the same folder, so that the last step is one rename; hidden, so that a listing doesn't take it for a
    # image.
    temporary = path.with_name(f".{os.getpid()}-{threading.get_ident()}-{_MACHINE}{PART_SUFFIX}")
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


def remove_leftovers(folder: str | os.PathLike[str]) -> int:
    """Delete what killed processes of this machine left half written in `folder`; how many files that were."""
    import psutil

    removed = 0
    for path in Path(folder).glob(f".*-{_MACHINE}{PART_SUFFIX}"):
        process = path.name[1:].partition("-")[0]
        if process.isdigit() and not psutil.pid_exists(int(process)):
            path.unlink(missing_ok=True)
            removed += 1
    return removed


def _decode(path: Path | str, data: bytes, file_format: str, header: Header, strict: bool) -> Picture:
    def warn(text: str) -> None:
        logger.warning("%s: %s", path, text)

    parts = _TAKE_APART[file_format](data, warn, strict) if file_format in _TAKE_APART else Parts(data)
    try:
        with _without_pillow_limit():
            image = Image.open(io.BytesIO(parts.pixels), formats=(file_format,))
    except RuntimeError as error:  # what Pillow raises about bad AVIF
        raise ValueError(str(error)) from error
    with image:
        if file_format not in _TAKE_APART:
            parts = read_parts(data, image, warn)
        bit_depth = bits_per_channel(image, header.bit_depth if file_format != "AVIF" else 8)
        _check_size(path, image.width, image.height, bit_depth)
        several = parts.several or (file_format in ("GIF", "AVIF") and getattr(image, "is_animated", False))
        if several and file_format != "JPEG":
            warn("holds several images; only the first is used")
        if file_format == "AVIF" and header.bit_depth != 8:
            warn("its more than 8 bits per channel are rounded to 8")
        if bit_depth == 16:
            pixels_HWC = decode_16_bit(parts.pixels, image, parts.transparent)
        else:
            # Some of Pillow's decoders ask for the limit once more.
            large = Image.MAX_IMAGE_PIXELS is not None and image.width * image.height > Image.MAX_IMAGE_PIXELS
            with _without_pillow_limit() if large else nullcontext():
                depth = header.bit_depth or 8
                pixels_HWC = decode_8_bit(image, parts.icc_profile, parts.transparent, depth, warn)
        cmyk, gray, lossless = image.mode == "CMYK", image.mode in GRAY_MODES, _is_lossless(image, header)
    profile = None if cmyk else parts.icc_profile  # converted to sRGB
    if profile is not None and len(profile) < _SHORTEST_PROFILE:
        warn("its colour profile is damaged and left out")
        profile = None
    metadata, dpi = parts.metadata, usable_dpi(parts.dpi)
    if parts.orientation >= 5:
        dpi = dpi and (dpi[1], dpi[0])
        metadata = replace(metadata, aspect=metadata.aspect and (metadata.aspect[1], metadata.aspect[0]))
    pixels_HWC = np.ascontiguousarray(turn_upright(pixels_HWC, parts.orientation))
    # Through numpy: torch got its uint16 only in 2.3.
    image_HWC = torch.from_numpy(pixels_HWC.astype(np.float32)).div_((1 << bit_depth) - 1)
    exif = None if parts.exif is None else PREFIX + parts.exif
    name = "MPO" if file_format == "JPEG" and several else file_format
    return Picture(image_HWC, bit_depth, gray, profile, exif, dpi, name, lossless, metadata)


def _is_lossless(image: Image.Image, header: Header) -> bool:
    if image.format == "TIFF":
        return image.info.get("compression") not in _LOSSY_TIFF
    return bool(header.lossless)


def _check_size(path: Path | str, width: int, height: int, bit_depth: int) -> None:
    if width <= 0 or height <= 0:
        raise ValueError(f"{path}: the image has no pixels ({width}x{height})")
    # Per pixel, four channels: the decoder's buffer, its copy in our order, and the float32 result.
    per_pixel = 4 * (bit_depth // 8) * 2 + 16
    memory.require(width * height * per_pixel, "cpu", f"{path}: reading {width}x{height} pixels")


@contextmanager
def _without_pillow_limit() -> Generator[None]:
    """Pillow refuses images above a fixed number of pixels, whatever the memory; `_check_size` does it by
    memory. The limit is a module global: it is lifted one caller at a time and put back at once."""
    with _pillow_limit_lock:
        limit = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


@contextmanager
def _named_errors(path: Path | str) -> Generator[None]:
    """Errors of a decoder about bad data, all of which is in memory, become a ValueError with the file's name."""
    try:
        yield
    except UnidentifiedImageError as error:
        raise ValueError(
            f"{path}: not an image this program can read ({FORMATS_IN_WORDS}), or its start is damaged"
        ) from error
    except OSError as error:
        raise ValueError(f"{path}: the image is truncated or damaged ({error})") from error
    except ImportError as error:
        raise ImportError(f"{path}: {error}") from error
    except _BAD_DATA as error:
        if str(path) in str(error):
            raise
        raise ValueError(f"{path}: {error or 'the image is damaged'}") from error


def _refuse_existing(path: Path, overwrite: bool) -> None:
    if path.exists() and not overwrite:
        raise ExistingFileError(errno.EEXIST, "exists already and is kept", str(path))


def _cause(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        return "the disk is full"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "the folder or file is read-only"
    return error.strerror or str(error)
