"""Training speed: faces per second of each stage, the share of time it waited for faces, and what the feed alone gives.

python benchmarks/training.py [--config small] [--steps 20] [--batch-size 16] [--device auto] [--faces FOLDER]

A feed that gives more faces per second than the step takes is not what limits training.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from pathlib import Path

import machine
import numpy as np
import torch
from PIL import Image

from codeformer_core.training.config import RunConfig, read_config
from codeformer_core.training.data.draws import Place
from codeformer_core.training.data.feed import Feed
from codeformer_core.training.data.sources import open_faces
from codeformer_core.training.engine.processes import joined
from codeformer_core.training.engine.trainer import Progress
from codeformer_core.training.run import train
from codeformer_core.training.setup import RunFiles, recipe_of

STAGES = ("stage1", "stage2", "stage3", "colorization", "inpainting")
# Steps that aren't counted: memory is being taken, kernels are being chosen.
WARM_UP = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="small")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--faces", help="aligned faces (default: 64 made-up ones)")
    parser.add_argument("--stages", nargs="+", default=STAGES, choices=STAGES)
    parser.add_argument("--set", action="append", default=[], dest="changes")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    print(machine.describe())
    with tempfile.TemporaryDirectory() as folder, joined(options.device) as processes:
        faces = options.faces or str(made_up_faces(Path(folder) / "faces", 64))
        stages = {name: {"iterations": options.steps + WARM_UP, "batch_size": options.batch_size} for name in STAGES}
        for name in ("stage1", "stage3", "inpainting"):
            # From the first step on, as it is for most of a real run.
            stages[name]["adversarial"] = {"starts_after": 0}
        stages["stage3"]["starts_from"] = "teacher"
        quiet = {"save_every": 10**9, "log_every": WARM_UP, "validate_every": 10**9, "device": options.device}
        config = read_config(
            options.config, options.changes, {"data": {"faces": faces}, "stages": stages, "engine": quiet}
        )
        print(f"{options.config}, batch {options.batch_size}, {config.engine.precision}, {processes.device}")
        print(f"{'faces per second':<16} {'training':>10} {'waiting':>10} {'feed alone':>12} {'peak memory':>12}")
        teacher = Path(folder) / "stage1"
        for name in dict.fromkeys(("stage1", *options.stages)):
            files = RunFiles(Path(folder) / name, None if name == "stage1" else teacher)
            seen = Watch(processes.device)
            if processes.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            train(config, name, files, processes, seen)
            alone = feed_speed(config, name, processes.device, options.steps)
            speed = seen.steps_per_second() * options.batch_size
            row = f"{name:<16} {speed:>10.2f} {seen.waiting():>10.1%} {alone:>12.1f} {memory(processes.device):>12}"
            print(row, flush=True)


class Watch:
    """The speed after the warm-up."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.marks: list[tuple[float, Progress]] = []

    def __call__(self, progress: Progress) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        self.marks.append((time.perf_counter(), progress))

    def steps_per_second(self) -> float:
        (begun, first), (ended, last) = self.marks[WARM_UP - 1], self.marks[-1]
        return (last.step - first.step) / (ended - begun)

    def waiting(self) -> float:
        shares = [progress.waiting for _, progress in self.marks[WARM_UP:]]
        return float(np.mean(shares))


def feed_speed(config: RunConfig, name: str, device: torch.device, steps: int) -> float:
    section = config.stages[name]
    feed = Feed(
        open_faces(config.data, "train", config.network.image_size),
        config=config.data,
        recipe_at=lambda step: recipe_of(config, section, step),
        seed=0,
        batch_size=section.batch_size,
        accumulate=1,
        place=Place(0, 1),
        start_step=0,
        device=device,
    )
    batches = iter(feed)
    next(batches)
    begun = time.perf_counter()
    for _ in range(steps):
        next(batches)
    if device.type == "cuda":
        torch.cuda.synchronize()
    elapsed = time.perf_counter() - begun
    feed.close()
    return steps * section.batch_size / elapsed


def memory(device: torch.device) -> str:
    return f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB" if device.type == "cuda" else "-"


def made_up_faces(folder: Path, count: int) -> Path:
    folder.mkdir()
    generator = np.random.default_rng(0)
    for number in range(count):
        coarse = Image.fromarray(generator.integers(0, 256, (16, 16, 3), dtype=np.uint8))
        coarse.resize((512, 512), Image.Resampling.BICUBIC).save(folder / f"{number:03}.png")
    return folder


if __name__ == "__main__":
    main()
