"""Seconds per face of a weights file, beside CodeFormer in the published configuration, in the same run, in turn.

python benchmarks/restorer.py FILE [--rounds 7] [--fidelity 0.5] [--device cpu] [--threads N]

FILE: a CodeFormer of any configuration, as for `restore --model`. The published one has random weights, which take the
same time as trained ones.
"""

from __future__ import annotations

import argparse
from statistics import median

import machine
import torch

from codeformer_core.models.loading import load_restorer
from codeformer_core.networks.codeformer import PUBLISHED_CODEFORMER, CodeFormer


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--fidelity", type=float, default=0.5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, help="torch's threads on the CPU (default: torch's own choice)")
    options = parser.parse_args()
    if options.threads is not None:
        torch.set_num_threads(options.threads)

    network = load_restorer(options.file, options.device).module
    if not isinstance(network, CodeFormer):
        parser.error(f"{options.file} is an autoencoder (stage I): name a trained CodeFormer")
    torch.manual_seed(0)
    published = CodeFormer(PUBLISHED_CODEFORMER).eval().to(options.device)
    faces_B3HW = {
        each: torch.rand(1, 3, each.config.image_size, each.config.image_size, device=options.device) * 2 - 1
        for each in (network, published)
    }
    times = machine.compare(
        {
            "this file": lambda: network.restore(faces_B3HW[network], options.fidelity),
            "published configuration": lambda: published.restore(faces_B3HW[published], options.fidelity),
        },
        options.rounds,
    )
    ratios = [one / other for one, other in zip(times["this file"], times["published configuration"], strict=True)]
    print(machine.describe())
    print(f"one face, fidelity {options.fidelity:g}, {options.device}; {options.file}: {described(network)}")
    print(f"published configuration: {described(published)}")
    print(machine.HEADER)
    for name, values in times.items():
        print(machine.row(name, values))
    print(
        f"this file takes {median(ratios):.3f} of the published configuration's time "
        f"(median of pairs; {min(ratios):.3f} to {max(ratios):.3f})"
    )


def described(network: CodeFormer) -> str:
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return f"{network.config.image_size} pixels, {parameters / 1e6:.1f} million parameters"


if __name__ == "__main__":
    main()
