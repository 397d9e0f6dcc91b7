"""One stage from its configuration to trained weights: everything is checked, then the steps run.

A run's folder: config.json, checkpoints/, model.safetensors (the averaged weights, which the nodes load), scalars.csv,
tensorboard/, pictures/.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..networks.codeformer import CodeFormer
from ..networks.discriminator import Discriminator, DiscriminatorConfig, score_size
from ..networks.vqgan import VQAutoencoder
from ..weights.save import save_network
from .config import RunConfig, StageSection
from .config.reading import as_mapping, nearest
from .data.draws import Place, Recipe
from .data.feed import Feed
from .data.files import FaceSource
from .data.sources import open_faces
from .engine.adversary import Adversary
from .engine.board import Board
from .engine.checkpoint import Checkpoints, Meta, read_meta
from .engine.freezing import freeze_all_but, initialise
from .engine.processes import Processes
from .engine.stopping import StopRequest
from .engine.trainer import NotFinite, Progress, Trainer
from .engine.validation import Examples, gather_examples, show, validate
from .latent_codes import read_codes
from .losses.perceptual import Perceptual, choose_perceptual
from .networks import WEIGHTS_NAME, begin_from_codes, begin_from_teacher, fingerprint, read_teacher
from .stages.autoencoder import AutoencoderStage
from .stages.codes import CodesStage
from .stages.fusion import FusionStage
from .stages.stage import Stage, Teacher

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunFiles:
    """folder: of the run. teacher: stage I's weights or run folder. start: a trained stage II. codes: see
    `latent_codes`. resume: go on from the newest checkpoint, if there is one."""

    folder: Path
    teacher: Path | None = None
    start: Path | None = None
    codes: Path | None = None
    resume: bool = False


@dataclass(frozen=True)
class Result:
    """steps: done in all. stopped_by: the signal that ended the run before its last step."""

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
    section = _section(config, name)
    torch.use_deterministic_algorithms(config.engine.deterministic)
    checkpoints = Checkpoints(files.folder / "checkpoints", config.engine.keep, processes)
    newest = _begin_or_resume(files, checkpoints)
    device = processes.device
    source = open_faces(config.data, "train", config.network.image_size, least=section.batch_size)
    perceptual = choose_perceptual(config.lpips_backbone, device)
    stage = _stage(config, section, files, perceptual).to(device)
    freeze_all_but(stage.network, section.train)
    codes_N2T = None
    if files.codes is not None:
        codes_N2T = read_codes(files.codes, _teacher_of(stage, "--codes").network, source)
    trainer = Trainer(stage, section, config.engine, processes, _adversary(config, section, perceptual, processes))
    said = _about(config, stage, source)
    checkpoints.require_space(trainer.state.tensors())
    start = 0
    if newest is not None:
        start = _resume(newest, checkpoints, trainer, name, said)
    # Random numbers of the processes differ, but for what they draw together at the start.
    else:
        torch.manual_seed(config.engine.seed + processes.rank)
    examples = _examples(config, section) if processes.is_first else None
    feed = Feed(
        source,
        config=config.data,
        recipe_at=lambda step: _recipe(config, section, step),
        seed=config.engine.seed,
        batch_size=section.batch_size,
        accumulate=config.engine.accumulate,
        place=Place(processes.rank, processes.count),
        start_step=start,
        device=device,
        codes_N2T=codes_N2T,
    )
    run = _Run(config, name, section, files, trainer, checkpoints, said, examples, on_progress)
    with contextlib.closing(feed), run:
        return run.go(feed, start)


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
            kept = f"the last good checkpoint is {last}" if last else "no checkpoint was saved yet"
            raise NotFinite(
                f"{error}; {kept}. Cure: look at these faces, lower the learning rate, or use float32; then --resume"
            ) from error
        self._save(steps)
        return Result(steps, self.section.iterations, self.folder / WEIGHTS_NAME, self.stop.number)

    def _after_step(self, progress: Progress) -> bool:
        """Whether to stop."""
        engine = self.config.engine
        is_last = progress.step == progress.iterations
        if self.board is not None and progress.values:
            speed = {"faces_per_second": progress.faces_per_second, "waiting_for_faces": progress.seconds_waited}
            self.board.scalars(
                progress.step, {f"train/{key}": value for key, value in (progress.values | speed).items()}
            )
        self.on_progress(progress)
        if progress.step % engine.validate_every == 0 or is_last:
            self._validate(progress.step)
        if progress.step % engine.save_every == 0:
            self._save(progress.step)
        return self.processes.any(self.stop.number is not None)

    def _validate(self, step: int) -> None:
        """On the first process; the others wait at the next step's gradients."""
        if self.board is None or self.examples is None:
            return
        network = self.trainer.average.module
        assert isinstance(network, VQAutoencoder)
        teacher = getattr(self.trainer.stage, "teacher", None)
        how = {
            "fuses": self.section.kind == "fusion",
            "adain": self.section.task != "inpainting",
            "device": self.processes.device,
        }
        batch_size = max(1, self.section.batch_size // (self.processes.count * self.config.engine.accumulate))
        values = validate(network, teacher, self.examples, batch_size=batch_size, **how)
        self.board.scalars(step, {f"validation/{key}": value for key, value in values.items()})
        for name, grid_HW3 in show(network, teacher, self.examples, rows=self.config.engine.pictures, **how):
            self.board.picture(step, name, grid_HW3)

    def _save(self, step: int) -> None:
        if step == self.saved_at:
            return
        meta = Meta(step, self.name, self.said)
        self.checkpoints.save(self.trainer.state.tensors(), meta)
        if self.processes.is_first:
            network = self.trainer.average.module
            assert isinstance(network, VQAutoencoder)
            config = network.codeformer_config if isinstance(network, CodeFormer) else network.config
            trained = {"stage": self.name, "steps": str(step), "faces": str(self.said["faces"])}
            save_network(self.folder / WEIGHTS_NAME, network, config, self.section.task, trained=trained)
        self.saved_at = step


def _section(config: RunConfig, name: str) -> StageSection:
    if name not in config.stages:
        raise ValueError(f"there is no stage {name!r}{nearest(name, config.stages)}")
    return config.stages[name]


def _begin_or_resume(files: RunFiles, checkpoints: Checkpoints) -> Path | None:
    """The checkpoint to go on from. Raises ValueError for a folder that holds a run which isn't to go on."""
    newest = checkpoints.newest()
    if newest is not None and not files.resume:
        raise ValueError(
            f"{files.folder} holds a run already ({newest.name}): --resume goes on with it, or name another folder"
        )
    if newest is None and files.resume:
        logger.warning("%s holds no checkpoint yet: starting from the beginning", files.folder)
    return newest


def _stage(config: RunConfig, section: StageSection, files: RunFiles, perceptual: Perceptual) -> Stage:
    if section.kind == "autoencoder":
        _refuse(files.teacher, "--teacher", "stage I has no teacher")
        _refuse(files.start, "--from", "stage I begins from nothing")
        network = VQAutoencoder(config.network.autoencoder())
        initialise(network, config.engine.seed)
        return AutoencoderStage(network, perceptual, section.losses.beta)
    if files.teacher is None:
        raise ValueError(
            "--teacher is missing: this stage learns from a trained stage I; name its folder (`train stage1` makes one)"
        )
    wanted = config.network.codeformer(section.fuse_sizes)
    teacher = read_teacher(files.teacher, wanted.autoencoder).network
    if files.start is not None:
        network = begin_from_codes(files.start, teacher, wanted, config.engine.seed)
    elif section.starts_from == "codes":
        raise ValueError(
            "--from is missing: this stage goes on from a trained stage II; name its folder (`train stage2`)"
        )
    else:
        network = begin_from_teacher(teacher, wanted, config.engine.seed)
    if section.kind == "codes":
        return CodesStage(network, Teacher(teacher))
    if not wanted.fuse_sizes:
        raise ValueError("fuse_sizes is empty: a fusion stage needs at least one size, such as [32, 64, 128, 256]")
    return FusionStage(network, Teacher(teacher), perceptual)


def _refuse(path: Path | None, option: str, why: str) -> None:
    if path is not None:
        raise ValueError(f"{option} {path}: {why}; leave it out")


def _teacher_of(stage: Stage, option: str) -> Teacher:
    teacher = getattr(stage, "teacher", None)
    if not isinstance(teacher, Teacher):
        raise ValueError(f"{option}: stage I makes its codes itself; leave it out")
    return teacher


def _adversary(
    config: RunConfig, section: StageSection, perceptual: Perceptual, processes: Processes
) -> Adversary | None:
    if not section.uses_discriminator:
        return None
    sizes = config.discriminator
    discriminator = DiscriminatorConfig(sizes.channels, sizes.layers, sizes.norm)
    if score_size(discriminator, config.network.image_size) < 1:
        raise ValueError(
            f"discriminator.layers {sizes.layers} are too many for faces of {config.network.image_size} pixels: fewer"
        )
    torch.manual_seed(config.engine.seed + 1)
    return Adversary(
        Discriminator(discriminator),
        section.adversarial,
        section.betas,
        processes,
        matches_features=perceptual.uses_discriminator,
    )


def _recipe(config: RunConfig, section: StageSection, step: int) -> Recipe:
    if section.kind == "autoencoder":
        return Recipe(None, None)
    entry = section.step_at(step)
    return Recipe(config.degradation(entry.degradation), entry.fidelity)


def _examples(config: RunConfig, section: StageSection) -> Examples | None:
    if config.data.validation is None and config.data.manifest is None:
        logger.warning("no validation faces were named (--validation): losses and pictures show training faces only")
        return None
    source = open_faces(config.data, "validation", config.network.image_size)
    names = dict.fromkeys(entry.degradation for phase in section.mixture for entry in phase.cycle)
    return gather_examples(source, config.engine.validation_faces, {name: config.degradation(name) for name in names})


def _about(config: RunConfig, stage: Stage, source: FaceSource) -> dict[str, Any]:
    """What a checkpoint says of its run."""
    teacher = getattr(stage, "teacher", None)
    return {
        "config": as_mapping(config),
        "faces": source.fingerprint,
        "teacher": fingerprint(teacher.network) if isinstance(teacher, Teacher) else None,
    }


def _resume(newest: Path, checkpoints: Checkpoints, trainer: Trainer, name: str, said: Mapping[str, Any]) -> int:
    """-> the step to go on from. Raises ValueError for a checkpoint of another stage, configuration or teacher."""
    meta = read_meta(newest)
    if meta.stage != name:
        raise ValueError(f"{newest} is of {meta.stage}, this is {name}; name another folder with -o")
    differences = _differences(_binding(meta.config["config"], name), _binding(said["config"], name))
    if differences:
        shown = "; ".join(f"{key} is {there!r} there and {here!r} here" for key, there, here in differences[:5])
        raise ValueError(f"{newest} was made with another configuration: {shown}. Use the same, or another folder (-o)")
    if meta.config["teacher"] != said["teacher"]:
        raise ValueError(
            f"{newest} has the teacher {meta.config['teacher']}, this run {said['teacher']}; name the same"
        )
    if meta.config["faces"] != said["faces"]:
        logger.warning(
            "the faces have changed since %s was saved: from here on they come in another order", newest.name
        )
    trainer.state.restore(checkpoints.load(newest))
    return meta.step


def _binding(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The parts of a configuration that a run can't change on the way. More steps may be asked for."""
    stage = {key: value for key, value in config["stages"][name].items() if key != "iterations"}
    return {
        "network": config["network"],
        "discriminator": config["discriminator"],
        "lpips_backbone": config["lpips_backbone"],
        "degradations": config["degradations"],
        "seed": config["engine"]["seed"],
        "flip": config["data"]["flip"],
        f"stages.{name}": stage,
    }


def _differences(there: Any, here: Any, key: str = "") -> list[tuple[str, Any, Any]]:
    if isinstance(there, Mapping) and isinstance(here, Mapping):
        found = []
        for name in sorted({*there, *here}):
            found += _differences(there.get(name), here.get(name), f"{key}.{name}".lstrip("."))
        return found
    return [] if there == here else [(key, there, here)]


def _write_json(path: Path, value: Any) -> None:
    unfinished = path.with_suffix(".part")
    unfinished.write_text(json.dumps(value, indent=1), encoding="utf-8")
    os.replace(unfinished, path)
