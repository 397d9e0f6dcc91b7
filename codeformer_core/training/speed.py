"""How fast a stage learns here: measured before the time is divided."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
import time
from pathlib import Path

import torch

from ..models.saving import save_network
from ..networks.codeformer import CodeFormer
from ..networks.vqgan import VQAutoencoder
from .config import RunConfig
from .engine.freezing import initialise
from .engine.processes import Processes
from .engine.trainer import Progress
from .run import prepare
from .setup import RunFiles

# Compiling, filling caches, reading the first faces.
WARM_UP_STEPS = 2
MIN_STEPS = 2


def measure_speed(config: RunConfig, name: str, processes: Processes, seconds: float) -> float:
    """Faces per second of stage `name`, over all processes, from untrained networks of its sizes.

    The discriminator takes part from the first step, so that a run is never slower than what was measured.
    seconds: how long is measured, after two steps of warming up; at least two steps.
    """
    section = config.stages[name]
    section = dataclasses.replace(section, adversarial=dataclasses.replace(section.adversarial, starts_after=0))
    config = dataclasses.replace(config, stages={**config.stages, name: section})
    watch = _Watch(seconds, section.batch_size)
    with tempfile.TemporaryDirectory() as folder:
        ready = prepare(config, name, _untrained(config, name, Path(folder)), processes)
        with contextlib.closing(ready.feed_from(0)) as feed:
            ready.trainer.run(iter(feed), 0, lambda progress: processes.any(watch.is_done(progress)))
    return float(processes.mean(torch.tensor(watch.faces_per_second, device=processes.device)))


class _Watch:
    def __init__(self, seconds: float, batch_size: int) -> None:
        self.seconds, self.batch_size = seconds, batch_size
        self.begun = time.monotonic()
        self.elapsed, self.steps = 0.0, 0

    def is_done(self, progress: Progress) -> bool:
        if progress.step <= WARM_UP_STEPS < progress.iterations:
            self.begun = time.monotonic()
            return False
        self.steps, self.elapsed = max(1, progress.step - WARM_UP_STEPS), time.monotonic() - self.begun
        return self.elapsed >= self.seconds and self.steps >= MIN_STEPS

    @property
    def faces_per_second(self) -> float:
        return self.steps * self.batch_size / max(self.elapsed, 1e-6)


def _untrained(config: RunConfig, name: str, folder: Path) -> RunFiles:
    """Files of the earlier stages' networks, as they are before training."""
    section = config.stages[name]
    files = RunFiles(folder / "run")
    if section.kind == "autoencoder":
        return files
    teacher = VQAutoencoder(config.network.autoencoder())
    initialise(teacher, config.engine.seed)
    save_network(folder / "teacher.safetensors", teacher, teacher.config, "autoencoder")
    files = dataclasses.replace(files, teacher=folder / "teacher.safetensors")
    if section.starts_from != "codes":
        return files
    codes = CodeFormer(config.network.codeformer(()))
    initialise(codes, config.engine.seed)
    codes.load_state_dict(teacher.state_dict(), strict=False)
    save_network(folder / "codes.safetensors", codes, codes.config, section.task)
    return dataclasses.replace(files, start=folder / "codes.safetensors")
