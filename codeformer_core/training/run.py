"""One stage from its configuration to trained weights: everything is checked, then the steps run.

A run's folder: config.json, checkpoints/, model.safetensors (the averaged weights, which the nodes load), scalars.csv,
tensorboard/, pictures/.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..models.saving import save_network
from ..networks.codeformer import CodeFormer
from ..networks.vqgan import VQAutoencoder, VQNetwork
from ..runtime.atomic import write_whole
from ..runtime.memory import NotEnoughMemory, is_out_of_memory
from . import WEIGHTS_NAME
from .config import RunConfig, StageSection
from .config.reading import as_mapping
from .data.draws import Place
from .data.feed import Feed
from .data.files import FaceSource
from .data.sources import open_faces
from .engine.board import Board
from .engine.checkpoint import Checkpoints, Meta
from .engine.freezing import freeze_all_but
from .engine.processes import Processes, deterministic
from .engine.stopping import StopRequest
from .engine.trainer import FeedFailed, NotFinite, Progress, Trainer
from .engine.validation import Examples, show, validate
from .folder import check_folder, claimed
from .latent_codes import read_codes
from .losses.perceptual import choose_perceptual
from .resuming import about_run, resume_from
from .setup import (
    RunFiles,
    build_adversary,
    build_examples,
    build_losses,
    build_stage,
    find_section,
    recipe_of,
    teacher_of,
)

logger = logging.getLogger(__name__)

_CONTINUE = "--resume (`train all`: with the same command)"


@dataclass(frozen=True)
class Result:
    """How a run ended.

    steps: done in all.
    stopped_by: the signal that ended the run before its last step.
    """

    steps: int
    iterations: int
    weights: Path
    stopped_by: int | None


def train(
    config: RunConfig,
    name: str,
    files: RunFiles,
    processes: Processes,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Result:
    """Run stage `name` of `config`. Every process calls this alike; the first one writes.

    Raises ValueError, before the first step, for what doesn't fit together; NotFinite when training diverged, with the
    step, the faces and the last good checkpoint; OSError when the disk fails.
    """
    with deterministic(config.engine.deterministic), _explained_memory():
        return _train(config, name, files, processes, on_progress)


def _train(
    config: RunConfig,
    name: str,
    files: RunFiles,
    processes: Processes,
    on_progress: Callable[[Progress], None],
) -> Result:
    checkpoints = Checkpoints(
        files.folder / "checkpoints", config.engine.keep, processes, config.engine.checkpoint_file_mib
    )
    newest = check_folder(files, config.data, checkpoints)
    ready = prepare(config, name, files, processes)
    trainer, section = ready.trainer, ready.section
    said = about_run(config, trainer.stage, ready.source)
    checkpoints.require_space(trainer.state.bytes_in_checkpoint())
    # Those of the optimisers, which come later, are as large as the parameters.
    checkpoints.require_pieces(trainer.state.tensors())
    start = 0
    if newest is not None:
        start = resume_from(newest, checkpoints, trainer, name, said)
    examples = build_examples(config, section) if processes.is_first else None
    feed = ready.feed_from(start)
    run = _Run(config, name, section, files, trainer, checkpoints, said, examples, on_progress)
    with claimed(files.folder, newest, checkpoints, processes), contextlib.closing(feed), run:
        return run.go(feed, start)


@dataclass(frozen=True)
class Ready:
    """A stage that could make its first step: its trainer and its faces."""

    config: RunConfig
    section: StageSection
    source: FaceSource
    trainer: Trainer
    codes_N2T: Tensor | None

    def feed_from(self, step: int) -> Feed:
        """Batches from `step` on; to be closed."""
        processes = self.trainer.processes
        return Feed(
            self.source,
            config=self.config.data,
            recipe_at=lambda step: recipe_of(self.config, self.section, step),
            seed=self.config.engine.seed,
            batch_size=self.section.batch_size,
            accumulate=self.config.engine.accumulate,
            place=Place(processes.rank, processes.count),
            start_step=step,
            device=processes.device,
            codes_N2T=self.codes_N2T,
        )


def prepare(config: RunConfig, name: str, files: RunFiles, processes: Processes) -> Ready:
    """Everything a stage needs, checked. Raises ValueError for what doesn't fit together."""
    section = find_section(config, name)
    device = processes.device
    source = open_faces(config.data, "train", config.network.image_size, least=section.batch_size)
    perceptual = choose_perceptual(config.lpips_backbone, device)
    if section.losses.perceptual > 0:
        logger.info("perceptual loss: %s", perceptual.name)
    stage = build_stage(config, section, files, build_losses(section, perceptual, device)).to(device)
    if device.type == "cpu" and not config.engine.compile:
        stage.network.arrange(torch.contiguous_format)
    freeze_all_but(stage.network, section.train)
    codes_N2T = None
    if files.codes is not None:
        if config.data.tones > 0:
            raise ValueError(
                f"--codes {files.codes}: these are the codes of faces as they are, and data.tones {config.data.tones} "
                "gives some other colours at each draw; leave --codes out, or set data.tones=0"
            )
        codes_N2T = read_codes(files.codes, teacher_of(stage, "--codes").network, source)
    trainer = Trainer(stage, section, config.engine, processes, build_adversary(config, section, perceptual, processes))
    return Ready(config, section, source, trainer, codes_N2T)


