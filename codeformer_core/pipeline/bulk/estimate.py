"""How long an archive will take and how large its results will be, from some of its images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .engine_local import finished_works
from .index import UNCHANGED, WAITING, Index
from .job import Job
from .listing import Listing
from .options import BulkOptions
from .restore_bulk import add_finished, open_index, with_places
from .source import BulkSource
from .stages import RESTORING, STAGES, Work
from .storage import normal_address
from .targets import Target

if TYPE_CHECKING:
    from ..person import Person
    from .models import WorkerModels


@dataclass(frozen=True)
class Estimate:
    """What is to be expected of an archive.

    came, unchanged: images, and how many of them are finished already.
    sampled, failed: images that were tried, and how many of these failed.
    faces: of an image, on average.
    seconds: of each step for one image, on one core of this machine, on average.
    bytes_read, bytes_written: of an image, on average.
    """

    came: int
    unchanged: int
    sampled: int
    failed: int
    faces: float
    seconds: dict[str, float]
    bytes_read: float
    bytes_written: float

    @property
    def waiting(self) -> int:
        return self.came - self.unchanged

    @property
    def disk(self) -> float:
        """Bytes of all results that are to be made."""
        return self.waiting * self.bytes_written

    def time(self, cores: int = 1, gpus: int = 0) -> float:
        """Seconds that the run will take.

        cores: that work.
        gpus: that restore; the sample must have been restored on one of them. 0 where the cores do it.
        """
        on_cores = sum(seconds for stage, seconds in self.seconds.items() if not gpus or stage != RESTORING)
        on_gpus = self.seconds[RESTORING] / gpus if gpus else 0.0
        return self.waiting * max(on_cores / cores, on_gpus)


def estimate_bulk(
    sources: Sequence[str],
    target: str,
    models: WorkerModels,
    options: BulkOptions,
    *,
    person: Person | None = None,
    sample: int = 32,
    on_listed: Callable[[int], None] | None = None,
) -> Estimate:
    """List an archive, restore a random part of it, and write nothing.

    sample: images to restore; one more is restored before them, untimed, while models are loaded.
    on_listed: called with the number of images found so far.
    Raises as `restore_bulk`.
    """
    target = normal_address(target)
    listing = Listing(tuple(sources), target, options.image_column, options.key_column)
    with open_index(None) as index:
        add_finished(index, target, options.kind != "folder")
        came = 0
        for came in index.add(with_places(listing, target, options)):
            if on_listed is not None:
                on_listed(came)
        job = Job(Target(target, options.kind), models, options, person, "")
        works = _restored(job, _sampled(index, sample + 1))
        return _estimate(came, index.count(UNCHANGED), works[1:] or works)


def _sampled(index: Index, count: int) -> Iterator[BulkSource]:
    return index.waiting(at_random=count) if index.count(WAITING) else iter(())


def _restored(job: Job, sources: Iterator[BulkSource]) -> list[Work]:
    """Without their pixels."""
    return [work for works in finished_works(job, sources, alone=True) for work in works]


def _estimate(came: int, unchanged: int, works: list[Work]) -> Estimate:
    done = [work for work in works if work.failure is None]
    count = max(len(done), 1)
    sizes = [work.source.size for work in done if work.source.size >= 0]
    return Estimate(
        came=came,
        unchanged=unchanged,
        sampled=len(works),
        failed=len(works) - len(done),
        faces=sum(face["restored"] for work in done for face in work.record["faces"]) / count,
        seconds={stage: sum(work.seconds.get(stage, 0.0) for work in done) / count for stage in STAGES},
        bytes_read=sum(sizes) / max(len(sizes), 1),
        bytes_written=sum(len(work.encoded) for work in done) / count,
    )
