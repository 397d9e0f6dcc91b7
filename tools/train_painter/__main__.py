"""Make a painter: python -m tools.train_painter {colorization,inpainting} FACES OUTPUT --steps N.

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
from safetensors.torch import save_file
from torch import Tensor, nn

from codeformer_core.networks.discriminator import Discriminator, DiscriminatorConfig
from codeformer_core.networks.operations import set_memory_format
from codeformer_core.networks.painter import Painter, PainterConfig, luma
from codeformer_core.training.losses.adversarial import discriminator_loss, generator_loss
from codeformer_core.training.losses.perceptual import choose_perceptual

from .faces import batches, grown, holes, load_faces, some_gray, without_colours

CONFIGS = {
    "colorization": PainterConfig(patch=4, widths=(48, 96, 160, 256)),
    "inpainting": PainterConfig(patch=2, widths=(24, 48, 96, 160, 224)),
}
RATE, FINAL_RATE, DISCRIMINATOR_RATE = 6e-4, 2e-5, 2e-4
AVERAGE = 0.997
# Of all steps; before it, a discriminator would only see blur.
ADVERSARIAL_FROM = 0.5
# Weights of the losses.
ADVERSARIAL, PERCEPTUAL, CHROMA = 0.02, 1.2, 10
LOG_EVERY, SAVE_EVERY = 50, 400
log = logging.getLogger(__name__)


class Training:
    """One painter, its average, and what judges it."""

    def __init__(self, task: str, steps: int) -> None:
        self.task, self.steps, self.step = task, steps, 0
        self.painter = Painter(CONFIGS[task])
        set_memory_format(self.painter, torch.channels_last)
        self.average = Painter(CONFIGS[task]).requires_grad_(False)
        self.average.load_state_dict(self.painter.state_dict())
        self.optimizer = torch.optim.Adam(self.painter.parameters(), RATE, betas=(0.9, 0.99))
        self.judge = Discriminator(DiscriminatorConfig(24, 3, "group"))
        self.judge_optimizer = torch.optim.Adam(self.judge.parameters(), DISCRIMINATOR_RATE, betas=(0.5, 0.99))
        self.perceptual = choose_perceptual(None, torch.device("cpu")).measure
        self.told: dict[str, float] = {}

    def learn(self, faces_B3ss: Tensor, generator: torch.Generator) -> None:
        if self.task == "colorization":
            loss = self._colour_loss(faces_B3ss, generator)
        else:
            loss = self._hole_loss(some_gray(faces_B3ss, generator), generator)
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

    def _painted(self, seen_B3ss: Tensor, holes_B1ss: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.painter(seen_B3ss, holes_B1ss).float()

    def _colour_loss(self, faces_B3ss: Tensor, generator: torch.Generator) -> Tensor:
        gray_B1ss, light_B1ss = without_colours(faces_B3ss, generator)
        painted_B3ss = self._painted(gray_B1ss.expand(-1, 3, -1, -1), torch.zeros_like(gray_B1ss))
        chroma_B3ss = painted_B3ss - luma(painted_B3ss)
        wanted_B3ss = light_B1ss * (faces_B3ss - luma(faces_B3ss))
        loss = (chroma_B3ss - wanted_B3ss).abs().mean()
        self._tell(chroma=loss, of_gray=wanted_B3ss.abs().mean())
        return CHROMA * loss

    def _hole_loss(self, faces_B3ss: Tensor, generator: torch.Generator) -> Tensor:
        holes_B1ss = holes(len(faces_B3ss), generator).float()
        painted_B3ss = self._painted(faces_B3ss, holes_B1ss)
        # A painter that is right beside a hole leaves no rim.
        near_B1ss = grown(holes_B1ss, 6)
        wrong_B3ss = (painted_B3ss - faces_B3ss).abs()
        pixel = (wrong_B3ss * near_B1ss).sum() / (3 * near_B1ss.sum()).clamp_min(1)
        filled_B3ss = torch.where(holes_B1ss > 0, painted_B3ss, faces_B3ss)
        perceptual = self.perceptual(filled_B3ss, faces_B3ss)
        self._tell(pixel=pixel, perceptual=perceptual)
        loss = 2 * pixel + 0.1 * wrong_B3ss.mean() + PERCEPTUAL * perceptual
        if self.step >= ADVERSARIAL_FROM * self.steps:
            loss = loss + self._adversarial(filled_B3ss, faces_B3ss)
        return loss

    def _adversarial(self, filled_B3ss: Tensor, faces_B3ss: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            judged = discriminator_loss(self.judge(faces_B3ss), self.judge(filled_B3ss.detach()))
            self.judge_optimizer.zero_grad()
            judged.backward()
            self.judge_optimizer.step()
            fooled = generator_loss(self.judge(filled_B3ss))
        self._tell(discriminator=judged, adversarial=fooled)
        return ADVERSARIAL * fooled

    def _tell(self, **values: Tensor) -> None:
        for name, value in values.items():
            before = self.told.get(name, float(value.detach()))
            self.told[name] = 0.98 * before + 0.02 * float(value.detach())

    def state(self) -> dict[str, object]:
        parts = (self.painter, self.average, self.optimizer, self.judge, self.judge_optimizer)
        return {"step": self.step, "parts": [part.state_dict() for part in parts]}

    def load_state(self, state: dict[str, object]) -> None:
        parts = (self.painter, self.average, self.optimizer, self.judge, self.judge_optimizer)
        for part, saved in zip(parts, state["parts"], strict=True):  # pyright: ignore[reportArgumentType]
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
    generator = torch.Generator().manual_seed(1)
    if training.task == "colorization":
        gray_B1ss = luma(faces_B3ss)
        seen_B3ss = gray_B1ss.expand(-1, 3, -1, -1)
        painted_B3ss = training.average(seen_B3ss, torch.zeros_like(gray_B1ss))
        made_B3ss = gray_B1ss + painted_B3ss - luma(painted_B3ss)
    else:
        holes_B1ss = holes(len(faces_B3ss), generator)
        seen_B3ss = torch.where(holes_B1ss, torch.ones_like(faces_B3ss), faces_B3ss)
        made_B3ss = torch.where(holes_B1ss, training.average(faces_B3ss, holes_B1ss.float()), faces_B3ss)
    rows = [torch.cat(list(row), dim=2) for row in (seen_B3ss, made_B3ss, faces_B3ss)]
    levels = ((torch.cat(rows, dim=1).clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    Image.fromarray(levels.permute(1, 2, 0).numpy()).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=CONFIGS)
    parser.add_argument("faces", type=Path, help="a folder of aligned faces")
    parser.add_argument("output", type=Path, help=".safetensors")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--validation", type=Path, help="a folder of faces for the pictures beside OUTPUT")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    ended: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: ended.append(number))
    torch.manual_seed(0)
    training = Training(args.task, args.steps)
    checkpoint = args.output.with_suffix(".checkpoint")
    if checkpoint.exists():
        training.load_state(torch.load(checkpoint, weights_only=True))
    generator = torch.Generator().manual_seed(training.step)
    coloured = args.task == "colorization"
    faces_N3ss = load_faces(args.faces, coloured)
    log.info("%d faces, from step %d", len(faces_N3ss), training.step)
    shown = next(batches(load_faces(args.validation, coloured), 8, torch.Generator().manual_seed(0)), None)
    begun, first = time.monotonic(), training.step
    for faces_B3ss in batches(faces_N3ss, args.batch, generator):
        if training.step >= args.steps or ended:
            break
        training.learn(faces_B3ss, generator)
        if training.step % LOG_EVERY == 0:
            rate = (training.step - first) * args.batch / (time.monotonic() - begun)
            told = ", ".join(f"{name} {value:.4f}" for name, value in training.told.items())
            log.info("%d/%d, %.1f faces/s, %s", training.step, args.steps, rate, told)
        if training.step % SAVE_EVERY == 0:
            torch.save(training.state(), checkpoint)
            if shown is not None:
                save_pictures(training, shown, args.output.with_suffix(".png"))
    torch.save(training.state(), checkpoint)
    save_file(training.average.state_dict(), args.output)


if __name__ == "__main__":
    main()
