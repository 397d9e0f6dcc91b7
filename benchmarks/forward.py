"""One 512 face through CodeFormer: ours against spandrel_extra_arches, same weights, same run, in turn.

python benchmarks/forward.py [--rounds 7] [--fidelity 0.5] [--device cpu] [--dtype float32]
"""

from __future__ import annotations

import argparse
from statistics import median

import machine
import torch
from spandrel_extra_arches.architectures.CodeFormer import CodeFormerArch

from codeformer_core.models.codeformer.convert import to_published
from codeformer_core.networks.codeformer import PUBLISHED_CODEFORMER, CodeFormer


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--fidelity", type=float, default=0.5)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    options = parser.parse_args()
    place = {"device": options.device, "dtype": getattr(torch, options.dtype)}

    torch.manual_seed(0)
    ours = CodeFormer(PUBLISHED_CODEFORMER).eval()
    theirs = CodeFormerArch().load(to_published(ours.state_dict(), PUBLISHED_CODEFORMER)).model.eval()
    ours, theirs = ours.to(**place), theirs.to(**place)
    faces_B3HW = torch.rand(options.batch, 3, 512, 512, generator=torch.Generator().manual_seed(1)).to(**place) * 2 - 1

    times = machine.compare(
        {
            "ours": lambda: ours.restore(faces_B3HW, options.fidelity),
            "spandrel_extra_arches": lambda: theirs(faces_B3HW, weight=options.fidelity),
        },
        options.rounds,
    )
    ratios = [b / a for a, b in zip(times["ours"], times["spandrel_extra_arches"], strict=True)]
    print(machine.describe())
    print(f"forward of {options.batch} face(s), fidelity {options.fidelity:g}, {options.dtype} on {options.device}")
    print(machine.HEADER)
    for name, values in times.items():
        print(machine.row(name, values))
    print(f"ours is {median(ratios):.2f} times as fast (median of pairs; {min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
