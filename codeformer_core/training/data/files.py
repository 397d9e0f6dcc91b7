"""Faces that lie in image files or inside tar files: listed, checked by their headers, read one at a time.

Shape legend: S side of the square face.
"""

from __future__ import annotations

import errno
import hashlib
import io
import logging
import os
import struct
import warnings
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import ExifTags, Image

from ...imaging.codecs.metadata import turn_upright
from ...imaging.codecs.suffixes import READABLE

logger = logging.getLogger(__name__)

# What Pillow raises about bad data, besides OSError.
BAD_DATA = (
    ValueError,
    SyntaxError,
    TypeError,
    KeyError,
    IndexError,
    EOFError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)
# The machine's troubles, not the file's: another face would fare no better.
_OUT_OF_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_HEADER_THREADS = 8
_NAMES_SHOWN = 5
_SAMPLE = 4096
_WITH_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
# Of the images with alpha so many are decoded to see whether it hides anything.
_ALPHAS_TRIED = 16


class BrokenFace(ValueError):
    """This face can't be read; another one may take its place."""


class FaceSource(Protocol):
    """Square aligned faces of one size, by number."""

    @property
    def names(self) -> tuple[str, ...]:
        """One per face, sorted, for messages and lists."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hex; changes when a face is added, removed, renamed or replaced. The folder's own place is not in it."""
        ...

    def __len__(self) -> int: ...

    def read(self, index: int) -> np.ndarray:
        """uint8 (S, S, 3) RGB. Raises BrokenFace, with the face's name and the reason, when it can't be decoded."""
        ...


@dataclass(frozen=True)
class FaceFile:
    """One image: a file, or a part of one (a tar's member) at `offset`.

    size: bytes.
    modified: nanoseconds, so that a file that was replaced is another one here.
    """

    name: str
    path: str
    offset: int | None
    size: int
    modified: int


@dataclass(frozen=True)
class FileFaces:
    """A FaceSource of files. Holds no open file, so that it can be sent to worker processes of every platform."""

    files: tuple[FaceFile, ...]
    image_size: int

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(file.name for file in self.files)

    @property
    def fingerprint(self) -> str:
        return _fingerprint(self.files)

    def __len__(self) -> int:
        return len(self.files)

    def read(self, index: int) -> np.ndarray:
        file = self.files[index]
        try:
            with Image.open(io.BytesIO(read_bytes(file))) as image:
                _check_mode(image)
                pixels = _opaque(image)
                orientation = _orientation(image)  # now, since a PNG may have it behind the pixels
        except BAD_DATA as error:
            raise BrokenFace(f"{file.name}: {_reason(error)}") from error
        except OSError as error:
            if error.errno in _OUT_OF_RESOURCES:
                raise
            raise BrokenFace(f"{file.name}: {_reason(error)}") from error
        if pixels.width != pixels.height or pixels.width < self.image_size:
            raise BrokenFace(f"{file.name}: was replaced, it has {pixels.width}x{pixels.height} pixels now")
        if pixels.width > self.image_size:
            # BOX is the plain average over the area that a new pixel covers.
            pixels = pixels.resize((self.image_size, self.image_size), Image.Resampling.BOX)
        return np.ascontiguousarray(turn_upright(np.array(pixels), orientation))


def read_bytes(file: FaceFile) -> bytes:
    """The image as it was encoded. Opened anew each time: a few microseconds, and nothing to share or to leak."""
    with open(file.path, "rb", buffering=0) as stream:
        if file.offset is None:
            return stream.readall()
        stream.seek(file.offset)
        parts: list[bytes] = []
        missing = file.size
        while missing and (part := stream.read(missing)):  # a raw read may give less than was asked for
            parts.append(part)
            missing -= len(part)
    if missing:
        raise ValueError(f"its shard ends {missing} bytes early")
    return b"".join(parts)


