"""What the losses do: stage I trained twice in the same number of steps, with pixels and gradients alone (the recipe of
version 0.1) and with features and identity, then measured on held-out faces.

python benchmarks/losses.py FACES VALIDATION [--steps 500] [--size 128] [--faces 64]
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from pathlib import Path

import machine
import torch

from codeformer_core.training.config import read_config
from codeformer_core.training.data.config import DataConfig
from codeformer_core.training.data.sources import open_faces
from codeformer_core.training.engine.processes import joined
from codeformer_core.training.evaluation.choose import MetricFiles, choose_metrics
from codeformer_core.training.evaluation.evaluate import in_8_bits
from codeformer_core.training.losses import perceptual
from codeformer_core.training.networks import read_network
from codeformer_core.training.run import train
from codeformer_core.training.setup import RunFiles

OLD = {"pixel": 1, "perceptual": 1, "identity": 0}
SHOWN = ("PSNR", "SSIM", "dlib distance", "lite0", "edges", "32-64")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", help="folder of aligned faces")
    parser.add_argument("validation", help="folder of faces of other people")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--faces", type=int, default=64, help="faces measured")
    options = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    print(machine.describe())
    print(f"stage I of `starter`, {options.size} pixels, {options.steps} steps of 8 faces, no discriminator")
    print(f"{'losses':<28} {'seconds':>8} " + " ".join(f"{name:>14}" for name in SHOWN))
    for name, losses in (("pixels and gradients", OLD), ("with features and identity", {})):
        with tempfile.TemporaryDirectory() as folder:
            begun = time.monotonic()
            _train(options, losses, Path(folder))
            seconds = time.monotonic() - begun
            values = _measure(options, Path(folder) / "run")
        print(f"{name:<28} {seconds:>8.0f} " + " ".join(f"{values[key]:>14.3f}" for key in SHOWN), flush=True)


def _train(options: argparse.Namespace, losses: dict[str, float], folder: Path) -> None:
    halvings = 4
    config = read_config(
        "starter",
        [
            f"network.image_size={options.size}",
            f"network.attention_sizes=[{options.size >> halvings}]",
            f"network.fuse_sizes=[{options.size}]",
            "stages.inpainting.fuse_sizes=null",
            f"stages.stage1.iterations={options.steps}",
            f"stages.stage1.revive_codes_until={options.steps * 3 // 4}",
            "stages.stage1.adversarial.weight=0",
            "engine.compile=false",
            "engine.validate_every=1000000",
            "engine.log_every=1000000",
        ],
        {"data": {"faces": options.train}, "stages": {"stage1": {"losses": losses}}},
    )
    chosen = perceptual.load_feature_distance
    if losses:
        # As where the package isn't installed.
        perceptual.load_feature_distance = lambda device: None  # type: ignore[assignment]
    try:
        with joined("cpu") as processes:
            train(config, "stage1", RunFiles(folder / "run"), processes)
    finally:
        perceptual.load_feature_distance = chosen


@torch.no_grad()
def _measure(options: argparse.Namespace, run: Path) -> dict[str, float]:
    network = read_network(run).network
    source = open_faces(DataConfig.for_reading(options.validation), "train", options.size)
    step = max(1, len(source) // options.faces)
    metrics = [metric for metric in choose_metrics(MetricFiles(), "cpu", None).per_face if metric.name in SHOWN]
    values: dict[str, list[float]] = {metric.name: [] for metric in metrics}
    for index in range(0, len(source), step):
        clean_13HW = torch.from_numpy(source.read(index)).permute(2, 0, 1)[None].float() / 255
        made_13HW = in_8_bits(network.reconstruct(clean_13HW * 2 - 1))
        for metric in metrics:
            values[metric.name] += metric.measure(made_13HW, clean_13HW).tolist()
    return {name: sum(found) / len(found) for name, found in values.items()}


if __name__ == "__main__":
    main()
