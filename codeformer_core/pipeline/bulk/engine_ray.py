"""The steps of an archive on Ray Data: on one machine or a cluster.

    preparing    CPU workers read, decode and find faces
    restoring    workers that hold the models, one for each GPU, restore the faces of many images together
    finishing    CPU workers put the faces back and encode; into a folder they write, too
    writing      only for shards and Parquet: many images into one file

Between them Ray moves the works and holds back the faster ones. A worker that is killed is started again and what it
had is done again by Ray; what Ray gives up comes to no outcome, and the run tries it again by itself.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, cast

import torch

from .engine_local import FACES_AT_ONCE
from .job import Job, Outcome, write_works
from .listing import OWN_FOLDER
from .models import loaded
from .packages import require
from .source import BulkSource
from .stages import FINISHING, PREPARING, RESTORING, WRITING, Work, finish_works, prepare_images, restore_works
from .storage import file_names, joined, read_range, remove_file, write_file

# Sources of one list that workers read their parts of.
_LISTED = 8192
# Sources of one task, at most; what a killed worker does again.
_TASK_IMAGES = 128
# Images that travel together.
_TRAVEL_IMAGES = 8
# Images whose faces are restored together. All of them must have come before the first is restored, so they have to fit
# in the part of Ray's shared memory that one step may fill.
_RESTORED_IMAGES = 16
# A block that is larger is split: with few of them in flight, memory stays small.
_BLOCK_BYTES = 16 << 20
# How often Ray tries a task again whose worker was killed, before the run tries each image by itself.
_RETRIES = 2

Batch = dict[str, list[Any]]


@dataclass(frozen=True)
class Workers:
    """How many there are of each kind.

    cpu: that prepare, and as many that finish.
    restoring: that hold the models.
    gpus: of each of these; 0 where there is none and they share the CPUs.
    share: of a CPU that Ray sets aside for each worker. Below one: the system divides the cores among the steps as each
        has work, which is better than a fixed share.
    """

    cpu: int
    restoring: int
    gpus: float
    share: float


class RayEngine:
    """Raises ImportError, naming the extra, where Ray is not installed."""

    def __init__(self, address: str | None = None, workers: int | None = None, *, use_gpus: bool = True) -> None:
        """Connects to Ray, or starts it on this machine.

        address: of a running cluster; None takes the one that RAY_ADDRESS names, else this machine.
        workers: of each step that runs on CPUs; as many as there are CPUs if None.
        use_gpus: where there are some.
        """
        self._ray = require("ray")
        require("ray.data")
        if not self._ray.is_initialized():
            _start(self._ray, address or os.environ.get("RAY_ADDRESS"))
        self.planned = _plan_workers(self._ray.cluster_resources(), workers, use_gpus)
        cpu = self.planned.cpu
        self.workers: dict[str, int] = {PREPARING: cpu, RESTORING: self.planned.restoring, FINISHING: cpu, WRITING: cpu}

    def run(
        self, job: Job, waiting: Callable[[], Iterator[BulkSource]], count: int, alone: bool
    ) -> Iterator[list[Outcome]]:
        """See `job.RunPass`."""
        if job.target.address.startswith("memory://"):
            raise ValueError(
                f"{job.target.address}: workers have no memory in common; name another target or engine local"
            )
        lists = joined(job.target.address, OWN_FOLDER, "work")
        _remove_all(lists)
        try:
            tasks = _write_lists(lists, waiting(), 1 if alone else self._task_images(count))
            yield from self._run(job, tasks, alone)
        finally:
            _remove_all(lists)

    def _task_images(self, count: int) -> int:
        """Few enough that every worker gets several."""
        return max(1, min(_TASK_IMAGES, count // (4 * self.planned.cpu)))

    def _run(self, job: Job, tasks: list[dict[str, Any]], alone: bool) -> Iterator[list[Outcome]]:
        data = self._ray.data
        context = data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        context.target_max_block_size = _BLOCK_BYTES
        # A task that fails costs its images, which are tried again, and not the run.
        context.max_errored_blocks = -1
        retries = 0 if alone else _RETRIES
        pool = partial(_stage, data, job, alone)
        with warnings.catch_warnings():
            # Ray calls how often a task is tried again outdated, and has nothing in its place yet.
            warnings.filterwarnings("ignore", message=".*ray_remote_args", category=DeprecationWarning)
            works = self._stages(data.from_items(tasks, override_num_blocks=len(tasks)), pool, job, retries)
        for batch in works.iter_batches(batch_size=None, prefetch_batches=0):
            outcomes = [_outcome(text) for text in batch["outcome"]]
            for outcome in outcomes:
                if outcome.failure is not None and outcome.failure[0] == _LOADING:
                    raise RuntimeError(f"a worker could not load its models: {outcome.failure[1]}")
            yield outcomes

    def _stages(self, works: Any, pool: Callable[..., Any], job: Job, retries: int) -> Any:
        planned, share = self.planned, self.planned.share
        works = pool(works, _Prepare, planned.cpu, 1, num_cpus=share)
        works = pool(works, _Restore, planned.restoring, _RESTORED_IMAGES, num_cpus=share, num_gpus=planned.gpus)
        works = pool(works, _Finish, planned.cpu, _TRAVEL_IMAGES, num_cpus=share)
        if job.target.packs:
            works = works.map_batches(
                partial(_write_packs, job), batch_size=job.options.pack_images, num_cpus=share / 4, max_retries=retries
            )
        return works


# The step of a failure that no other image would be spared.
_LOADING = "loading"


def _stage(data: Any, job: Job, alone: bool, works: Any, step: type, size: int, batch: int, **place: Any) -> Any:
    """A pool of workers that each make one `step` and keep it.

    alone: what else waits for a worker is lost with it, so it gets one image at a time.
    """
    return works.map_batches(
        step,
        fn_constructor_args=(job,),
        batch_size=1 if alone else batch,
        compute=data.ActorPoolStrategy(size=size, max_tasks_in_flight_per_actor=1 if alone else None),
        max_restarts=-1,
        max_task_retries=0 if alone else _RETRIES,
        **place,
    )


class _Step:
    """What a worker keeps between two calls."""

    def __init__(self, job: Job) -> None:
        torch.set_num_threads(1)
        self.job = job


class _Prepare(_Step):
    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self.detector, _ = loaded(job.models.on("cpu"))

    def __call__(self, tasks: Batch) -> Iterator[Batch]:
        """A task names a part of a list."""
        for name, start, stop in zip(tasks["list"], tasks["start"], tasks["stop"], strict=True):
            lines = read_range(str(name)).splitlines()[int(start) : int(stop)]
            sources = [BulkSource(**json.loads(line)) for line in lines]
            try:
                detector = self.detector()
            except Exception as error:  # noqa: BLE001 - ends the run, see `RayEngine`
                yield _packed([_unloaded(source, error) for source in sources])
                continue
            works: list[Work] = []
            for source in sources:
                works += prepare_images([source], detector, self.job.options, self.job.person)
                if len(works) >= _TRAVEL_IMAGES or sum(len(work.faces) for work in works) >= _TRAVEL_IMAGES:
                    yield _packed(works)
                    works = []
            if works:
                yield _packed(works)


class _Restore(_Step):
    def __init__(self, job: Job) -> None:
        super().__init__(job)
        _, self.models = loaded(job.models.on("cuda" if torch.cuda.is_available() else "cpu"))

    def __call__(self, batch: Batch) -> Iterator[Batch]:
        works = _unpacked(batch)
        try:
            models = self.models()
        except Exception as error:  # noqa: BLE001 - ends the run, see `RayEngine`
            yield _packed([_unloaded(work.source, error) for work in works])
            return
        part: list[Work] = []
        for work in works:
            part.append(work)
            if sum(len(one.faces) for one in part) >= FACES_AT_ONCE:
                restore_works(part, models, self.job.options)
                yield _packed(part)
                part = []
        restore_works(part, models, self.job.options)
        yield _packed(part)


class _Finish(_Step):
    def __call__(self, batch: Batch) -> Batch:
        works = _unpacked(batch)
        finish_works(works, self.job.options)
        return _packed(works) if self.job.target.packs else _outcomes(self.job, works)


def _write_packs(job: Job, batch: Batch) -> Batch:
    return _outcomes(job, _unpacked(batch))


def _outcomes(job: Job, works: list[Work]) -> Batch:
    return {"outcome": [json.dumps(asdict(outcome)) for outcome in write_works(job, works)]}


def _outcome(text: str) -> Outcome:
    values = cast("dict[str, Any]", json.loads(text))
    failure = values.pop("failure")
    return Outcome(**values, failure=None if failure is None else (failure[0], failure[1]))


def _packed(works: list[Work]) -> Batch:
    return {"work": [pickle.dumps(work, protocol=5) for work in works]}


def _unpacked(batch: Batch) -> list[Work]:
    return [pickle.loads(data) for data in batch["work"]]


def _unloaded(source: BulkSource, error: Exception) -> Work:
    work = Work(source)
    work.fail(_LOADING, error)
    return work


def _start(ray: Any, address: str | None) -> None:
    """A cluster that is started here is for this machine alone, and reports to nobody."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    where = {"address": address} if address else {"_node_ip_address": "127.0.0.1", "include_dashboard": False}
    ray.init(**where, log_to_driver=False, logging_level=logging.ERROR)


