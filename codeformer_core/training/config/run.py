"""A training run as values: sizes, losses, schedules, what is frozen, which degradation comes when.

A preset names every value, and a user's file changes the ones it names. A default has only what was added later: the
config.json of an older run doesn't name it. Ranges are checked where a wrong value would only show hours later. Numbers
of the published trainer and of the paper: see the presets.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ...degradation import PRESETS as DEGRADATIONS
from ...degradation import Degradation
from ...networks.codeformer import CodeFormerConfig
from ...networks.pixel_path import PixelPathConfig
from ...networks.vqgan import AutoencoderConfig
from ..data.config import DataConfig

KINDS = ("autoencoder", "codes", "fusion")
# The parts that a stage trains or leaves as they are; see `engine.freezing` for the modules behind the names.
PARTS = ("encoder", "codebook", "generator", "transformer", "head", "fusion", "pixel_path")
_TRAINABLE = {
    "autoencoder": ("encoder", "codebook", "generator"),
    "codes": ("encoder", "transformer", "head"),
    "fusion": ("encoder", "generator", "transformer", "head", "fusion", "pixel_path"),
}
TASKS = ("autoencoder", "restoration", "colorization", "inpainting")


@dataclass(frozen=True)
class NetworkSection:
    """Sizes of the network; the first seven are the autoencoder's.

    pixel_path: None as published.
    """

    image_size: int
    base_channels: int
    channel_multipliers: tuple[int, ...]
    residual_blocks: int
    attention_sizes: tuple[int, ...]
    codebook_size: int
    code_channels: int
    width: int
    layers: int
    heads: int
    mlp_width: int
    fuse_sizes: tuple[int, ...]
    pixel_path: PixelPathConfig | None = None

    def __post_init__(self) -> None:
        sizes: dict[str, int | tuple[int, ...]] = {
            name: value for name, value in vars(self).items() if name != "pixel_path"
        }
        for name, value in sizes.items():
            for number in value if isinstance(value, tuple) else (value,):
                _at_least(name, number, 1)
        if not self.channel_multipliers:
            raise ValueError("channel_multipliers is empty: one number for each level of the autoencoder")

    def autoencoder(self) -> AutoencoderConfig:
        return AutoencoderConfig(
            image_size=self.image_size,
            base_channels=self.base_channels,
            channel_multipliers=self.channel_multipliers,
            residual_blocks=self.residual_blocks,
            attention_sizes=self.attention_sizes,
            codebook_size=self.codebook_size,
            code_channels=self.code_channels,
        )

    def codeformer(self, fuse_sizes: tuple[int, ...] | None = None) -> CodeFormerConfig:
        """The network's configuration. Without fuse sizes there is no pixel path either.

        fuse_sizes: a stage's own, or None for the network's.
        """
        sizes = self.fuse_sizes if fuse_sizes is None else fuse_sizes
        return CodeFormerConfig(
            autoencoder=self.autoencoder(),
            width=self.width,
            layers=self.layers,
            heads=self.heads,
            mlp_width=self.mlp_width,
            fuse_sizes=sizes,
            pixel_path=self.pixel_path if sizes else None,
        )


@dataclass(frozen=True)
class DiscriminatorSection:
    """Sizes of the discriminator.

    norm: "batch" (published) or "group" (the same result however a batch is split over devices).
    """

    channels: int
    layers: int
    norm: str

    def __post_init__(self) -> None:
        _one_of("norm", self.norm, ("batch", "group"))
        _at_least("channels", self.channels, 1)
        _at_least("layers", self.layers, 1)


@dataclass(frozen=True)
class Schedule:
    """Learning rate over the steps; the discriminator's falls in proportion.

    kind: "constant"; "cosine" from the rate to `final` at the last step; "steps": times `factor` at each of
    `milestones`.
    """

    kind: str
    final: float
    milestones: tuple[int, ...]
    factor: float

    def __post_init__(self) -> None:
        _one_of("kind", self.kind, ("constant", "cosine", "steps"))


@dataclass(frozen=True)
class LossWeights:
    """0 leaves a loss out. beta stands on the codebook term of the codebook loss (see `losses.codes`).

    identity: squared distance of face descriptors.
    pixel_before_path: L1 of what a network with a pixel path makes without it, so that codes and fusion learn, too.
    gates: whether the path's gates are open where the input is right.
    """

    pixel: float
    perceptual: float
    codebook: float
    beta: float
    features: float
    codes: float
    identity: float = 0.0
    pixel_before_path: float = 0.0
    gates: float = 0.0

    def __post_init__(self) -> None:
        for name, weight in vars(self).items():
            if weight < 0:
                raise ValueError(f"{name} must be 0 or more, got {weight:g}")


@dataclass(frozen=True)
class Adversarial:
    """The hinge GAN begins after step `starts_after`.

    adaptive_scale: times the ratio of gradients at the last layer (0: the plain weight).
    """

    weight: float
    starts_after: int
    adaptive_scale: float
    learning_rate: float


@dataclass(frozen=True)
class Step:
    """`steps` training steps with one degradation.

    fidelity: None for codes only, no image is made.
    fidelity_to: each step draws its fidelity evenly between `fidelity` and this.
    task: what these faces teach, None: the stage's task.
    """

    degradation: str
    fidelity: float | None
    steps: int
    fidelity_to: float | None = None
    task: str | None = None

    def __post_init__(self) -> None:
        _at_least("steps", self.steps, 1)
        if self.fidelity is not None and not 0 < self.fidelity <= 2:
            raise ValueError(f"fidelity must be above 0 and at most 2, or null for codes only; got {self.fidelity}")
        if self.task is not None:
            _one_of("task", self.task, TASKS[1:])
        if self.fidelity_to is not None and (self.fidelity is None or not self.fidelity <= self.fidelity_to <= 2):
            raise ValueError(
                f"fidelity_to must be at least fidelity ({self.fidelity}) and at most 2, got {self.fidelity_to}"
            )


@dataclass(frozen=True)
class Phase:
    """The cycle is repeated until step `until` (None: to the end)."""

    until: int | None
    cycle: tuple[Step, ...]

    def __post_init__(self) -> None:
        if not self.cycle:
            raise ValueError("cycle is empty: name at least one step with a degradation")


@dataclass(frozen=True)
class StageSection:
    """One stage.

    batch_size: faces per step, over all processes.
    train: the parts that learn; all others keep every bit.
    starts_from: "nothing", "teacher" (stage I's weights) or "codes" (a trained stage II).
    mixture: which degradation and fidelity at which step; () for the autoencoder.
    revive_codes_every: after as many steps codes that nobody used become latents of the current faces, until step
    `revive_codes_until` (0: never, as published).
    adain: stage III matches the codes' statistics to the encoder's as restoring does (published: not while training).
    clip: largest norm of a step's gradient, 0: no limit.
    recommended_fidelity: what the file will recommend; None: nothing.
    rate_factors: part -> what its learning rate is multiplied by.
    """

    kind: str
    task: str
    starts_from: str
    fuse_sizes: tuple[int, ...] | None
    iterations: int
    batch_size: int
    learning_rate: float
    betas: tuple[float, float]
    schedule: Schedule
    ema: float
    train: tuple[str, ...]
    losses: LossWeights
    adversarial: Adversarial
    mixture: tuple[Phase, ...]
    revive_codes_every: int
    revive_codes_until: int
    adain: bool = False
    clip: float = 0.0
    recommended_fidelity: float | None = None
    rate_factors: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        _one_of("kind", self.kind, KINDS)
        _one_of("task", self.task, TASKS)
        _one_of("starts_from", self.starts_from, ("nothing", "teacher", "codes"))
        for part in self.train:
            _one_of("train", part, PARTS)
        _at_least("iterations", self.iterations, 1)
        _at_least("batch_size", self.batch_size, 1)
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema must be from 0 to below 1, got {self.ema}")
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate must be above 0, got {self.learning_rate}")
        if self.recommended_fidelity is not None and not 0 <= self.recommended_fidelity <= 1:
            raise ValueError(f"recommended_fidelity must be from 0 to 1, got {self.recommended_fidelity}")
        for part, factor in (self.rate_factors or {}).items():
            _one_of("rate_factors", part, self.train)
            if factor <= 0:
                raise ValueError(f"rate_factors.{part} must be above 0, got {factor:g}")
        if self.clip < 0:
            raise ValueError(f"clip must be 0 (no limit) or more, got {self.clip}")
        self._check_kind()
        if any(not 0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must be from 0 to below 1, got {list(self.betas)}")
        if self.schedule.kind == "cosine" and not 0 <= self.schedule.final <= self.learning_rate:
            raise ValueError(
                f"schedule.final {self.schedule.final:g} must be from 0 to learning_rate {self.learning_rate:g}"
            )
        has_image_loss = self.losses.pixel > 0 or self.losses.perceptual > 0 or self.losses.identity > 0
        if self.uses_discriminator and self.adversarial.adaptive_scale > 0 and not has_image_loss:
            raise ValueError(
                "adversarial.adaptive_scale weighs against losses.pixel, perceptual and identity, which are all 0; "
                "set it to 0 too, or give one of them a weight"
            )
        ends = [phase.until for phase in self.mixture]
        if ends and (ends[-1] is not None or any(end is None for end in ends[:-1]) or ends[:-1] != sorted(ends[:-1])):  # pyright: ignore[reportArgumentType]
            raise ValueError(f"mixture: `until` must rise, and be null for the last phase; got {ends}")

    def _check_kind(self) -> None:
        """What belongs to a kind and what doesn't."""
        is_autoencoder = self.kind == "autoencoder"
        if is_autoencoder != (not self.mixture):
            raise ValueError(f"mixture must be empty for kind autoencoder and only there; kind is {self.kind}")
        if is_autoencoder != (self.task == "autoencoder"):
            raise ValueError(f"task {self.task} doesn't go with kind {self.kind}")
        if is_autoencoder != (self.starts_from == "nothing"):
            raise ValueError(f"starts_from {self.starts_from} doesn't go with kind {self.kind}")
        trainable = _TRAINABLE[self.kind]
        if not self.train or set(self.train) - set(trainable):
            raise ValueError(
                f"train must name some of {', '.join(trainable)} for kind {self.kind}, got {list(self.train)}"
            )
        new = {"transformer", "head"} - set(self.train)
        if self.starts_from == "teacher" and new:
            raise ValueError(f"train: {', '.join(sorted(new))} must learn where starts_from is teacher, which has none")
        entries = [entry for phase in self.mixture for entry in phase.cycle]
        if any(entry.fidelity is None for entry in entries) and not {"encoder", "transformer", "head"} & set(
            self.train
        ):
            raise ValueError(
                "mixture: a step with fidelity null trains encoder, transformer and head, of which train names none; "
                "give it a fidelity"
            )
        if self.kind == "codes" and any(entry.fidelity is not None for entry in entries):
            raise ValueError("mixture: fidelity must be null for kind codes, which makes no images")

    @property
    def other_tasks(self) -> Mapping[str, str]:
        """Degradation -> task, of the shares of the mixture that teach another task than the stage's own."""
        entries = (entry for phase in self.mixture for entry in phase.cycle)
        return {entry.degradation: entry.task for entry in entries if entry.task not in (None, self.task)}  # pyright: ignore[reportReturnType]

    @property
    def also(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.other_tasks.values()))

    @property
    def needs_teacher(self) -> bool:
        """Whether stage I's codes of clean faces are part of its losses, or its network of the start."""
        learns_codes = self.losses.features > 0 or self.losses.codes > 0
        return self.kind != "autoencoder" and (self.starts_from == "teacher" or learns_codes)

    @property
    def uses_discriminator(self) -> bool:
        return self.adversarial.weight > 0 and self.kind != "codes" and self.adversarial.starts_after < self.iterations

    def step_at(self, step: int) -> Step:
        """The entry of the mixture for a step, which counts from 0."""
        begin = 0
        for phase in self.mixture:
            if phase.until is None or step < phase.until:
                break
            begin = phase.until
        else:
            raise ValueError("this stage has no mixture")
        position = (step - begin) % sum(entry.steps for entry in phase.cycle)
        for entry in phase.cycle:
            position -= entry.steps
            if position < 0:
                return entry
        raise AssertionError("unreachable")


