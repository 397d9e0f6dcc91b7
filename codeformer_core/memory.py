"""How much fits, said before it is tried; and smaller batches when it did not."""

from __future__ import annotations

import ctypes
import logging
import os
import sys
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch

logger = logging.getLogger(__name__)

Result = TypeVar("Result")
GIB = 1024**3


class NotEnoughMemory(ValueError):
    """Refused before the work began."""


def free_bytes(device: torch.device | str) -> int | None:
    """Memory that can still be taken on `device`, in bytes; None where the system does not tell."""
    place = torch.device(device)
    if place.type == "cuda":
        free, _ = torch.cuda.mem_get_info(place)
        return free + torch.cuda.memory_reserved(place) - torch.cuda.memory_allocated(place)
    if place.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    if place.type == "cpu":
        return _free_main_memory()
    return None


def _free_main_memory() -> int | None:
    if sys.platform == "linux":
        with open("/proc/meminfo", encoding="ascii") as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
        return None
    if sys.platform == "win32":
        status = (ctypes.c_uint64 * 8)()
        ctypes.c_uint32.from_buffer(status).value = ctypes.sizeof(status)
        if ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):
            return status[2]  # ullAvailPhys
        return None
    if "SC_AVPHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def require(bytes_needed: int, device: torch.device | str, what: str) -> None:
    """Raise NotEnoughMemory, naming `what` and both sizes, when it can't fit on `device`."""
    free = free_bytes(device)
    if free is not None and bytes_needed > free:
        raise NotEnoughMemory(
            f"{what} needs about {bytes_needed / GIB:.1f} GiB of memory, {free / GIB:.1f} GiB are free on "
            f"{torch.device(device).type}. Use a smaller picture, a smaller upscale, or fewer pictures at a time."
        )


def batch_size(bytes_per_item: int, device: torch.device | str, most: int) -> int:
    """As many items as fit in 80 % of the free memory, between 1 and `most`."""
    free = free_bytes(device)
    if free is None:
        return 1
    return max(1, min(most, int(free * 0.8) // bytes_per_item))


def in_batches(count: int, size: int, run: Callable[[slice], Result]) -> Iterator[tuple[slice, Result]]:
    """Call `run` on consecutive slices of range(count); after an out-of-memory error, again with half as many.

    A single item that does not fit raises the device's own out-of-memory error.
    """
    start = 0
    while start < count:
        part = slice(start, min(start + size, count))
        tried = part.stop - part.start
        try:
            result = run(part)
        except RuntimeError as error:
            if tried == 1 or not is_out_of_memory(error):
                raise
            size = tried // 2
        else:
            yield part, result
            start = part.stop
            continue
        logger.warning("out of memory with %d at a time, going on with %d", tried, size)
        # Only here, where the error no longer holds on to what the failed call had made.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def is_out_of_memory(error: RuntimeError) -> bool:
    """CUDA and XPU raise a class of their own, Apple's devices and the CPU a RuntimeError that only its text tells."""
    text = str(error)
    return (
        isinstance(error, torch.cuda.OutOfMemoryError)  # torch.OutOfMemoryError since 2.5
        or "MPS backend out of memory" in text
        or "DefaultCPUAllocator: " in text
    )
