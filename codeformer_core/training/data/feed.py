"""Batches for training, forever: in worker processes, in this one, or from the device's own memory.

Shape legend: B faces of this process's micro step, N faces in all, H W their size, T tokens.
"""

from __future__ import annotations

import atexit
import logging
import multiprocessing
import signal
import threading
import weakref
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ...degradation import Drawn, degrade_batch
from .cache import on_device, require_few_broken
from .config import DataConfig
from .draws import Order, Place, Recipe, Request, draws_of, positions_of
from .files import FaceSource
from .flag import context_with_flags
from .tones import in_tone
from .work import IGNORED_SIGNALS, Assembler, Chance, Faces, Failure, begin_worker, chance_of

logger = logging.getLogger(__name__)

T = TypeVar("T")

# Micro steps that each worker reads ahead.
_AHEAD = 2


@dataclass(frozen=True)
class Batch:
    """One micro step's faces on one process.

    clean_B3HW, degraded_B3HW: RGB uint8 on the device.
    degraded_B3HW: None without a degradation.
    codes_BT: int64, when precomputed codes were given.
    names: per face.
    """

    clean_B3HW: Tensor
    degraded_B3HW: Tensor | None
    codes_BT: Tensor | None
    names: tuple[str, ...]
    recipe: Recipe


class Feed:
    """Yields a `Batch` for each micro step from `start_step` on, forever.

    The order depends on the seed and the step alone: a feed that starts at step k continues exactly where another would
    be, and several processes together see what one process sees with the same global batch.

    A face that can't be read is logged once and replaced by the next one in the source. Shards are read at random
    through their index, so their number need not fit the workers or processes.

    recipe_at: step -> recipe; it is asked some steps ahead, so it must depend on the step alone.
    batch_size: the global batch of one step.
    accumulate: micro steps per step.
    codes_N2T: codes of each face, plain and mirrored.
    Raises ValueError when the batch can't be cut evenly, when the codes are not those of the source's faces, or the
    faces don't fit on the device; while iterating RuntimeError when a worker has died, a face can't be degraded, or too
    many faces are broken.
    """

    def __init__(
        self,
        source: FaceSource,
        *,
        config: DataConfig,
        recipe_at: Callable[[int], Recipe],
        seed: int,
        batch_size: int,
        accumulate: int,
        place: Place,
        start_step: int,
        device: torch.device,
        codes_N2T: Tensor | None = None,
    ) -> None:
        self._positions = [positions_of(batch_size, accumulate, place, part) for part in range(accumulate)]
        if codes_N2T is not None and (codes_N2T.ndim != 3 or codes_N2T.shape[:2] != (len(source), 2)):
            raise ValueError(
                f"codes of shape {tuple(codes_N2T.shape)} for {len(source)} faces; ({len(source)}, 2, tokens) is "
                "wanted. Compute the codes of these very faces"
            )
        self._source = source
        self._names = source.names
        self._config = config
        self._recipe_at = recipe_at
        self._seed = seed
        self._batch_size = batch_size
        self._start_step = start_step
        self._device = device
        self._codes_N2T = codes_N2T
        self._broken: set[int] = set()
        self._running: Iterator[Batch] | None = None
        self._faces_N3HW: Tensor | None = None
        if config.cache == "device":
            self._faces_N3HW, broken = on_device(source, device)
            self._unreadable = frozenset(broken)
            self._broken.update(broken)

    def __iter__(self) -> Iterator[Batch]:
        """Begins at start_step; an iteration that was begun before ends."""
        self.close()
        if self._faces_N3HW is not None:
            self._running = self._from_device(self._faces_N3HW)
        elif self._config.workers == 0:
            self._running = self._from_here()
        else:
            self._running = self._from_workers()
        return self._running

    def close(self) -> None:
        """Ends the workers. The feed may be iterated again."""
        running, self._running = self._running, None
        if running is not None and hasattr(running, "close"):
            running.close()  # type: ignore[attr-defined] - a generator

    def _requests(self) -> Iterator[Request]:
        order = Order(self._seed, len(self._source))
        step = self._start_step
        while True:
            recipe = self._recipe_at(step)
            for positions in self._positions:
                yield Request(step, recipe, tuple(draws_of(order, step, self._batch_size, positions)))
            step += 1

    def _assembler(self) -> Assembler:
        config = self._config
        return Assembler(self._source, self._seed, config.flip, config.tones, config.degrade_on == "worker")

    def _from_here(self) -> Iterator[Batch]:
        assembler = self._assembler()
        for request in self._requests():
            yield self._batch(assembler[request])

    def _from_workers(self) -> Iterator[Batch]:
        loader = DataLoader[Faces | Failure](
            self._assembler(),  # type: ignore[arg-type] - any object with __getitem__ will do
            batch_size=None,
            sampler=_Endless(self._requests),  # type: ignore[arg-type] - any iterable will do
            collate_fn=_unchanged,
            num_workers=self._config.workers,
            prefetch_factor=_AHEAD,
            pin_memory=self._device.type == "cuda",
            worker_init_fn=begin_worker,
            persistent_workers=True,
            multiprocessing_context=context_with_flags(),
        )
        before = set(multiprocessing.active_children())
        with _signals_held_back(), _child_signal_kept():
            loaded = iter(loader)
        workers = [child for child in multiprocessing.active_children() if child not in before]
        # Where a program ends without closing its feed, the workers have to go before torch and multiprocessing wait
        # for them. So it must be registered after theirs: such functions run in reverse.
        closing = partial(_close_if_alive, weakref.ref(self))
        atexit.register(closing)
        try:
            while True:
                with _explained_deaths(workers):
                    faces = next(loaded)
                yield self._batch(faces)
        finally:
            # The loader lets its workers go when the last reference to its iterator does. An error's traceback may
            # hold one for long, and workers ignore polite requests.
            del loaded, loader
            for worker in workers:
                if worker.is_alive():
                    worker.kill()
            atexit.unregister(closing)

    def _from_device(self, faces_N3HW: Tensor) -> Iterator[Batch]:
        count, side = len(faces_N3HW), faces_N3HW.shape[-1]
        for request in self._requests():
            degradation = request.recipe.degradation
            chances = tuple(
                chance_of(self._seed, face_draw, self._config.flip, self._config.tones, degradation, side)
                for face_draw in request.draws
            )
            indices: list[int] = []
            for face_draw in request.draws:
                index = face_draw.index
                while index in self._unreadable:
                    index = (index + 1) % count
                indices.append(index)
            clean_B3HW = faces_N3HW[torch.tensor(indices, device=self._device)]
            flipped = [position for position, chance in enumerate(chances) if chance.flipped]
            if flipped:
                flipped_F = torch.tensor(flipped, device=self._device)
                clean_B3HW[flipped_F] = clean_B3HW[flipped_F].flip(-1)
            for face_3HW, chance in zip(clean_B3HW, chances, strict=True):
                if chance.tone is not None:
                    face_3HW.copy_(in_tone(face_3HW, chance.tone))
            yield self._finished(clean_B3HW, None, indices, chances, request.recipe)

    def _batch(self, faces: Faces | Failure) -> Batch:
        if isinstance(faces, Failure):
            logger.debug("where it happened:\n%s", faces.details)
            raise RuntimeError(faces.text)
        for index, reason in faces.broken:
            if index not in self._broken:
                logger.warning("%s; another face takes its place", reason)
                self._broken.add(index)
                require_few_broken(len(self._broken), len(self._source), reason)
        clean_B3HW = faces.clean_B3HW.to(self._device, non_blocking=True)
        degraded_B3HW = faces.degraded_B3HW
        if degraded_B3HW is not None:
            degraded_B3HW = degraded_B3HW.to(self._device, non_blocking=True)
        return self._finished(clean_B3HW, degraded_B3HW, faces.indices, faces.chances, faces.recipe)

    def _finished(
        self,
        clean_B3HW: Tensor,
        degraded_B3HW: Tensor | None,
        indices: tuple[int, ...] | list[int],
        chances: tuple[Chance, ...],
        recipe: Recipe,
    ) -> Batch:
        if degraded_B3HW is None and recipe.degradation is not None:
            drawn: list[Drawn] = [chance.drawn for chance in chances if chance.drawn is not None]
            degraded_B3HW = degrade_batch(clean_B3HW, drawn)
        codes_BT = None
        if self._codes_N2T is not None:
            mirrored = [int(chance.flipped) for chance in chances]
            codes_BT = self._codes_N2T[list(indices), mirrored].long().to(self._device)
        names = tuple(self._names[index] for index in indices)
        return Batch(clean_B3HW, degraded_B3HW, codes_BT, names, recipe)


