"""Give a painter that mends faces its pixel path: python -m tools.train_painter.gates PAINTER FACES OUTPUT --steps N.

PAINTER is what `python -m tools.train_painter restoration` wrote, and stays as it is; OUTPUT is the file that the pack
loads, for restoration and inpainting. Only the path's gates learn, on whole faces, from those of another file.
"""

from __future__ import annotations

import argparse
import logging
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from codeformer_core.degradation import PRESETS, draw
from codeformer_core.degradation.cpu import degrade_on_cpu
from codeformer_core.models.pixel_path import read_pixel_path
from codeformer_core.models.saving import save_network
from codeformer_core.networks.painter import Painter, half_sized
from codeformer_core.training.losses.gates import gate_loss, gates_wanted
from codeformer_core.training.losses.perceptual import choose_perceptual
from codeformer_core.weights.folders import ASSETS_FOLDER
from codeformer_core.weights.reading import read_metadata

from .faces import SIDE, SUFFIXES
from .losses import TASKS

# So often each of the presets is drawn, of ten.
DAMAGES = {"clean": 1, "photo": 4, "small": 3, "large": 2}
STARTER = ASSETS_FOLDER / "codeformer_starter.safetensors"
PREFIX = "pixel_path."
# Recommended where the file is used: all of the face that is sound.
FIDELITY = 1.0
log = logging.getLogger(__name__)


def pairs(folder: Path, size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Forever: damaged_B3SS and clean_B3SS, RGB [-1, 1]."""
    paths = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES)
    damages = [PRESETS[name] for name, share in DAMAGES.items() for _ in range(share)]
    while True:
        found: list[tuple[np.ndarray, np.ndarray]] = []
        for _ in range(size):
            path = paths[int(torch.randint(len(paths), (), generator=generator))]
            damage = damages[int(torch.randint(len(damages), (), generator=generator))]
            clean_SS3 = np.asarray(Image.open(path).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX))
            found.append((degrade_on_cpu(clean_SS3, draw(damage, SIDE, generator)), clean_SS3))
        damaged_B3SS, clean_B3SS = (
            torch.from_numpy(np.stack(faces)).permute(0, 3, 1, 2).float() / 127.5 - 1
            for faces in zip(*found, strict=True)
        )
        yield damaged_B3SS, clean_B3SS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("painter", type=Path)
    parser.add_argument("faces", type=Path, help="a folder of aligned faces")
    parser.add_argument("output", type=Path, help=".safetensors")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--painted-steps", default="", help="of the painter's training, for the file's header")
    parser.add_argument("--start", type=Path, default=STARTER, help="a file whose gates to begin with")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--rate", type=float, default=1e-3)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    ended: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: ended.append(number))
    gates = {key: value.float() for key, value in load_file(args.start).items() if key.startswith(PREFIX)}
    metadata = read_metadata(args.start)
    assert metadata is not None
    path_config = read_pixel_path(gates, metadata)
    assert path_config is not None
    config = replace(TASKS["restoration"].config, pixel_path=path_config)
    painter = Painter(config)
    painter.load_state_dict(load_file(args.painter) | gates)
    path = painter.pixel_path
    assert path is not None
    perceptual = choose_perceptual(None, torch.device("cpu")).measure
    optimizer = torch.optim.Adam(path.parameters(), args.rate, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, args.steps))
    recorded: dict[str, float] = {}
    for step, (damaged_B3SS, clean_B3SS) in enumerate(pairs(args.faces, args.batch, torch.Generator().manual_seed(0))):
        if step >= args.steps or ended:
            break
        with torch.no_grad():
            made_B3SS = painter.painted(damaged_B3SS)
        output_B3SS, logits_BNhw = path(damaged_B3SS, made_B3SS, 1.0)
        pixel = (output_B3SS - clean_B3SS).abs().mean()
        seen = perceptual(half_sized(output_B3SS), half_sized(clean_B3SS))
        taught = gate_loss(logits_BNhw, gates_wanted(damaged_B3SS, clean_B3SS, path_config.sigmas))
        optimizer.zero_grad()
        (2 * pixel + seen + 0.1 * taught).backward()
        optimizer.step()
        schedule.step()
        values = {"pixel": pixel, "painted": F.l1_loss(made_B3SS, clean_B3SS), "perceptual": seen, "gates": taught}
        for name, number in ((name, float(value.detach())) for name, value in values.items()):
            recorded[name] = 0.95 * recorded.get(name, number) + 0.05 * number
        if step % 20 == 0:
            told = ", ".join(f"{name} {value:.4f}" for name, value in recorded.items())
            log.info("%d/%d, %s", step, args.steps, told)
    trained = {"tool": "tools.train_painter", "steps": args.painted_steps, "steps of the gates": str(args.steps)}
    precision, also = torch.float16, ("inpainting",)
    save_network(
        args.output, painter, config, "restoration", dtype=precision, trained=trained, fidelity=FIDELITY, also=also
    )


if __name__ == "__main__":
    main()
