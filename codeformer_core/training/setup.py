"""The parts of a run, made from its configuration and files; what doesn't fit together is refused here."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import torch

from ..networks.discriminator import Discriminator, DiscriminatorConfig, score_size
from ..networks.pixel_path import SHRINK
from ..networks.vqgan import VQAutoencoder
from .config import RunConfig, StageSection
from .config.reading import nearest
from .data.draws import Recipe, share_of
from .data.sources import open_faces
from .engine.adversary import Adversary
from .engine.freezing import initialise
from .engine.processes import Processes
from .engine.validation import Examples, gather_examples
from .losses.gates import WINDOW
from .losses.image import ImageLosses
from .losses.perceptual import Perceptual
from .networks import (
    begin_from_autoencoder,
    begin_from_codes,
    begin_from_restorer,
    begin_from_teacher,
    read_teacher,
)
from .stages.autoencoder import AutoencoderStage
from .stages.codes import CodesStage
from .stages.fusion import FusionStage
from .stages.stage import Stage, Teacher

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunFiles:
    """Where a run reads and writes.

    folder: of the run.
    teacher: stage I's weights or run folder.
    start: a trained stage II, or for stage I another stage I.
    codes: see `latent_codes`.
    resume: continue from the newest checkpoint, if there is one.
    """

    folder: Path
    teacher: Path | None = None
    start: Path | None = None
    codes: Path | None = None
    resume: bool = False


def find_section(config: RunConfig, name: str) -> StageSection:
    if name not in config.stages:
        raise ValueError(f"there is no stage {name!r}{nearest(name, config.stages)}")
    return config.stages[name]


def build_losses(section: StageSection, perceptual: Perceptual, device: torch.device) -> ImageLosses:
    """Only what has a weight is computed."""
    weights = section.losses
    identity = None
    if weights.identity > 0:
        from .losses.identity import load_identity_loss

        identity = load_identity_loss(device)
    return ImageLosses(perceptual.measure if weights.perceptual > 0 else None, identity)


def build_stage(config: RunConfig, section: StageSection, files: RunFiles, losses: ImageLosses) -> Stage:
    if section.kind == "autoencoder":
        _refuse(files.teacher, "--teacher", "stage I has no teacher")
        if files.start is not None:
            network = begin_from_autoencoder(files.start, config.network.autoencoder())
        else:
            network = VQAutoencoder(config.network.autoencoder())
            initialise(network, config.engine.seed)
        return AutoencoderStage(network, losses, section.losses.beta)
    # Stage II trains no fusion blocks, so its network has none: w has no effect on it.
    wanted = config.network.codeformer(() if section.kind == "codes" else section.fuse_sizes)
    if section.kind == "fusion" and not wanted.fuse_sizes:
        raise ValueError("fuse_sizes is empty: a fusion stage needs at least one size, such as [32, 64, 128, 256]")
    if section.kind == "fusion":
        check_pixel_path(config)
    if files.start is None and section.starts_from == "codes":
        raise ValueError(
            "--from is missing: this stage continues from a trained stage II; name its folder (`train stage2`)"
        )
    if not section.needs_teacher:
        assert files.start is not None
        return FusionStage(begin_from_restorer(files.start, wanted, config.engine.seed), None, losses, section.adain)
    if files.teacher is None:
        raise ValueError(
            "--teacher is missing: this stage learns from a trained stage I; name its folder (`train stage1` makes one)"
        )
    teacher = read_teacher(files.teacher, wanted.autoencoder)
    if files.start is not None:
        network = begin_from_codes(files.start, teacher, wanted, config.engine.seed)
    else:
        network = begin_from_teacher(teacher, wanted, config.engine.seed)
    if section.kind == "codes":
        return CodesStage(network, Teacher(teacher))
    return FusionStage(network, Teacher(teacher), losses, section.adain)


def check_pixel_path(config: RunConfig) -> None:
    """Raises ValueError where the faces can't be divided into the windows that teach the gates."""
    window, size = SHRINK * WINDOW, config.network.image_size
    if config.network.pixel_path is not None and size % window:
        raise ValueError(
            f"network.pixel_path: its gates learn from windows of {window} pixels, and image_size {size} is not a "
            f"multiple of {window}; choose another image_size, or set network.pixel_path=null"
        )


def teacher_of(stage: Stage, option: str) -> Teacher:
    if stage.teacher is None:
        raise ValueError(f"{option}: stage I makes its codes itself; leave it out")
    return stage.teacher


def build_adversary(
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


def recipe_of(config: RunConfig, section: StageSection, step: int) -> Recipe:
    if section.kind == "autoencoder":
        return Recipe(None, None)
    entry = section.step_at(step)
    fidelity = entry.fidelity
    if fidelity is not None and entry.fidelity_to is not None:
        fidelity += (entry.fidelity_to - fidelity) * share_of(config.engine.seed, step)
    return Recipe(config.degradation(entry.degradation), fidelity, entry.task or section.task)


def build_examples(config: RunConfig, section: StageSection) -> Examples | None:
    if config.data.validation is None and config.data.manifest is None:
        logger.warning("no validation faces were named (--validation): losses and images show training faces only")
        return None
    source = open_faces(config.data, "validation", config.network.image_size)
    tasks = {entry.degradation: entry.task or section.task for phase in section.mixture for entry in phase.cycle}
    degradations = {name: config.degradation(name) for name in tasks}
    return gather_examples(source, config.engine.validation_faces, degradations, tasks)


def _refuse(path: Path | None, option: str, why: str) -> None:
    if path is not None:
        raise ValueError(f"{option} {path}: {why}; leave it out")
