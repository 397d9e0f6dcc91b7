"""Which image files are meant by files, folders and patterns, and what was left out of these."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..imaging.codecs.suffixes import READABLE
from ..pipeline.video.options import VIDEO_SUFFIXES
from .errors import UsageError

# Entries of sub-folders that are counted for a note, before it says "more than".
_MAX_COUNTED = 10_000
_KINDS_SHOWN = 6


@dataclass(frozen=True)
class Source:
    """An image file.

    place: where the result goes below the output folder, as the image lies below the folder that was named.
    """

    path: Path
    place: Path


@dataclass
class Found:
    """The image files that were found.

    notes: what was left out, one sentence for each input.
    """

    sources: list[Source] = field(default_factory=list[Source])
    notes: list[str] = field(default_factory=list[str])


def find_sources(inputs: Iterable[str], *, recursive: bool = False, output: Path | None = None) -> Found:
    """Files, the images of folders, and patterns with * ? [ ] for shells that leave these alone.

    A file that is named is taken whatever its ending; each file once.
    recursive: folders inside folders too, but for `output` and what is hidden.
    Raises UsageError for inputs that aren't there or hold no image.
    """
    target = None if output is None else os.path.realpath(output)
    sources: dict[str, Source] = {}
    found = Found()
    for text in inputs:
        for source in _expand(text, recursive, target, found.notes):
            sources.setdefault(identity(source.path), source)
    found.sources = list(sources.values())
    return found


def identity(path: Path) -> str:
    """The same for two spellings of one file.

    Upper and lower case are equal where the system takes them as equal.
    """
    return os.path.normcase(os.path.realpath(path))


def _expand(text: str, recursive: bool, target: str | None, notes: list[str]) -> list[Source]:
    if not text:
        raise UsageError("one of the inputs is an empty name: name an image, a folder or a pattern")
    path = Path(text)
    if path.is_dir():
        return _in_folder(path, text, recursive, target, notes)
    if path.is_file():
        if path.suffix.lower() in VIDEO_SUFFIXES:
            raise UsageError(f"{text}: a video, not an image; `codeformer video {text} -o OUT` restores its faces")
        return [Source(path, Path(path.name))]
    if path.exists():  # reading from a pipe could wait for ever
        raise UsageError(f"{text}: a pipe or device, not an image file; save the image first")
    if not glob.has_magic(text):
        raise UsageError(f"{text}: there is no such file or folder")
    files = [Path(match) for match in glob.glob(text, recursive=True) if os.path.isfile(match)]
    images = sorted(file for file in files if _is_image(file.name))
    left_out = _in_words([file.name for file in files if not _is_image(file.name)])
    if not images:
        raise UsageError(f"{text}: no image matches this pattern ({' '.join(READABLE)})" + _holds(left_out))
    notes += [f"{text}: {left_out}"] if left_out else []
    return [Source(file, Path(file.name)) for file in images]


def _in_folder(folder: Path, text: str, recursive: bool, target: str | None, notes: list[str]) -> list[Source]:
    images: list[Path] = []
    others: list[str] = []
    remarks: list[str] = []

    def unreadable(error: OSError) -> None:
        remarks.append(f"{error.filename} can't be opened ({error.strerror})")

    for parent, below, files in os.walk(folder, onerror=unreadable):
        linked = [name for name in below if os.path.islink(os.path.join(parent, name))]
        below[:] = sorted(
            name
            for name in below
            if not name.startswith(".") and name not in linked and not _is(os.path.join(parent, name), target)
        )
        for name in files:
            if name.startswith("."):  # systems keep things that end in .jpg but are none under such names
                continue
            path = Path(parent, name)
            if _is_image(name) and path.is_file():
                images.append(path)
            else:
                others.append(name)
        if recursive:
            remarks += [f"the linked folder {os.path.join(parent, name)} is not followed" for name in linked]
        else:
            remarks += _below(Path(parent), below)
            break
    left_out = _in_words(others)
    said = "; ".join(filter(None, (left_out, *remarks)))
    if not images:
        raise UsageError(f"{text}: the folder holds no images ({' '.join(READABLE)})" + _holds(said))
    notes += [f"{text}: {said}"] if said else []
    return [Source(path, path.relative_to(folder)) for path in sorted(images)]


def _is_image(name: str) -> bool:
    """Hidden files are none."""
    return Path(name).suffix.lower() in READABLE and not name.startswith(".")


def _is(path: str, target: str | None) -> bool:
    return target is not None and os.path.realpath(path) == target


def _below(folder: Path, names: Sequence[str]) -> list[str]:
    """How many folders lie inside, with how many images."""
    if not names:
        return []
    images = counted = 0
    for name in names:
        for _, below, files in os.walk(folder / name):
            below[:] = [entry for entry in below if not entry.startswith(".")]
            images += sum(map(_is_image, files))
            counted += len(files) + len(below)
            if counted > _MAX_COUNTED:
                break
    if not images:
        return []
    most = "more than " if counted > _MAX_COUNTED else ""
    folders = "1 folder inside" if len(names) == 1 else f"{len(names)} folders inside"
    return [f"{folders} with {most}{images} image{'' if images == 1 else 's'} left out (--recursive takes them)"]


def _in_words(names: Sequence[str]) -> str:
    return describe_left_out(Counter(Path(name).suffix.lower() or "without ending" for name in names))


def describe_left_out(kinds: Counter[str]) -> str:
    """3 files left out: 1 .avif, 1 .heic, 1 .jp2

    kinds: how many of each ending.
    """
    total = sum(kinds.values())
    if not total:
        return ""
    shown = sorted(kinds.items(), key=lambda entry: (-entry[1], entry[0]))
    listed = ", ".join(f"{count} {kind}" for kind, count in shown[:_KINDS_SHOWN])
    rest = sum(count for _, count in shown[_KINDS_SHOWN:])
    files = "1 file" if total == 1 else f"{total} files"
    return f"{files} left out: {listed}" + (f", {rest} of other kinds" if rest else "")


def _holds(words: str) -> str:
    return f"; {words}" if words else ""
