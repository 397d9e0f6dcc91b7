"""How much memory a step takes, checked before it starts; smaller batches where it was not enough."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import psutil
import torch
from torch import Tensor, nn

logger = logging.getLogger(__name__)

Result = TypeVar("Result")
GIB = 1024**3
# Where Linux tells a container its memory limit (cgroup v2).
CGROUP = Path("/sys/fs/cgroup")


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


def _free_main_memory() -> int:
    """What the system has, or what is left of a container's own limit."""
    free = psutil.virtual_memory().available
    limit, used, parts = CGROUP / "memory.max", CGROUP / "memory.current", CGROUP / "memory.stat"
    if limit.is_file() and used.is_file() and (most := limit.read_text().strip()).isdigit():
        free = min(free, int(most) - int(used.read_text()) + (_cached_files(parts) if parts.is_file() else 0))
    return max(free, 0)


def _cached_files(memory_stat: Path) -> int:
    """Bytes of files kept in memory, such as weights just read: counted as used, but given up on demand."""
    lines = (line.split() for line in memory_stat.read_text().splitlines())
    return sum(int(size) for name, size in lines if name in ("inactive_file", "active_file"))


def sparse_zeros(shape: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
    """float32 zeros that on a CPU take memory only where they are written to.

    Masks of many frames are mostly empty, and often not used.
    """
    if torch.device(device).type != "cpu":
        return torch.zeros(tuple(shape), device=device)
    # numpy asks the system for pages that it clears at the first touch; torch clears them itself, and so touches all.
    return torch.from_numpy(np.zeros(tuple(shape), np.float32))


def require(bytes_needed: int, device: torch.device | str, what: str) -> None:
    """Raise NotEnoughMemory, naming `what` and both sizes, when it can't fit on `device`."""
    free = free_bytes(device)
    if free is not None and bytes_needed > free:
        raise NotEnoughMemory(
            f"{what} needs about {bytes_needed / GIB:.1f} GiB of memory, {free / GIB:.1f} GiB are free on "
            f"{torch.device(device).type}. Use a smaller image, a smaller upscale, or fewer images at a time."
        )


def batch_size(bytes_per_item: int, device: torch.device | str, most: int) -> int:
    """As many items as fit in 80 % of the free memory, between 1 and `most`."""
    free = free_bytes(device)
    if free is None:
        return 1
    return max(1, min(most, int(free * 0.8) // bytes_per_item))


def in_batches(count: int, size: int, run: Callable[[slice], Result]) -> Iterator[tuple[slice, Result]]:
    """Call `run` on consecutive slices of range(count); after an out-of-memory error, again with half as many.

    Yields each slice and its result. A single item that does not fit raises the device's own out-of-memory error.
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
        logger.warning("out of memory with %d at a time, continuing with %d", tried, size)
        # Only here, where the error no longer holds on to what the failed call had made.
        empty_cache()


def empty_cache() -> None:
    """Gives memory that torch keeps for later back to the device."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()
    elif hasattr(torch, "xpu") and torch.xpu.is_available():
        torch.xpu.empty_cache()


def weight_bytes(module: nn.Module) -> int:
    """Size of a module's parameters and buffers in bytes."""
    return sum(tensor.numel() * tensor.element_size() for tensor in (*module.parameters(), *module.buffers()))


def is_out_of_memory(error: RuntimeError) -> bool:
    """CUDA has a class of its own for it, but does not always raise that; for the others only the text tells."""
    text = str(error).lower()
    told = ("out of memory", "defaultcpuallocator: ", "not enough gpu video memory")
    return isinstance(error, torch.cuda.OutOfMemoryError) or any(words in text for words in told)
