"""All steps of an archive in this process, without Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from .job import Job, Outcome, write_works
from .models import loaded
from .source import BulkSource
from .stages import STAGES, Work, finish_works, prepare_images, restore_works

# What is worked on together: images, faces and bytes from which on no further image joins them.
_IMAGES_AT_ONCE, FACES_AT_ONCE, _BYTES_AT_ONCE = 32, 64, 1 << 29
# Bytes of results that are kept for one shard.
_PACK_BYTES = 256 << 20


class LocalEngine:
    def __init__(self) -> None:
        self.workers: dict[str, int] = dict.fromkeys(STAGES, 1)

    def run(
        self, job: Job, waiting: Callable[[], Iterator[BulkSource]], count: int, alone: bool
    ) -> Iterator[list[Outcome]]:
        """See `job.RunPass`."""
        packed: list[Work] = []
        for works in finished_works(job, waiting(), alone):
            if not job.target.packs:
                yield write_works(job, works)
                continue
            packed += works
            most = job.options.pack_images
            while len(packed) >= most:
                yield write_works(job, packed[:most])
                packed = packed[most:]
            if sum(len(work.encoded) for work in packed) >= _PACK_BYTES:
                yield write_works(job, packed)
                packed = []
        if packed:
            yield write_works(job, packed)


def finished_works(job: Job, sources: Iterator[BulkSource], alone: bool = False) -> Iterator[list[Work]]:
    """All steps but writing, for some images at a time.

    alone: for one image at a time.
    """
    detector, models = loaded(job.models)
    works: list[Work] = []

    def finished() -> list[Work]:
        restore_works(works, models(), job.options)
        finish_works(works, job.options)
        return works

    for source in sources:
        works += prepare_images([source], detector(), job.options, job.person)
        if (
            alone
            or len(works) >= _IMAGES_AT_ONCE
            or sum(len(work.faces) for work in works) >= FACES_AT_ONCE
            or sum(work.bytes_open for work in works) >= _BYTES_AT_ONCE
        ):
            yield finished()
            works = []
    if works:
        yield finished()
