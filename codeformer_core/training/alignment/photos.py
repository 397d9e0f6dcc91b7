"""Which photos are meant, and what they are called in the lists."""

from __future__ import annotations

import glob
import itertools
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ...imaging.codecs.suffixes import READABLE


@dataclass(frozen=True)
class Photo:
    """A photo to cut faces out of.

    source: its name in the lists, with the folder it was found in: the same for every way of naming it.
    """

    path: Path
    source: str


def find_photos(inputs: Iterable[str], output: Path) -> list[Photo]:
    """Files, folders (with the folders inside them, without what is hidden) and patterns, sorted by name.

    Raises ValueError for a place without photos, for two photos that would have one name in the lists, and when the
    output folder lies inside an input, whose next run would take faces for photos.
    """
    target = os.path.realpath(output)
    by_path: dict[str, Photo] = {}
    for text in inputs:
        for photo in _found(text, target):
            by_path.setdefault(os.path.realpath(photo.path), photo)
    photos = sorted(by_path.values(), key=lambda photo: photo.source)
    for first, second in itertools.pairwise(photos):
        if first.source == second.source:
            raise ValueError(
                f"{first.path} and {second.path} would both be called {first.source} in the manifest. "
                "Rename one of them, or align them into different folders"
            )
    return photos


def _found(text: str, target: str) -> list[Photo]:
    path = Path(text)
    if path.is_dir():
        folder = os.path.realpath(path)
        if _is_inside(target, folder):
            raise ValueError(f"the output folder {target} lies inside the input {text}. Name one elsewhere")
        photos = _in_folder(Path(text))
    elif path.is_file():
        photos = [_named(path)]
    elif glob.has_magic(text):
        matches = (Path(match) for match in glob.glob(text, recursive=True))
        photos = [_named(match) for match in matches if match.is_file() and _is_photo(match.name)]
    else:
        raise ValueError(f"{text or 'an empty name'}: there is no such file or folder")
    if not photos:
        raise ValueError(f"{text}: no photos there ({' '.join(READABLE)})")
    for photo in photos:
        if _is_inside(os.path.realpath(photo.path), target):
            raise ValueError(f"{photo.path} lies in the output folder {target}. Name another output folder")
    return photos


def _in_folder(folder: Path) -> list[Photo]:
    name = Path(os.path.realpath(folder)).name
    photos: list[Photo] = []
    for parent, inside, files in os.walk(folder):
        inside[:] = [entry for entry in inside if not entry.startswith(".")]
        for file in files:
            path = Path(parent) / file
            if _is_photo(file) and path.is_file():
                photos.append(Photo(path, _in_letters(Path(name, path.relative_to(folder)))))
    return photos


def _named(path: Path) -> Photo:
    return Photo(path, _in_letters(Path(Path(os.path.abspath(path)).parent.name, path.name)))


def _in_letters(path: Path) -> str:
    """Bytes in a name that are not letters of any kind become marks, since the lists could not hold them."""
    return path.as_posix().encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _is_photo(name: str) -> bool:
    return Path(name).suffix.lower() in READABLE and not name.startswith(".")


def _is_inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(os.path.join(folder, ""))
