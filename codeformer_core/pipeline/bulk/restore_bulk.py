"""An archive of photos, restored: listed, worked on in passes until nothing waits, and accounted for."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from .engine_local import LocalEngine
from .index import DONE, FAILED, UNCHANGED, WAITING, Failure, Index
from .job import Job, Outcome, Progress, RunPass
from .journal import Journal, complete_packs, finished_records
from .listing import OWN_FOLDER, Listing
from .options import BulkOptions
from .source import BulkSource, result_place, source_name
from .storage import is_local, joined, normal_address, remove_file, write_file
from .targets import Target, failures_address, parts_address

if TYPE_CHECKING:
    from ..person import Person
    from .models import WorkerModels

BULK_DEFAULTS = BulkOptions()
# Called with what the run does, and how far it is.
OnBulkProgress = Callable[[str, Progress], None]
LISTING, RESTORING = "listing", "restoring"
_INDEX = "index-"


@dataclass(frozen=True)
class BulkReport:
    """What became of an archive: `came` = `done` + `failed` + `unchanged`.

    came: images, each once.
    done: restored by this run; `copied` of them have no face to restore, and their bytes are the source's.
    failed: see `failures`, the address of a table with the reasons; None where there are none.
    unchanged: finished by a run before.
    faces: restored by this run.
    left_out: files that are not images, counted by ending.
    seconds: of this run.
    """

    came: int
    done: int
    failed: int
    unchanged: int
    copied: int
    faces: int
    seconds: float
    left_out: dict[str, int]
    failures: str | None


def restore_bulk(
    sources: Sequence[str],
    target: str,
    models: WorkerModels,
    options: BulkOptions = BULK_DEFAULTS,
    *,
    person: Person | None = None,
    engine: RunPass | None = None,
    overwrite: bool = False,
    on_progress: OnBulkProgress | None = None,
) -> BulkReport:
    """Restore any number of images; what a run before has done for the same sources and options is kept.

    sources: folders, patterns, lists (.txt), WebDataset shards (.tar, {000..012}) and Parquet files, on this machine or
        anywhere that fsspec reaches.
    target: a folder, likewise.
    models: what loads the models where they run, see `models.BulkModels`.
    engine: runs the steps; chosen by the options if None.
    person: of whom faces are restored; anybody's if None.
    overwrite: begin again in a target that holds something else.
    on_progress: called between batches; may raise to stop, and the next run continues.
    Raises ValueError and OSError naming the source or the target and the fix. A single image raises nothing: it goes to
    the failures.
    """
    target = normal_address(target)
    report = on_progress or _silent
    with _only_run(target), open_index(target) as index:
        settings = _settings(models, options, person)
        journal = Journal(target, settings, overwrite=overwrite)
        try:
            place = Target(target, options.kind)
            if journal.continues:
                add_finished(index, target, place.packs)
            progress = Progress()
            listing = Listing(tuple(sources), target, options.image_column, options.key_column)
            for progress.came in index.add(with_places(listing, target, options)):
                report(LISTING, progress)
            journal.begin()
            if place.packs:
                place.remove_unknown(complete_packs(target))
            progress = Progress(progress.came, index.count(UNCHANGED))
            job = Job(place, models, options, person, _digest(settings))
            if index.count(WAITING):
                engine = engine or choose_engine(options)
                progress.workers = engine.workers
                _run_passes(engine, job, index, journal, progress, report)
            journal.close()
            if place.packs:  # of steps that were run twice
                place.remove_unknown(complete_packs(target))
            return _account(index, progress, listing, target)
        finally:
            journal.close()


def choose_engine(options: BulkOptions) -> RunPass:
    """The engine that the options name. Raises ImportError with the fix where Ray is asked for and not installed."""
    if options.engine == "local":
        return LocalEngine()
    try:
        from .engine_ray import RayEngine

        return RayEngine()
    except ImportError:
        if options.engine == "ray":
            raise
        return LocalEngine()


def _run_passes(
    engine: RunPass, job: Job, index: Index, journal: Journal, progress: Progress, report: OnBulkProgress
) -> None:
    """First all images, then those that failed or were lost, each alone."""
    attempts = job.options.attempts
    for attempt in range(attempts):
        waiting = index.count(WAITING)
        if waiting == 0:
            return
        for outcomes in engine.run(job, index.waiting, waiting, attempt > 0):
            _note(outcomes, index, journal, progress)
            report(RESTORING, progress)
    index.give_up(attempts)


def _note(outcomes: list[Outcome], index: Index, journal: Journal, progress: Progress) -> None:
    made = [outcome for outcome in outcomes if outcome.failure is None]
    done = [outcome for outcome in made if index.mark_done(outcome.key)]
    # A shard counts only with all its images, also those that an earlier one has: steps may run twice.
    results = {outcome.record["result"] for outcome in done}
    journal.add(outcome.record for outcome in made if outcome.record["result"] in results)
    for outcome in done:
        progress.add(outcome)
    for outcome in outcomes:
        progress.add_seconds(outcome)
        if outcome.failure is not None:
            if outcome.full:
                raise OSError(f"the target takes no more: {outcome.failure[1]}. Mend that; the same command continues")
            index.note_failure(outcome.key, *outcome.failure)


def _account(index: Index, progress: Progress, listing: Listing, target: str) -> BulkReport:
    """Write the table of failures, and check that no image is missing."""
    failed = index.count(FAILED)
    address = failures_address(target)
    if failed:
        write_file(address, failures_table(index.failures()))
    else:
        remove_file(address)
    done, unchanged = index.count(DONE), index.count(UNCHANGED)
    assert done + failed + unchanged == progress.came, (done, failed, unchanged, progress.came)
    return BulkReport(
        came=progress.came,
        done=done,
        failed=failed,
        unchanged=unchanged,
        copied=progress.copied,
        faces=progress.faces,
        seconds=progress.seconds,
        left_out=dict(listing.left_out.most_common()),
        failures=address if failed else None,
    )


def failures_table(failures: Iterator[Failure]) -> bytes:
    """CSV with a row for each image that failed."""
    stream = io.StringIO(newline="")
    table = csv.writer(stream)
    table.writerow(("source", "member", "step", "attempts", "reason"))
    for failure in failures:
        source = failure.source
        table.writerow((source.address, source.member, failure.stage, failure.attempts, failure.reason))
    return stream.getvalue().encode("utf-8", "surrogateescape")


def with_places(listing: Listing, target: str, options: BulkOptions) -> Iterator[tuple[BulkSource, str]]:
    """Each image with the place of its result. Raises ValueError for one that lies in the target."""
    inside = joined(target, "")
    for source in listing:
        if source.address.startswith(inside):
            raise ValueError(f"{source.name}: lies in the target, where a result would replace it; name another target")
        yield source, result_place(source.place, options.file_format)


def add_finished(index: Index, target: str, packed: bool) -> None:
    """What the journal of the target has, see `finished_records`."""
    index.add_finished(
        (record["key"], record.get("place", record["result"]), source_name(record["source"], record["member"]))
        for record in finished_records(target, packed)
    )


def _settings(models: WorkerModels, options: BulkOptions, person: Person | None) -> dict[str, Any]:
    """All that decides how a result looks; how it is computed does not."""
    whose = None
    if person is not None:
        digest = hashlib.sha256(person.descriptors_ND.cpu().numpy().tobytes()).hexdigest()
        whose = {"descriptors": digest[:16], "excluded": person.excluded, "max_distance": person.max_distance}
    restore = {name: value for name, value in asdict(options.restore).items() if name != "batch_size"}
    return {
        "restore": restore,
        "person": whose,
        "models": models.describe(),
        "kind": options.kind,
        "file_format": options.file_format,
        "strict": options.strict,
    }


def _digest(settings: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


@contextmanager
def open_index(target: str | None) -> Generator[Index]:
    """A new one: in the target where that is on this machine, which has the room for it, else in a temporary folder."""
    folder = None
    if target is not None and is_local(target):
        folder = Path(target, OWN_FOLDER)
        for left in folder.glob(f"{_INDEX}*"):  # by a run that was killed
            shutil.rmtree(left, ignore_errors=True)
    with TemporaryDirectory(prefix=_INDEX, dir=folder, ignore_cleanup_errors=True) as place:
        index = Index(Path(place, "index.sqlite"))
        try:
            yield index
        except sqlite3.OperationalError as error:
            raise OSError(f"{place}: the index of all images can't be written ({error})") from error
        finally:
            index.close()


@contextmanager
def _only_run(target: str) -> Generator[None]:
    """Refuse a second run into a target of this machine."""
    if not is_local(target):
        yield
        return
    from ...runtime.lock import locked

    def refuse() -> None:
        raise BlockingIOError(f"{target}: another run writes into it; wait for its end, or name another target")

    folder = Path(target, OWN_FOLDER)
    folder.mkdir(parents=True, exist_ok=True)
    parts = parts_address(target)
    with locked(folder / "lock", refuse):
        shutil.rmtree(parts, ignore_errors=True)  # of a run that was killed
        os.mkdir(parts)
        try:
            yield
        finally:
            shutil.rmtree(parts, ignore_errors=True)


def _silent(_what: str, _progress: Progress) -> None:
    """For callers that want no progress."""
