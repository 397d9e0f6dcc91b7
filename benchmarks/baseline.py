"""How strong the classical baseline of `evaluate model` should denoise: PSNR in dB by strength and degradation.

python benchmarks/baseline.py FACES [--faces 24] [--strengths 3 5 7 10 15] [--presets small large] [--seed 0]

FACES: a folder of clean aligned faces on which nothing is evaluated. The last column decides.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import machine
import numpy as np
import torch

from codeformer_core.degradation import PRESETS
from codeformer_core.metrics.pixels import Psnr
from codeformer_core.training.data.config import DataConfig
from codeformer_core.training.data.sources import open_faces
from codeformer_core.training.evaluation.classical import STRENGTH, bicubic_denoised
from codeformer_core.training.evaluation.faces import CleanBatch, clean_batches, degraded, spread, to_unit

FACE_SIZE = 512


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", metavar="FACES")
    parser.add_argument("--faces", type=int, default=24)
    parser.add_argument("--strengths", type=float, nargs="+", default=[3, 5, 7, 10, 15])
    parser.add_argument("--presets", nargs="+", default=["small", "large"], choices=sorted(PRESETS))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    source = open_faces(DataConfig.for_reading(options.folder), "train", FACE_SIZE)
    indices = spread(options.faces, len(source))

    print(machine.describe())
    print(f"{len(indices)} faces of {options.folder}; PSNR in dB, and seconds per face")
    print(f"{'':<24}" + "".join(f"{name:>10}" for name in (*options.presets, "mean", "seconds")))
    made: dict[str, Callable[[CleanBatch, str], np.ndarray]] = {
        "degraded": lambda batch, name: degraded(batch, name, PRESETS[name], options.seed),
        "bicubic": lambda batch, name: degraded(batch, name, PRESETS[name], options.seed, bicubic=True),
    }
    for strength in options.strengths:
        made[f"bicubic + NLM {strength:g}" + " (used)" * (strength == STRENGTH)] = (
            lambda batch, name, strength=strength: bicubic_denoised(batch, name, PRESETS[name], options.seed, strength)
        )
    for label, make in made.items():
        begun = time.perf_counter()
        values = {name: [] for name in options.presets}
        for batch in clean_batches(source, indices, 1):
            for name in options.presets:
                values[name] += psnr(make(batch, name), batch.faces_BHW3)
        seconds = (time.perf_counter() - begun) / (len(indices) * len(options.presets))
        means = [float(np.mean(values[name])) for name in options.presets]
        print(f"{label:<24}" + "".join(f"{mean:>10.3f}" for mean in (*means, np.mean(means), seconds)), flush=True)


def psnr(made_BHW3: np.ndarray, clean_BHW3: np.ndarray) -> list[float]:
    place = torch.device("cpu")
    return Psnr().measure(to_unit(made_BHW3, place), to_unit(clean_BHW3, place)).tolist()


if __name__ == "__main__":
    main()