@dataclass(frozen=True)
class Engine:
    """How, not what: none of these changes what is learned, but for rounding.

    precision: "float32" or "bfloat16" (autocast; weights stay float32).
    accumulate: parts a batch is cut into, one after the other.
    compile: torch.compile.
    deterministic: bit by bit the same on a GPU too, slower.
    save_every, validate_every, log_every: steps.
    keep: newest checkpoints.
    checkpoint_file_mib: no file of a checkpoint is larger than so many MiB; None: no limit.
    pictures: faces in an image grid.
    validation_faces: at most so many are measured.
    """

    seed: int
    device: str
    precision: str
    accumulate: int
    compile: bool
    deterministic: bool
    save_every: int
    keep: int
    log_every: int
    validate_every: int
    validation_faces: int
    pictures: int
    checkpoint_file_mib: int | None = None

    def __post_init__(self) -> None:
        _one_of("precision", self.precision, ("float32", "bfloat16"))
        if re.fullmatch(r"auto|cpu|mps|cuda(:\d{1,2})?", self.device, re.ASCII) is None:
            raise ValueError(f"device must be auto, cpu, cuda, cuda:N or mps, got {self.device!r}")
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"seed must be from 0 to {2**31 - 1}, got {self.seed}")
        for name in ("accumulate", "save_every", "keep", "log_every", "validate_every", "validation_faces", "pictures"):
            _at_least(name, getattr(self, name), 1)
        if self.checkpoint_file_mib is not None:
            _at_least("checkpoint_file_mib", self.checkpoint_file_mib, 1)


