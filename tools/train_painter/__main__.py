"""Make a painter: python -m tools.train_painter {colorization,inpainting,restoration} FACES OUTPUT --steps N.

Takes one core an hour or two. Ended by a signal, or killed, it continues from the checkpoint beside OUTPUT.
"""

from __future__ import annotations

import argparse
import logging
import math
import signal
import time
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from codeformer_core.networks.operations import set_memory_format
from codeformer_core.networks.painter import Painter

from .faces import batches, load_faces
from .losses import TASKS, Task, parts_of

RATE, FINAL_RATE = 6e-4, 2e-5
AVERAGE = 0.997
# Of all steps.
ADVERSARIAL_FROM = 0.5
LOG_EVERY, SAVE_EVERY = 50, 400
log = logging.getLogger(__name__)


class Training:
    """One painter, its averaged weights, and the task's discriminators."""

    def __init__(self, task: Task, steps: int) -> None:
        self.task, self.steps, self.step = task, steps, 0
        self.painter = Painter(task.config)
        set_memory_format(self.painter, torch.channels_last)
        self.average = Painter(task.config).requires_grad_(False)
        self.average.load_state_dict(self.painter.state_dict())
        self.optimizer = torch.optim.Adam(self.painter.parameters(), RATE, betas=(0.9, 0.99))

    def begin_with(self, weights: dict[str, Tensor]) -> None:
        for painter in (self.painter, self.average):
            painter.load_state_dict(weights)

    def learn(self, faces_B3ss: Tensor, generator: torch.Generator) -> None:
        loss = self.task.loss(self.painter, faces_B3ss, self.step >= ADVERSARIAL_FROM * self.steps, generator)
        self.optimizer.zero_grad()
        loss.backward()
        for group in self.optimizer.param_groups:
            group["lr"] = rate_at(self.step / self.steps)
        nn.utils.clip_grad_norm_(self.painter.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        keep = min(AVERAGE, self.step / (self.step + 10))
        for mean, value in zip(self.average.parameters(), self.painter.parameters(), strict=True):
            mean.lerp_(value.detach(), 1 - keep)

    def _parts(self) -> list[nn.Module | torch.optim.Optimizer]:
        return [self.painter, self.average, self.optimizer, *parts_of(self.task)]

    def state(self) -> dict[str, object]:
        return {"step": self.step, "parts": [part.state_dict() for part in self._parts()]}

    def load_state(self, state: dict[str, object]) -> None:
        for part, saved in zip(self._parts(), state["parts"], strict=True):  # pyright: ignore[reportArgumentType]
            part.load_state_dict(saved)
        self.step = int(state["step"])  # pyright: ignore[reportArgumentType]


def rate_at(share: float) -> float:
    """A cosine over the run; a function of `share` alone, so that a run may be made longer on the way.

    share: of the steps that are done, 0 .. 1.
    """
    return FINAL_RATE + (RATE - FINAL_RATE) * (1 + math.cos(math.pi * min(share, 1.0))) / 2


@torch.no_grad()
def save_pictures(training: Training, faces_B3ss: Tensor, path: Path) -> None:
    """What the painter sees, what it makes of it, and the face, below each other."""
    rows = [torch.cat(list(row), dim=2) for row in (*training.task.shown(training.average, faces_B3ss), faces_B3ss)]
    levels = ((torch.cat(rows, dim=1).clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    Image.fromarray(levels.permute(1, 2, 0).numpy()).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("faces", type=Path, help="a folder of aligned faces")
    parser.add_argument("output", type=Path, help=".safetensors")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--start", type=Path, help="a painter to begin with, .safetensors")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--validation", type=Path, help="a folder of faces for the pictures beside OUTPUT")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    ended: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: ended.append(number))
    torch.manual_seed(0)
    task = TASKS[args.task]()
    training = Training(task, args.steps)
    checkpoint = args.output.with_suffix(".checkpoint")
    if args.start is not None:
        training.begin_with(load_file(args.start))
    if checkpoint.exists():
        training.load_state(torch.load(checkpoint, weights_only=True))
    generator = torch.Generator().manual_seed(training.step)
    faces_N3ss = load_faces(args.faces, task.coloured)
    log.info("%d faces, from step %d", len(faces_N3ss), training.step)
    shown = None
    if args.validation is not None:
        shown = next(batches(load_faces(args.validation, task.coloured), 8, torch.Generator().manual_seed(0)))
    begun, first = time.monotonic(), training.step
    for faces_B3ss in batches(faces_N3ss, args.batch, generator):
        if training.step >= args.steps or ended:
            break
        training.learn(faces_B3ss, generator)
        if training.step % LOG_EVERY == 0:
            rate = (training.step - first) * args.batch / (time.monotonic() - begun)
            recorded = ", ".join(f"{name} {value:.4f}" for name, value in task.recorded.items())
            log.info("%d/%d, %.1f faces/s, %s", training.step, args.steps, rate, recorded)
        if training.step % SAVE_EVERY == 0:
            torch.save(training.state(), checkpoint)
            if shown is not None:
                save_pictures(training, shown, args.output.with_suffix(".png"))
    torch.save(training.state(), checkpoint)
    save_file(training.average.state_dict(), args.output)


if __name__ == "__main__":
    main()