@lru_cache(maxsize=4)
def _fingerprint(files: tuple[FaceFile, ...]) -> str:
    """Names, sizes and a sample of the contents: a copy of the faces on another machine has the same."""
    digest = hashlib.sha256()
    for file in files:
        # Names may hold bytes that are not text.
        digest.update(f"{file.name}\0{file.size}\0{_sample(file):08x}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:32]


def _sample(file: FaceFile) -> int:
    """CRC-32 of a part in the middle, where the image's own data are; 0 where the file is gone by now."""
    try:
        with open(file.path, "rb", buffering=0) as stream:
            stream.seek((file.offset or 0) + max(0, file.size - _SAMPLE) // 2)
            return zlib.crc32(stream.read(min(file.size, _SAMPLE)))
    except OSError:
        return 0


def is_face_name(name: str) -> bool:
    """Whether a path below the faces' folder is an image; hidden files and folders are not."""
    parts = Path(name).parts
    return Path(name).suffix.lower() in READABLE and not any(part.startswith(".") for part in parts)


def list_folder(folder: Path) -> list[FaceFile]:
    """The images in a folder and the folders inside it, by name; each folder once, however many links lead to it."""
    found: list[FaceFile] = []
    visited = {os.path.realpath(folder)}
    for parent, inside, names in os.walk(folder, followlinks=True):
        further: dict[str, str] = {}
        for name in sorted(inside):  # of two links, the same one is followed everywhere
            place = os.path.realpath(os.path.join(parent, name))
            if not name.startswith(".") and place not in visited:
                visited.add(place)
                further[name] = place
        inside[:] = further
        for name in names:
            path = Path(parent) / name
            relative = path.relative_to(folder).as_posix()
            if is_face_name(relative) and path.is_file():
                found.append(face_file(path, relative))
    return sorted(found, key=lambda file: file.name)


def face_file(path: Path, name: str) -> FaceFile:
    status = path.stat()
    return FaceFile(name, str(path), None, status.st_size, status.st_mtime_ns)


def checked(files: Sequence[FaceFile], image_size: int, where: str, least: int) -> FileFaces:
    """The faces whose headers say that they can be trained on; those that can't be opened are logged and left out.

    where: how messages call the place.
    Raises ValueError when faces are not square or too small, naming the first of them, and when fewer than `least`
    remain.
    """
    with warnings.catch_warnings(), ThreadPoolExecutor(_HEADER_THREADS) as threads:
        # Pillow's remark about an image of too many pixels doesn't say which; as an error it is told with the name.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        headers = list(threads.map(_header, files))
    _warn_of_alpha([file for file, (_, _, has_alpha) in zip(files, headers, strict=True) if has_alpha])
    fit: list[FaceFile] = []
    misfits: list[str] = []
    unreadable = 0
    for file, (size, reason, _) in zip(files, headers, strict=True):
        if size is None:
            logger.warning("%s: left out: %s", file.name, reason)
            unreadable += 1
        elif size[0] != size[1] or size[0] < image_size:
            misfits.append(f"{file.name} ({size[0]}x{size[1]})")
        else:
            fit.append(file)
    if misfits:
        raise ValueError(
            f"{where}: {len(misfits)} of {len(files)} images are not faces of {image_size}x{image_size} pixels or "
            f"more: {shortened(misfits)}. Cut aligned faces out of the photos with "
            "`python -m codeformer_core train align PHOTOS -o FOLDER`, or set a smaller image_size"
        )
    if len(fit) < max(least, 1):
        left_out = f" ({unreadable} more can't be read, see above)" if unreadable else ""
        raise ValueError(
            f"{where}: {len(fit)} faces found{left_out}, {max(least, 1)} needed. Add faces, for example with "
            "`python -m codeformer_core train align`, or name another folder"
        )
    return FileFaces(tuple(fit), image_size)


def refuse_repeated_names(files: Iterable[FaceFile], where: str) -> None:
    """Raise ValueError when two faces have one name: reports could not tell them apart."""
    twice = [name for name, count in Counter(file.name for file in files).items() if count > 1]
    if twice:
        raise ValueError(f"{where}: {len(twice)} names occur twice: {shortened(twice)}. Name each face once")


def shortened(names: Sequence[str]) -> str:
    """The first few of many names, in words."""
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return ", ".join(names[:_NAMES_SHOWN]) + more


def _header(file: FaceFile) -> tuple[tuple[int, int] | None, str, bool]:
    """Width and height, or None and why not; and whether it has alpha."""
    try:
        with Image.open(io.BytesIO(read_bytes(file))) as image:
            _check_mode(image)
            return image.size, "", image.mode in _WITH_ALPHA or "transparency" in image.info
    except (OSError, *BAD_DATA) as error:
        if isinstance(error, OSError) and error.errno in _OUT_OF_RESOURCES:
            raise
        return None, _reason(error), False


def _warn_of_alpha(files: Sequence[FaceFile]) -> None:
    """One line when images with alpha don't show all of their pixels: training takes the colours behind it."""
    for file in files[:_ALPHAS_TRIED]:
        try:
            with Image.open(io.BytesIO(read_bytes(file))) as image:
                shows_all = int(np.asarray(image.convert("RGBA"))[..., 3].min()) == 255
        except (OSError, *BAD_DATA):  # told when the face is drawn
            continue
        if not shows_all:
            logger.warning(
                "%s: has transparent pixels (%d images have alpha); the colours behind them are trained on. "
                "Save the faces without alpha",
                file.name,
                len(files),
            )
            return


def _orientation(image: Image.Image) -> int:
    """1..8 as in EXIF; damaged EXIF says nothing, and the face is taken as it lies."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except (OSError, *BAD_DATA):
        return 1
    return value if value in range(1, 9) else 1


def _opaque(image: Image.Image) -> Image.Image:
    """RGB. A palette's transparent colours go through RGBA, else Pillow warns without the file's name."""
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def _check_mode(image: Image.Image) -> None:
    if image.mode.startswith("I") or image.mode == "F":  # Pillow would cut the values off at 255
        raise ValueError(f"holds more than 8 bits per channel (mode {image.mode}); save it with 8")


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno is not None:
        return error.strerror or str(error)
    # Pillow's sentence about a stream that isn't an image ends in the stream's address.
    text = str(error).partition(" <")[0]
    return " ".join(text.split()) or type(error).__name__
