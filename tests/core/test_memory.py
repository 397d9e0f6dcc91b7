"""What fits is said before it is tried; what did not fit is tried in halves."""

from __future__ import annotations

import logging

import psutil
import pytest
import torch

from codeformer_core.runtime import memory
from codeformer_core.runtime.memory import GIB, NotEnoughMemory, in_batches, require, sparse_zeros

CPU_ERROR = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 9."
)
MPS_ERROR = RuntimeError("MPS backend out of memory (MPS allocated: 9 GB, other allocations: 9 GB, max allowed: 9 GB).")


@pytest.fixture
def eight_gib_free(monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda device: 8 * GIB)


def test_free_memory_of_this_machine_is_told():
    free = memory.free_bytes("cpu")
    assert free is not None and GIB // 16 < free < 2**50
    assert memory.free_bytes("meta") is None


def test_sparse_zeros_take_memory_only_where_they_are_written_to():
    process = psutil.Process()
    before = process.memory_info().rss
    masks_BHW = sparse_zeros((40, 1000, 1000))
    masks_BHW[7, 20:30, 40:50] = 1
    assert masks_BHW.dtype == torch.float32 and masks_BHW.sum() == 100
    # Pages of 2 MiB are the largest that come for one write.
    assert process.memory_info().rss - before < masks_BHW.nbytes / 8


def test_sparse_zeros_on_another_device():
    made = sparse_zeros((2, 3), "meta")
    assert made.shape == (2, 3) and made.device.type == "meta"


def test_a_containers_limit_counts(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    (tmp_path / "memory.max").write_text("50000\n")
    (tmp_path / "memory.current").write_text("20000\n")
    assert memory.free_bytes("cpu") == 30000
    # Files that were read stay in memory while nobody else wants it.
    (tmp_path / "memory.stat").write_text("anon 9000\nfile 11500\ninactive_file 10000\nactive_file 1000\nshmem 500\n")
    assert memory.free_bytes("cpu") == 41000
    (tmp_path / "memory.current").write_text("70000\n")
    (tmp_path / "memory.stat").write_text("anon 9000\n")
    assert memory.free_bytes("cpu") == 0
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.free_bytes("cpu") > 30000


def test_too_much_is_refused_with_both_sizes_and_the_cure(eight_gib_free):
    with pytest.raises(NotEnoughMemory) as caught:
        require(10 * GIB, torch.device("cpu"), "a result of 1 x 20000x20000 pixels")
    assert isinstance(caught.value, ValueError)
    assert str(caught.value) == (
        "a result of 1 x 20000x20000 pixels needs about 10.0 GiB of memory, 8.0 GiB are free on cpu. "
        "Use a smaller image, a smaller upscale, or fewer images at a time."
    )


def test_what_fits_is_let_through(eight_gib_free, monkeypatch):
    require(8 * GIB, "cpu", "this")
    monkeypatch.setattr(memory, "free_bytes", lambda device: None)
    require(2**60, "cpu", "nobody knows")


@pytest.mark.parametrize(("per_item", "most", "expected"), [(GIB, 16, 6), (GIB, 4, 4), (20 * GIB, 16, 1), (1, 1, 1)])
def test_batch_size_takes_80_percent(eight_gib_free, per_item, most, expected):
    assert memory.batch_size(per_item, "cpu", most) == expected


def test_batch_size_is_1_where_nothing_is_known(monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda device: None)
    assert memory.batch_size(1, "cpu", 16) == 1


# --- batches ---------------------------------------------------------------------------------------------------------


class Worker:
    """Takes slices; out of memory above `most` items."""

    def __init__(self, most: int, error: Exception | None = None) -> None:
        self.most = most
        self.error = error or torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.")
        self.tried: list[int] = []

    def __call__(self, part: slice) -> list[int]:
        size = part.stop - part.start
        self.tried.append(size)
        if size > self.most:
            raise self.error
        return list(range(part.start, part.stop))


def collected(count: int, size: int, worker: Worker) -> list[int]:
    done = []
    for part, result in in_batches(count, size, worker):
        assert result == list(range(part.start, part.stop))
        done += result
    return done


@pytest.mark.parametrize(("count", "size", "tried"), [(7, 3, [3, 3, 1]), (4, 4, [4]), (2, 16, [2]), (0, 4, [])])
def test_all_items_once_and_in_order(count, size, tried):
    worker = Worker(most=16)
    assert collected(count, size, worker) == list(range(count))
    assert worker.tried == tried


@pytest.mark.parametrize("error", [None, CPU_ERROR, MPS_ERROR], ids=["cuda", "cpu", "mps"])
def test_halved_until_it_fits_and_no_item_lost(error, caplog):
    worker = Worker(most=2, error=error)
    with caplog.at_level(logging.WARNING):
        assert collected(11, 8, worker) == list(range(11))
    assert worker.tried == [8, 4, 2, 2, 2, 2, 2, 1]
    assert [record.getMessage() for record in caplog.records] == [
        "out of memory with 8 at a time, continuing with 4",
        "out of memory with 4 at a time, continuing with 2",
    ]


def test_halves_what_was_tried_not_what_was_allowed():
    """Three items of sixteen allowed: half is one, and the three are not tried again and again."""
    worker = Worker(most=1)
    assert collected(3, 16, worker) == [0, 1, 2]
    assert worker.tried == [3, 1, 1, 1]


@pytest.mark.parametrize("size", [1, 16])
def test_a_single_item_that_does_not_fit_is_the_devices_own_error(size):
    worker = Worker(most=0)
    with pytest.raises(torch.OutOfMemoryError):
        collected(1, size, worker)
    assert worker.tried == [1]


@pytest.mark.parametrize("error", [RuntimeError("shapes do not fit"), ValueError("no"), KeyboardInterrupt()])
def test_other_errors_are_not_retried(error):
    worker = Worker(most=2, error=error)
    with pytest.raises(type(error)):
        collected(8, 4, worker)
    assert worker.tried == [4]


def test_work_is_done_only_when_asked_for():
    worker = Worker(most=4)
    batches = in_batches(8, 4, worker)
    assert worker.tried == []
    next(batches)
    assert worker.tried == [4]


def test_the_failed_attempt_is_let_go_before_the_next(monkeypatch):
    """What the failed call had made must be free when the cache is emptied, or emptying frees nothing."""
    alive: list[int] = []

    class Large:
        def __init__(self) -> None:
            alive.append(1)

        def __del__(self) -> None:
            alive.pop()

    def run(part: slice) -> int:
        activations = Large()
        if part.stop - part.start > 1:
            raise torch.OutOfMemoryError(f"with {activations}")
        return 0

    seen: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: seen.append(len(alive)))
    assert len(list(in_batches(2, 2, run))) == 2
    assert seen == [0]
