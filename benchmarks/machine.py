"""What a benchmark ran on, and how it is timed."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch

# Benchmarks run from a checkout: `python benchmarks/forward.py`.
sys.path.append(str(Path(__file__).resolve().parents[1]))


def describe() -> str:
    """One line: processor, cores, threads, Python, torch, and the GPU where there is one."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        processor = names[0] if names else processor
    parts = [
        processor,
        f"{os.cpu_count()} cores, {torch.get_num_threads()} torch threads",
        f"Python {platform.python_version()}",
        f"torch {torch.__version__}",
    ]
    if torch.cuda.is_available():
        parts.append(torch.cuda.get_device_name())
    return "; ".join(parts)


def seconds(run: Callable[[], object]) -> float:
    """Wall time of one call, the GPU's queue included."""
    start = time.perf_counter()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def cpu_seconds(run: Callable[[], object]) -> float:
    """The processor's time of one call, of all threads: what other programs take at the same time doesn't count."""
    start = time.process_time()
    run()
    return time.process_time() - start


def peak_bytes(run: Callable[[], object]) -> int | None:
    """The most memory that one call takes, beyond what is taken before it: the GPU's where there is one, else that of
    this process. None where the system doesn't tell: Linux does."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return torch.cuda.max_memory_allocated() - before
    resets = Path("/proc/self/clear_refs")
    if not resets.exists():
        return None
    # "5" sets the highest size so far back to the present one.
    resets.write_text("5")
    before = _process_bytes("VmRSS")
    run()
    return _process_bytes("VmHWM") - before


def _process_bytes(name: str) -> int:
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{name}:")]
    return int(line.split()[1]) * 1024


def compare(
    runs: dict[str, Callable[[], object]], rounds: int, clock: Callable[[Callable[[], object]], float] = seconds
) -> dict[str, list[float]]:
    """Times of each run, taken in turn so that a machine that slows down slows all of them; one warm-up first."""
    for run in runs.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            times[name].append(clock(run))
    return times


def row(name: str, times: list[float]) -> str:
    return f"{name:<34} {min(times):8.3f} {median(times):8.3f} {max(times):8.3f}"


HEADER = f"{'seconds':<34} {'min':>8} {'median':>8} {'max':>8}"