@dataclass(frozen=True)
class _Endless:
    """What torch's DataLoader takes for a sampler: it hands our requests to the workers, in turn."""

    requests: Callable[[], Iterator[Request]]

    def __iter__(self) -> Iterator[Request]:
        return self.requests()


def _unchanged(loaded: T) -> T:
    return loaded


def _close_if_alive(feed: weakref.ref[Feed]) -> None:
    alive = feed()
    if alive is not None:
        alive.close()


@contextmanager
def _signals_held_back() -> Generator[None]:
    """What would end a process waits until the block's end. Workers inherit this and begin by ignoring such signals,
    so that there is no moment in which one could hit them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, IGNORED_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _child_signal_kept() -> Generator[None]:
    """torch's DataLoader raises in the middle of whatever runs when a worker dies, by a handler for SIGCHLD. Without
    it the loader notices at the next batch, where the error can be explained."""
    if not hasattr(signal, "SIGCHLD") or threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGCHLD)
    try:
        yield
    finally:
        if handler is not None:
            signal.signal(signal.SIGCHLD, handler)


@contextmanager
def _explained_deaths(workers: list[BaseProcess]) -> Generator[None]:
    """A worker that the system has ended becomes an error that says by what, and the fix."""
    try:
        yield
    except (RuntimeError, EOFError, OSError) as error:
        # The way a death shows depends on what the worker was doing. Give the system a moment to tell of it.
        ended = wait([worker.sentinel for worker in workers], timeout=1)
        for worker in workers:
            if worker.sentinel in ended:
                # Its pipes close a moment before its exit code can be asked for.
                worker.join(timeout=1)
        codes = [worker.exitcode for worker in workers if worker.exitcode is not None]
        if not codes:
            raise
        raise RuntimeError(f"a data worker was ended by the system: {_cause(codes[0])}") from error


def _cause(exit_code: int) -> str:
    name = signal.Signals(-exit_code).name if -exit_code in set(signal.Signals) else f"exit code {exit_code}"
    if name == "SIGBUS":
        return f"{name}, the shared memory is full. Give it more (docker run --shm-size 8g), or use fewer data.workers"
    if name == "SIGKILL":
        return (
            f"{name}, most often because the memory was full. Use fewer data.workers or a smaller batch_size; "
            "--resume continues from the last checkpoint"
        )
    return f"{name}. Set data.workers=0 to see the error itself"
