"""Degrading faces: OpenCV on one core against the batched torch path, on the CPU and on a GPU where there is one.

python benchmarks/degradation.py [--rounds 5] [--size 512] [--faces 16] [--presets large small]
"""

from __future__ import annotations

import argparse
from statistics import median

import cv2
import machine
import numpy as np
import torch

from codeformer_core.degradation import PRESETS, degrade_batch, degrade_on_cpu, draw


def picture(size: int, seed: int) -> np.ndarray:
    """(size, size, 3) uint8; smooth spots: neither path's time depends on what is to be seen."""
    coarse = np.random.default_rng(seed).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    return cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--faces", type=int, default=16, help="faces in a batch, and per round")
    parser.add_argument("--presets", nargs="+", default=["large", "small"], choices=sorted(PRESETS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)

    clean_BHW3 = np.stack([picture(options.size, seed) for seed in range(options.faces)])
    clean_B3HW = torch.from_numpy(clean_BHW3).permute(0, 3, 1, 2).contiguous()
    places = {"torch, CPU": clean_B3HW}
    if torch.cuda.is_available():
        places["torch, GPU"] = clean_B3HW.cuda()

    print(machine.describe())
    print(f"{options.faces} faces of {options.size} pixels, one thread on the CPU; faces per second by the median")
    print(f"{machine.HEADER} {'faces/s':>8}")
    for preset in options.presets:
        drawn = [
            draw(PRESETS[preset], options.size, torch.Generator().manual_seed(seed)) for seed in range(options.faces)
        ]
        runs = {
            f"{preset}: OpenCV": lambda drawn=drawn: [
                degrade_on_cpu(face, each) for face, each in zip(clean_BHW3, drawn, strict=True)
            ]
        }
        for place, faces_B3HW in places.items():
            runs[f"{preset}: {place}"] = lambda drawn=drawn, faces=faces_B3HW: degrade_batch(faces, drawn)
        for name, times in machine.compare(runs, options.rounds).items():
            print(f"{machine.row(name, times)} {options.faces / median(times):8.1f}", flush=True)
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
            degrade_batch(places["torch, GPU"], drawn)
            print(f"{preset}: {torch.cuda.max_memory_allocated() / 2**20:.0f} MiB of the GPU's memory at most")


if __name__ == "__main__":
    main()
