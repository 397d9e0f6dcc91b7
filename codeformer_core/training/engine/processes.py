"""One process or many: started by torchrun, or plainly without any distributed set-up."""

from __future__ import annotations

import contextlib
import gc
import os
import socket
from collections.abc import Generator
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class Processes:
    """This process among those of the training.

    rank: this one's number.
    count: how many there are, each with its own device.
    """

    rank: int
    count: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, in place."""
        if self.count > 1:
            dist.all_reduce(tensor)
        return tensor

    def mean(self, tensor: Tensor) -> Tensor:
        return self.sum(tensor).div_(self.count) if self.count > 1 else tensor

    def any(self, flag: bool) -> bool:
        """Whether it is so in at least one process."""
        if self.count == 1:
            return flag
        return bool(self.sum(torch.tensor(float(flag), device=self.device)) > 0)

    def gather(self, tensor: Tensor) -> Tensor:
        """All processes' tensors, of one shape, joined along the first axis in the order of ranks."""
        if self.count == 1:
            return tensor
        parts = [torch.empty_like(tensor) for _ in range(self.count)]
        dist.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)

    def wait(self) -> None:
        if self.count > 1:
            dist.barrier()


def gradients_gathered(network: nn.Module, is_last: bool) -> contextlib.AbstractContextManager[None]:
    """Around forward and backward of one micro batch: only the last one's backward sums over the processes."""
    if is_last or not isinstance(network, DistributedDataParallel):
        return contextlib.nullcontext()
    return network.no_sync()


@contextlib.contextmanager
def deterministic(wanted: bool) -> Generator[None]:
    """The same numbers bit by bit on a GPU too, where torch can; otherwise the fastest kernels for fixed sizes."""
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    if wanted:
        # cuBLAS reads it when it is first used.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(wanted, warn_only=True)
    torch.backends.cudnn.benchmark = not wanted
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]


@contextlib.contextmanager
def joined(device: str) -> Generator[Processes]:
    """Join the processes that torchrun started, or be the only one.

    device: "auto", "cpu", "cuda", "cuda:N", "mps".
    Raises RuntimeError for a port in use and ValueError for a device that isn't there, before anything else is done.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    rank, local_rank = int(os.environ.get("RANK", "0")), int(os.environ.get("LOCAL_RANK", "0"))
    place = _device(device, local_rank, count)
    if place.type == "cuda":
        torch.cuda.set_device(place)
    if count == 1:
        yield Processes(0, 1, place)
        return
    _check_port(rank)
    dist.init_process_group(
        "nccl" if place.type == "cuda" else "gloo",
        # The first process validates while the others wait.
        timeout=timedelta(hours=2),
        device_id=place if place.type == "cuda" else None,
    )
    try:
        yield Processes(rank, count, place)
        # Nobody leaves while another still talks to it.
        dist.barrier()
    finally:
        # The parallel modules hold on to the group, in cycles: left to the interpreter's end, their threads would
        # outlive it, and the process be aborted after all was done.
        gc.collect()
        dist.destroy_process_group()


def _device(name: str, local_rank: int, count: int) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if name.startswith("cuda:") and count > 1:
        raise ValueError(f"--device {name}: {count} processes need a GPU each; say cuda, and each takes its own")
    if name == "cuda":
        name = f"cuda:{local_rank}"
    place = torch.device(name)
    if place.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f"--device {name}: this torch sees no CUDA device; use --device cpu, or a torch built for CUDA"
        )
    if place.type == "cuda" and (place.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"--device {name}: there are {torch.cuda.device_count()} CUDA devices for {count} processes; "
            "start as many processes as there are devices (torchrun --nproc-per-node)"
        )
    if place.type == "mps" and count > 1:
        raise ValueError("several processes can't share an mps device; start one, without torchrun")
    return place


def _check_port(rank: int) -> None:
    """Under torchrun the port is torchrun's own affair; where processes are started otherwise, rank 0 opens it."""
    if rank != 0 or os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        return
    host, port = os.environ.get("MASTER_ADDR", ""), os.environ.get("MASTER_PORT", "")
    if not host or not port.isdigit():
        raise ValueError(
            "WORLD_SIZE is set, but not MASTER_ADDR and MASTER_PORT: start with "
            "`torchrun --nproc-per-node N -m codeformer_core train ...`, which sets them all"
        )
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, int(port)))
        except OSError as error:
            raise RuntimeError(
                f"port {port} on {host} can't be used ({error.strerror}): another run may have it; "
                "name a free one with MASTER_PORT, or let torchrun choose: --standalone"
            ) from error
