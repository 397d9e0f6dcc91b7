"""Which files a command reads and writes, settled and checked before the first one is opened."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..imaging.codecs.suffixes import READ_ONLY, READABLE, WRITABLE
from .errors import UsageError

_COMPARE_ENDING = "_compare.png"


@dataclass(frozen=True)
class Job:
    """One picture: where it is, where it goes, and where the before/after picture goes if one is wanted."""

    source: Path
    output: Path
    compare: Path | None

    @property
    def written(self) -> tuple[Path, ...]:
        return (self.output,) if self.compare is None else (self.output, self.compare)


def plan_jobs(inputs: Sequence[str], out: str, *, compare: bool, overwrite: bool) -> list[Job]:
    """The work in order. `out` is a folder, or a picture file when the only input is a file.

    Raises UsageError for inputs that aren't there, outputs that exist (without `overwrite`), two pictures
    that would get the same name, and outputs that would replace a source.
    """
    sources = expand_inputs(inputs)
    if not out:
        raise UsageError("-o is given an empty name: name a folder, or a new picture")
    target = Path(out)
    names_a_file = target.suffix.lower() in WRITABLE and not target.is_dir()
    if names_a_file and (len(inputs) > 1 or Path(inputs[0]).is_dir() or len(sources) > 1):
        raise UsageError(f"{out} names one picture, but the input is {len(sources)} pictures: name a folder")
    if target.exists() and not target.is_dir() and not names_a_file:
        known = " ".join(WRITABLE)
        raise UsageError(f"{out} is a file: name a folder, or a new picture that ends in one of {known}")
    if target.suffix.lower() in READ_ONLY and not target.is_dir():
        raise UsageError(f"{out}: can't be written as {target.suffix}; use one of {' '.join(WRITABLE)}")
    jobs = []
    for source in sources:
        output = target if names_a_file else target / _output_name(source)
        compared = output.with_name(output.stem + _COMPARE_ENDING) if compare else None
        jobs.append(Job(source, output, compared))
    _refuse_collisions(jobs)
    if not overwrite:
        _refuse_existing(jobs)
    return jobs


def expand_inputs(inputs: Iterable[str]) -> list[Path]:
    """Files, the pictures of folders (not of folders inside them), and patterns with * ? [ ] for shells that
    leave these alone. A file that is named is taken whatever its ending; each file once."""
    found: dict[str, Path] = {}
    for text in inputs:
        for path in _expand(text):
            found.setdefault(_identity(path), path)
    return list(found.values())


def _expand(text: str) -> list[Path]:
    if not text:
        raise UsageError("one of the inputs is an empty name: name a picture, a folder or a pattern")
    path = Path(text)
    if path.is_dir():
        pictures = _pictures(path.iterdir())
        if not pictures:
            raise UsageError(f"{text}: the folder holds no pictures ({' '.join(READABLE)})")
        return pictures
    if path.is_file():
        return [path]
    if path.exists():  # reading from a pipe could wait for ever
        raise UsageError(f"{text}: a pipe or device, not a picture file; save the picture first")
    if not glob.has_magic(text):
        raise UsageError(f"{text}: there is no such file or folder")
    pictures = _pictures(Path(match) for match in glob.glob(text, recursive=True))
    if not pictures:
        raise UsageError(f"{text}: no picture matches this pattern ({' '.join(READABLE)})")
    return pictures


def _pictures(paths: Iterable[Path]) -> list[Path]:
    """Hidden files are left out: systems keep things that end in .jpg but are none under such names."""
    return sorted(
        path for path in paths if path.suffix.lower() in READABLE and not path.name.startswith(".") and path.is_file()
    )


def _output_name(source: Path) -> str:
    return source.name if source.suffix.lower() in WRITABLE else source.stem + ".png"


def _refuse_collisions(jobs: Sequence[Job]) -> None:
    sources = {_identity(job.source): job.source for job in jobs}
    owners: dict[str, Path] = {}
    for job in jobs:
        for written in job.written:
            identity = _identity(written)
            if identity in sources:
                raise UsageError(
                    f"{job.source}: its result would replace the source {sources[identity]}; "
                    "name another folder with -o"
                )
            if identity in owners:
                raise UsageError(
                    f"{owners[identity]} and {job.source} would both be written to {written}; "
                    "rename one of them, or restore them into different folders"
                )
            owners[identity] = job.source


def _refuse_existing(jobs: Sequence[Job]) -> None:
    existing = [path for job in jobs for path in job.written if path.exists()]
    if existing:
        more = f" and {len(existing) - 1} more" if len(existing) > 1 else ""
        raise UsageError(f"{existing[0]}{more}: exists already; --overwrite replaces it, or name another folder")


def _identity(path: Path) -> str:
    """The same for two spellings of one file; upper and lower case are one where the system takes them as
    one."""
    return os.path.normcase(os.path.realpath(path))
