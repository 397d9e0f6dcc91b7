"""Make codeformer_core/assets/detail_gates.safetensors: what tells a photo's detail from its noise.

python -m tools.train_detail_gates FACES OUTPUT [--steps 1500]. Clean faces are degraded, and each band of a degraded
face is compared with the clean face's: what both have in common is detail. Half of the steps see faces of half the
size, so that the sharpness of one size isn't taken for a law.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from codeformer_core.degradation import LEVELS, PRESETS, Grain, Halftone, RoundBlur, degrade_on_cpu, draw
from codeformer_core.networks.detail_gates import SIGMAS, DetailGates
from codeformer_core.training.losses.gates import gate_loss, gates_wanted

# One kind of damage alone, at the photo's own size, as cameras and savers make it.
_NONE = PRESETS["clean"]
ALONE = {
    "noise": dataclasses.replace(_NONE, noise=(1, 25)),
    "jpeg": dataclasses.replace(_NONE, jpeg_quality=(20, 95)),
    "noise, jpeg": dataclasses.replace(_NONE, noise=(1, 15), jpeg_quality=(40, 98)),
    "grain": dataclasses.replace(_NONE, grain=Grain(share=1, strength=(2, 20), sigma=(0.4, 2.5), chroma=(0, 1))),
    "halftone": dataclasses.replace(
        _NONE, halftone=Halftone(share=1, period=(3, 8), strength=(0.1, 0.5), lines=0.25, rosette=0.4)
    ),
    "lens": dataclasses.replace(_NONE, lens=RoundBlur(share=1, sigma=(0.3, 4)), noise=(0, 8)),
}
# How often each degradation is drawn.
SHARES = {"photo": 6, "clean": 2, "small": 3, "large": 1, "x2": 1, "x4": 1, **dict.fromkeys(ALONE, 1)}
DEGRADATIONS = {**PRESETS, **LEVELS, **ALONE}
SIDES = (512, 256)
_LUMA = torch.tensor((0.299, 0.587, 0.114)).view(3, 1, 1)


def pairs(paths: list[Path], seed: int) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Forever: the side, and the luma (1, side, side) of a face, clean and degraded, in [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    names = [name for name, share in SHARES.items() for _ in range(share)]
    while True:
        for index in torch.randperm(len(paths), generator=generator).tolist():
            side = SIDES[int(torch.randint(len(SIDES), (), generator=generator))]
            image = Image.open(paths[index]).convert("RGB").resize((side, side), Image.Resampling.LANCZOS)
            levels_HW3 = np.ascontiguousarray(np.asarray(image))
            name = names[int(torch.randint(len(names), (), generator=generator))]
            degraded_HW3 = degrade_on_cpu(levels_HW3, draw(DEGRADATIONS[name], side, generator))
            yield side, _luma(levels_HW3), _luma(degraded_HW3)


def _luma(levels_HW3: np.ndarray) -> Tensor:
    rgb_3HW = torch.from_numpy(np.ascontiguousarray(levels_HW3)).permute(2, 0, 1).float() / 127.5 - 1
    return (rgb_3HW * _LUMA).sum(0, keepdim=True)


def batches(paths: list[Path], size: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Faces of one side, clean and degraded, (size, 1, side, side)."""
    waiting: dict[int, list[tuple[Tensor, Tensor]]] = {side: [] for side in SIDES}
    for side, clean, degraded in pairs(paths, seed):
        waiting[side].append((clean, degraded))
        if len(waiting[side]) == size:
            cleans, degradeds = zip(*waiting[side], strict=True)
            waiting[side] = []
            yield torch.stack(cleans), torch.stack(degradeds)


def train(faces: Path, steps: int, batch_size: int = 8, seed: int = 0) -> DetailGates:
    torch.manual_seed(seed)
    network = DetailGates()
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, 1e-5)
    running = 0.0
    paths = sorted(path for path in faces.iterdir() if path.suffix in (".webp", ".png", ".jpg"))
    for step, (clean_B1HW, degraded_B1HW) in zip(range(steps), batches(paths, batch_size, seed), strict=False):
        wanted_BNhw = gates_wanted(degraded_B1HW, clean_B1HW, SIGMAS)[:, : len(SIGMAS)]
        loss = gate_loss(network(degraded_B1HW), wanted_BNhw)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        running = loss.item() if step == 0 else 0.98 * running + 0.02 * loss.item()
        if step % 50 == 0:
            print(f"{step}/{steps} loss {running:.4f}", flush=True)  # noqa: T201
    return network.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("faces", type=Path, help="a folder of aligned faces")
    parser.add_argument("output", type=Path, help=".safetensors")
    parser.add_argument("--steps", type=int, default=1500)
    args = parser.parse_args()
    save_file(train(args.faces, args.steps).state_dict(), args.output)


if __name__ == "__main__":
    main()
