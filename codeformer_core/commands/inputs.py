"""Which files a command reads and writes, settled and checked before the first one is opened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..imaging.codecs.suffixes import READ_ONLY, WRITABLE
from .errors import UsageError
from .sources import Source, find_sources, identity

_COMPARE_ENDING = "_compare.png"
# What --format offers, and the endings that count as it.
FORMATS = ("png", "jpg", "webp", "tif", "avif")


@dataclass(frozen=True)
class Job:
    """One image: where it is, where the result goes, and where the before/after image goes if one is wanted."""

    source: Path
    output: Path
    compare: Path | None

    @property
    def written(self) -> tuple[Path, ...]:
        """In the order in which they are written: where the last one is there, all are."""
        return (self.output,) if self.compare is None else (self.compare, self.output)

    def is_done(self) -> bool:
        return all(path.exists() for path in self.written)


@dataclass(frozen=True)
class Plan:
    """The work of a command.

    jobs: what is to be done, in order.
    done: how many results are there already.
    notes: what was left out.
    """

    jobs: list[Job]
    done: int = 0
    notes: tuple[str, ...] = ()


def plan_jobs(
    inputs: Sequence[str],
    out: str,
    *,
    compare: bool,
    overwrite: bool,
    recursive: bool = False,
    skip_existing: bool = False,
    file_format: str | None = None,
) -> Plan:
    """The work in order.

    out: a folder, or an image file when the only input is a file.
    recursive: folders inside folders too; results lie in the output folder as their sources in the input's.
    skip_existing: leave out what has its results already.
    file_format: one of FORMATS, for all results.
    Raises UsageError for inputs that aren't there, outputs that exist (without `overwrite` and `skip_existing`), two
    images that would get the same name, and outputs that would replace a source.
    """
    if overwrite and skip_existing:
        raise UsageError("--overwrite and --skip-existing contradict each other: name one of them")
    if not out:
        raise UsageError("-o is given an empty name: name a folder, or a new image")
    target = Path(out)
    names_a_file = target.suffix.lower() in WRITABLE and not target.is_dir()
    found = find_sources(inputs, recursive=recursive, output=None if names_a_file else target)
    sources = found.sources
    if names_a_file and (len(inputs) > 1 or Path(inputs[0]).is_dir() or len(sources) > 1):
        raise UsageError(f"{out} names one image, but the input is {len(sources)} images: name a folder")
    if names_a_file and file_format is not None and not _is_of(target, file_format):
        raise UsageError(f"{out} and --format {file_format} contradict each other: leave one of them out")
    if target.exists() and not target.is_dir() and not names_a_file:
        known = " ".join(WRITABLE)
        raise UsageError(f"{out} is a file: name a folder, or a new image that ends in one of {known}")
    if target.suffix.lower() in READ_ONLY and not target.is_dir():
        raise UsageError(f"{out}: can't be written as {target.suffix}; use one of {' '.join(WRITABLE)}")
    if names_a_file:
        jobs = [_job(sources[0].path, target, target.stem, compare)]
    else:
        jobs = _in_a_folder(sources, target, compare, file_format)
    _refuse_collisions(jobs)
    if skip_existing:
        left = [job for job in jobs if not job.is_done()]
        return Plan(left, len(jobs) - len(left), tuple(found.notes))
    if not overwrite:
        _refuse_existing(jobs)
    return Plan(jobs, 0, tuple(found.notes))


def expand_inputs(inputs: Iterable[str]) -> list[Path]:
    """The files that are meant, see `find_sources`."""
    return [source.path for source in find_sources(inputs).sources]


def _in_a_folder(sources: Sequence[Source], target: Path, compare: bool, file_format: str | None) -> list[Job]:
    """Jobs whose results have their sources' names.

    Where two would get one name, those with a new ending keep the old one too (a.jpg.png), and so do before/after
    images.
    """
    places = [_renamed(source.place, file_format) for source in sources]
    twice = _twice(target / place for place in places)
    places = [
        place.with_name(source.place.name + place.suffix)
        if identity(target / place) in twice and place.suffix != source.place.suffix
        else place
        for source, place in zip(sources, places, strict=True)
    ]
    jobs = [
        _job(source.path, target / place, place.stem, compare) for source, place in zip(sources, places, strict=True)
    ]
    if compare:
        twice = _twice(job.compare for job in jobs if job.compare is not None)
        jobs = [
            replace(job, compare=job.output.with_name(job.output.name + _COMPARE_ENDING))
            if job.compare is not None and identity(job.compare) in twice
            else job
            for job in jobs
        ]
    return jobs


def _job(source: Path, output: Path, stem: str, compare: bool) -> Job:
    return Job(source, output, output.with_name(stem + _COMPARE_ENDING) if compare else None)


def _renamed(place: Path, file_format: str | None) -> Path:
    suffix = place.suffix.lower()
    if file_format is not None:
        return place if _is_of(place, file_format) else place.with_name(f"{place.stem}.{file_format}")
    return place if suffix in WRITABLE else place.with_name(f"{place.stem}.png")


def _is_of(path: Path, file_format: str) -> bool:
    """jpeg is jpg, and tiff is tif."""
    return WRITABLE.get(path.suffix.lower()) == WRITABLE[f".{file_format}"]


def _twice(paths: Iterable[Path]) -> set[str]:
    return {name for name, count in Counter(map(identity, paths)).items() if count > 1}


def _refuse_collisions(jobs: Sequence[Job]) -> None:
    sources = {identity(job.source): job.source for job in jobs}
    owners: dict[str, Path] = {}
    for job in jobs:
        for written in job.written:
            name = identity(written)
            if name in sources:
                raise UsageError(
                    f"{job.source}: its result would replace the source {sources[name]}; name another folder with -o"
                )
            if name in owners:
                raise UsageError(
                    f"{owners[name]} and {job.source} would both be written to {written}; "
                    "rename one of them, or restore them into different folders"
                )
            owners[name] = job.source


def _refuse_existing(jobs: Sequence[Job]) -> None:
    existing = [path for job in jobs for path in job.written if path.exists()]
    if existing:
        more = f" and {len(existing) - 1} more" if len(existing) > 1 else ""
        raise UsageError(
            f"{existing[0]}{more}: exists already; --overwrite replaces it, --skip-existing keeps it and does the "
            "rest, or name another folder"
        )
