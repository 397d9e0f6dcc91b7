"""Work of two stages at once: an iterator that runs ahead in a thread of its own."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from typing import Generic, TypeVar

Item = TypeVar("Item")
# Seconds after which a waiting thread looks whether it is still needed.
_LOOK_EVERY = 0.1


class _End:
    """What comes after the last item: nothing, or the error that ended it."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


def ahead(items: Iterable[Item], most: int) -> Generator[Item]:
    """The items, of which up to `most` are made before they are asked for.

    Errors of `items` are raised here. When this iterator is closed, its thread ends, and `items` is closed, before that
    returns.
    """
    ready: queue.Queue[Item | _End] = queue.Queue(most)
    stopped = threading.Event()

    def hand_over(item: Item | _End) -> bool:
        while not stopped.is_set():
            try:
                ready.put(item, timeout=_LOOK_EVERY)
            except queue.Full:
                continue
            return True
        return False

    def work() -> None:
        iterator = iter(items)
        try:
            for item in iterator:
                if not hand_over(item):
                    break
            else:
                hand_over(_End())
        except BaseException as error:  # noqa: BLE001 - raised by the thread that waits for the items
            hand_over(_End(error))
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()

    thread = threading.Thread(target=work, name="codeformer-video", daemon=True)
    thread.start()
    try:
        while True:
            item = ready.get()
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            yield item
    finally:
        stopped.set()
        thread.join()


class Behind(Generic[Item]):
    """Lets a function work through items in a thread of its own, up to `most` items later."""

    def __init__(self, work: Callable[[Iterator[Item]], None], most: int) -> None:
        self._work = work
        self._queue: queue.Queue[Item | _End] = queue.Queue(most)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="codeformer-video", daemon=True)
        self._thread.start()

    def put(self, item: Item) -> None:
        """Hand over an item. Raises what the function raised for those before."""
        while True:
            self._raise()
            with suppress(queue.Full):
                self._queue.put(item, timeout=_LOOK_EVERY)
                return

    def finish(self) -> None:
        """Wait until the function has returned. Raises what it raised."""
        self._end(_End())
        self._raise()

    def abandon(self) -> None:
        """End the function, which sees `Abandoned`; what it raises is not raised again."""
        self._end(_End(Abandoned()))

    def _end(self, end: _End) -> None:
        while self._thread.is_alive():
            with suppress(queue.Full):
                self._queue.put(end, timeout=_LOOK_EVERY)
                break
        self._thread.join()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _items(self) -> Iterator[Item]:
        while not isinstance(item := self._queue.get(), _End):
            yield item
        if item.error is not None:
            raise item.error

    def _run(self) -> None:
        try:
            self._work(self._items())
        except BaseException as error:  # noqa: BLE001 - raised by the thread that hands items over
            self._error = error


class Abandoned(Exception):
    """Nobody wants the rest of the work."""