class _Run:
    """What happens around the steps: saving, measuring, showing, stopping."""

    def __init__(
        self,
        config: RunConfig,
        name: str,
        section: StageSection,
        files: RunFiles,
        trainer: Trainer,
        checkpoints: Checkpoints,
        said: Mapping[str, Any],
        examples: Examples | None,
        on_progress: Callable[[Progress], None],
    ) -> None:
        self.config, self.name, self.section = config, name, section
        self.folder = files.folder
        self.trainer, self.checkpoints, self.processes = trainer, checkpoints, trainer.processes
        self.said, self.examples, self.on_progress = said, examples, on_progress
        self.stop = StopRequest()
        self.saved_at = -1
        self.board: Board | None = None

    def __enter__(self) -> _Run:
        self.stop.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.stop.__exit__(*error)
        if self.board is not None:
            self.board.close()

    def go(self, feed: Feed, start: int) -> Result:
        if self.processes.is_first:
            self.board = Board(self.folder, start)
            _write_json(self.folder / "config.json", as_mapping(self.config))
        try:
            steps = self.trainer.run(iter(feed), start, self._after_step)
        except NotFinite as error:
            last = self.checkpoints.newest()
            fix = "look at these faces, lower the learning rate (it may change on the way), or use float32"
            if last is None:
                raise NotFinite(f"{error}; no checkpoint was saved yet. To fix it, {fix}") from error
            raise NotFinite(
                f"{error}; the last good checkpoint is {last}. To fix it, {fix}; then continue with {_CONTINUE}"
            ) from error
        except FeedFailed as error:
            self._save(error.step)
            raise RuntimeError(f"{error}; saved after step {error.step}; continue with {_CONTINUE}") from error
        self._save(steps)
        return Result(steps, self.section.iterations, self.folder / WEIGHTS_NAME, self.stop.number)

    def _after_step(self, progress: Progress) -> bool:
        """Whether to stop."""
        engine = self.config.engine
        is_last = progress.step == progress.iterations
        if self.board is not None and progress.values:
            speed = {"faces_per_second": progress.faces_per_second, "waiting_for_faces": progress.waiting}
            self.board.scalars(
                progress.step, {f"train/{key}": value for key, value in (progress.values | speed).items()}
            )
        self.on_progress(progress)
        if progress.step % engine.save_every == 0 or is_last:
            self._save(progress.step)
        if progress.step % engine.validate_every == 0 or is_last:
            self._validate(progress.step)
        return self.processes.any(self.stop.number is not None)

    def _validate(self, step: int) -> None:
        """On the first process; the others wait where all next look whether to stop."""
        if self.board is None or self.examples is None:
            return
        network = self.trainer.average.module
        assert isinstance(network, VQNetwork)
        teacher = self.trainer.stage.teacher
        fuses, device = self.section.kind == "fusion", self.processes.device
        batch_size = max(1, self.section.batch_size // (self.processes.count * self.config.engine.accumulate))
        values = validate(network, teacher, self.examples, batch_size=batch_size, fuses=fuses, device=device)
        self.board.scalars(step, {f"validation/{key}": value for key, value in values.items()})
        for name, grid_HW3 in show(
            network, teacher, self.examples, rows=self.config.engine.pictures, fuses=fuses, device=device
        ):
            self.board.image(step, name, grid_HW3)

    def _save(self, step: int) -> None:
        if step == self.saved_at:
            return
        meta = Meta(step, self.name, self.said)
        self.checkpoints.save(self.trainer.state.tensors(), meta)
        if self.processes.is_first:
            network = self.trainer.average.module
            assert isinstance(network, VQAutoencoder | CodeFormer)
            trained = {"stage": self.name, "steps": str(step), "faces": str(self.said["faces"])}
            save_network(
                self.folder / WEIGHTS_NAME,
                network,
                network.config,
                self.section.task,
                trained=trained,
                fidelity=self.section.recommended_fidelity,
                also=self.section.also,
            )
        self.saved_at = step


@contextlib.contextmanager
def _explained_memory() -> Generator[None]:
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise NotEnoughMemory(
            "the memory is full. Cut the batch into parts (--set engine.accumulate=4), keep the faces elsewhere "
            "(--set data.cache=disk --set data.workers=4), use --set engine.precision=bfloat16, or a smaller batch_size"
        ) from error


def _write_json(path: Path, value: Any) -> None:
    write_whole(path, json.dumps(value, indent=1).encode())
