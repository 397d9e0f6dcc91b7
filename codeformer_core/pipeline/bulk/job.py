"""What an engine is given, and what it gives back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from .stages import STAGES, WRITING, Work
from .targets import Target

if TYPE_CHECKING:
    from ..person import Person
    from .models import WorkerModels
    from .options import BulkOptions
    from .source import BulkSource


@dataclass(frozen=True)
class Job:
    """The same for all images of a run; it is pickled for workers on other machines.

    settings: short name of all that decides how results look; it goes into each record.
    """

    target: Target
    models: WorkerModels
    options: BulkOptions
    person: Person | None
    settings: str


@dataclass(frozen=True)
class Outcome:
    """What became of an image.

    record: of the result; empty where it failed.
    failure: the step that failed, and why.
    full: whether the target can take no more.
    seconds: of each step.
    """

    key: str
    record: dict[str, Any]
    failure: tuple[str, str] | None
    full: bool
    seconds: dict[str, float]


def write_works(job: Job, works: list[Work]) -> list[Outcome]:
    """The last step: results are written."""
    for work in works:
        work.record["settings"] = job.settings
    started = time.perf_counter()
    job.target.write(works)
    seconds = (time.perf_counter() - started) / max(len(works), 1)
    return [
        Outcome(
            work.source.key,
            {} if work.failure else work.record,
            work.failure,
            work.full,
            {**work.seconds, WRITING: seconds},
        )
        for work in works
    ]


class RunPass(Protocol):
    """An engine.

    workers: of each step.
    """

    workers: dict[str, int]

    def run(
        self, job: Job, waiting: Callable[[], Iterator[BulkSource]], count: int, alone: bool
    ) -> Iterator[list[Outcome]]:
        """The outcome of each image that has one; an image without is tried again by a later pass.

        waiting: the images, called once.
        count: how many they are.
        alone: every image by itself, so that one that ends its worker takes no other along.
        """
        ...


@dataclass
class Progress:
    """How far a run is.

    came: images, those that need nothing included.
    unchanged: finished by a run before.
    done: by this run.
    faces: restored ones.
    workers: of each step.
    busy: seconds that each step took, of all workers together.
    """

    came: int = 0
    unchanged: int = 0
    done: int = 0
    copied: int = 0
    faces: int = 0
    workers: dict[str, int] = field(default_factory=dict[str, int])
    busy: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    started: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    @property
    def left(self) -> float | None:
        """Seconds that the rest will take at the rate so far; None before the first image."""
        remaining = self.came - self.unchanged - self.done
        return self.seconds / self.done * remaining if self.done else None

    def utilisation(self) -> dict[str, float]:
        """How much of its time each step's workers work, 0 to 1."""
        return {
            stage: self.busy[stage] / (self.seconds * self.workers.get(stage, 1)) if self.seconds else 0.0
            for stage in STAGES
        }

    def add(self, outcome: Outcome) -> None:
        """Count a finished image."""
        self.done += 1
        restored = sum(1 for face in outcome.record["faces"] if face["restored"])
        self.faces += restored
        self.copied += restored == 0

    def add_seconds(self, outcome: Outcome) -> None:
        for stage, seconds in outcome.seconds.items():
            self.busy[stage] += seconds
