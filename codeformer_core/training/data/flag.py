"""How the training process tells its workers to end, without a lock that a killed worker could take along."""

from __future__ import annotations

import copy
import ctypes
import multiprocessing
from multiprocessing.context import BaseContext


class Flag:
    """What torch's DataLoader wants of an event, in one shared byte.

    multiprocessing's own Event asks under a lock. A worker that the system kills in that moment keeps it, and the
    training process, which asks next, waits forever instead of reporting the death.
    """

    def __init__(self, context: BaseContext) -> None:
        self._byte = context.RawValue(ctypes.c_bool, False)

    def is_set(self) -> bool:
        return bool(self._byte.value)

    def set(self) -> None:
        self._byte.value = True


def context_with_flags() -> BaseContext:
    """This platform's way of starting processes, for torch's DataLoader, with `Flag` for an event."""
    context = copy.copy(multiprocessing.get_context())
    context.Event = lambda: Flag(context)  # type: ignore[method-assign, assignment]
    return context
