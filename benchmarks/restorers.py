"""One face through each of the restorers: milliseconds, and memory at its widest point. Random weights, which take the
same time as trained ones, of the published sizes.

python benchmarks/restorers.py [--only vqfr_v1,dfdnet] [--rounds 3] [--fidelity 0.5] [--device cpu] [--dtype float32]

Each runs in a process of its own: what one has freed doesn't count for the next.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from statistics import median

import machine
import torch
from torch import Tensor

import codeformer_core as cf
from codeformer_core.networks.codeformer import PUBLISHED_CODEFORMER, CodeFormer
from codeformer_core.networks.dfdnet import PUBLISHED_DFDNET, DFDNet
from codeformer_core.networks.vqfr_v1 import PUBLISHED_VQFR_V1, VQFRv1
from codeformer_core.networks.vqfr_v2 import PUBLISHED_VQFR_V2, VQFRv2

MIB = 2**20


@dataclass(frozen=True)
class Measured:
    """seconds of every round. peak: bytes above what the loaded network takes, None where nobody tells; estimate: what
    the restorer says of itself; weights: bytes of the parameters."""

    seconds: list[float]
    peak: int | None
    estimate: int
    weights: int


def _gfpgan() -> Mapping[str, Tensor]:
    from spandrel.architectures.GFPGAN import GFPGAN

    return GFPGAN().state_dict()


def _restoreformer() -> Mapping[str, Tensor]:
    from spandrel.architectures.RestoreFormer import RestoreFormer

    return RestoreFormer().state_dict()


WEIGHTS: dict[str, Callable[[], Mapping[str, Tensor]]] = {
    "codeformer": lambda: CodeFormer(PUBLISHED_CODEFORMER).state_dict(),
    "vqfr_v1": lambda: VQFRv1(PUBLISHED_VQFR_V1).state_dict(),
    "vqfr_v2": lambda: VQFRv2(PUBLISHED_VQFR_V2).state_dict(),
    "dfdnet": lambda: DFDNet(PUBLISHED_DFDNET).state_dict(),
    "gfpgan": _gfpgan,
    "restoreformer": _restoreformer,
}


@torch.no_grad()
def measure(name: str, rounds: int, fidelity: float, device: str, dtype: str) -> Measured:
    torch.manual_seed(0)
    restorer = cf.load_restorer(WEIGHTS[name](), device, getattr(torch, dtype))
    face_13HW = torch.rand(1, 3, 512, 512, generator=torch.Generator().manual_seed(1)).to(device) * 2 - 1
    gc.collect()
    # The first run is the warm-up, too.
    peak = machine.peak_bytes(lambda: restorer.restore(face_13HW, fidelity))
    seconds = [machine.seconds(lambda: restorer.restore(face_13HW, fidelity)) for _ in range(rounds)]
    weights = sum(parameter.nbytes for parameter in restorer.module.parameters())
    return Measured(seconds, peak, restorer.bytes_per_face, weights)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(WEIGHTS), help="names with commas between them")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--fidelity", type=float, default=0.5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    options = parser.parse_args()
    names = options.only.split(",")
    if unknown := [name for name in names if name not in WEIGHTS]:
        parser.error(f"{', '.join(unknown)}: there are {', '.join(WEIGHTS)}")

    print(machine.describe())
    print(f"one face, fidelity {options.fidelity:g}, {options.dtype} on {options.device}; {options.rounds} rounds")
    print(f"{'':<16} {'ms (min':>9} {'median':>8} {'max)':>8} {'peak MiB':>10} {'estimate':>10} {'weights':>9}")
    for name in names:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as alone:
            asked = alone.submit(measure, name, options.rounds, options.fidelity, options.device, options.dtype)
            found = asked.result()
        low, middle, high = (1000 * pick(found.seconds) for pick in (min, median, max))
        peak = "unknown" if found.peak is None else f"{found.peak / MIB:.0f}"
        print(
            f"{name:<16} {low:9.0f} {middle:8.0f} {high:8.0f} {peak:>10} {found.estimate / MIB:10.0f} "
            f"{found.weights / MIB:9.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