@dataclass(frozen=True)
class Budget:
    """How `train all` divides its time: shares of a sum, 0 leaves a part out.

    half_size: stage I on faces of half the side, which cost a quarter.
    """

    half_size: float
    stage1: float
    stage2: float
    stage3: float

    def __post_init__(self) -> None:
        for name, share in vars(self).items():
            if share < 0 or (share == 0 and name != "half_size"):
                raise ValueError(f"budget.{name} must be above 0 (half_size: 0 or more), got {share:g}")


@dataclass(frozen=True)
class RunConfig:
    """Everything.

    lpips_backbone: VGG16's weights for LPIPS; None: see `losses.perceptual`.
    degradations: a user's own, by name, beside `degradation.PRESETS`.
    budget: for `train all`; None: it can't run.
    """

    network: NetworkSection
    discriminator: DiscriminatorSection
    data: DataConfig
    engine: Engine
    lpips_backbone: str | None
    degradations: Mapping[str, Degradation]
    stages: Mapping[str, StageSection]
    budget: Budget | None = None

    def __post_init__(self) -> None:
        known = {*DEGRADATIONS, *self.degradations}
        for name, stage in self.stages.items():
            for entry in (entry for phase in stage.mixture for entry in phase.cycle):
                if entry.degradation not in known:
                    raise ValueError(
                        f"stages.{name}.mixture: there is no degradation {entry.degradation!r}; "
                        f"known: {', '.join(sorted(known))}"
                    )
            try:
                self.network.codeformer(stage.fuse_sizes)
            except ValueError as error:  # sizes that don't fit together
                raise ValueError(f"network, stages.{name}: {error}") from error

    def degradation(self, name: str) -> Degradation:
        return self.degradations[name] if name in self.degradations else DEGRADATIONS[name]


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