def _plan_workers(resources: dict[str, float], workers: int | None, use_gpus: bool) -> Workers:
    cpus = max(1, int(resources.get("CPU", 1)))
    cpu = workers or cpus
    gpus = int(resources.get("GPU", 0)) if use_gpus else 0
    restoring = gpus or cpu
    return Workers(cpu, restoring, 1.0 if gpus else 0.0, min(0.3, 0.9 * cpus / (2 * cpu + restoring)))


def _write_lists(folder: str, sources: Iterator[BulkSource], task_images: int) -> list[dict[str, Any]]:
    """The sources as lists on the target, where every worker can read them; returns a task for each part."""
    tasks: list[dict[str, Any]] = []
    lines: list[bytes] = []

    def write() -> None:
        address = joined(folder, f"{len(tasks):09d}.jsonl")
        write_file(address, b"\n".join(lines))
        starts = range(0, len(lines), task_images)
        tasks.extend(
            {"list": address, "start": start, "stop": min(start + task_images, len(lines))} for start in starts
        )
        lines.clear()

    for source in sources:
        lines.append(json.dumps(source.as_record()).encode())
        if len(lines) == _LISTED:
            write()
    if lines:
        write()
    return tasks


def _remove_all(folder: str) -> None:
    for name in file_names(folder):
        remove_file(joined(folder, name))
