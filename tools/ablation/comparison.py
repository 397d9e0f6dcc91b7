"""The paper's ablation: which way of finding codes stands how much degradation.

Compared at fixed degradation levels (after the ablation of arXiv 2206.11253): the code nearest to the features of the
teacher's encoder, the one nearest to those of the trained encoder, a convolutional head on the trained encoder, and the
transformer.
Shape legend: B faces, 3 colours RGB, H W height and width, D channels of a code, W width, T tokens, K codes.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codeformer_core.degradation import LEVELS, PRESETS, Degradation, degrade_on_cpu, draw
from codeformer_core.networks.codeformer import CodeFormer
from codeformer_core.networks.vqgan import VQAutoencoder
from codeformer_core.training.data.files import BrokenFace, FaceSource
from codeformer_core.training.evaluation.evaluate import check_teacher
from codeformer_core.training.evaluation.faces import clean_batches, degraded, seeded, spread, to_unit
from codeformer_core.training.evaluation.folders import OnProgress

logger = logging.getLogger(__name__)

METHODS: tuple[str, ...] = (
    "nearest, teacher's encoder",
    "nearest, trained encoder",
    "convolutional head",
    "transformer",
)
HEAD_LAYERS = 3
# Within one step; then it is the disk, not the faces.
_MAX_BROKEN = 100


@dataclass(frozen=True)
class HeadTraining:
    """How the convolutional head learns: Adam, the rate falling to 0 along a cosine."""

    steps: int
    batch_size: int
    learning_rate: float

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 1 or not 0 < self.learning_rate < math.inf:
            raise ValueError(
                "the convolutional head needs at least 1 step, 1 face a step and a learning rate above 0, got "
                f"{self.steps}, {self.batch_size} and {self.learning_rate:g}"
            )


@dataclass(frozen=True)
class Ablation:
    """Accuracies by level and method.

    accuracies: level -> method -> share of right codes, 0..1.
    faces: measured at each level.
    head_losses: the head's cross-entropy, step by step.
    """

    accuracies: Mapping[str, Mapping[str, float]]
    faces: int
    head_losses: tuple[float, ...]


class ConvolutionalHead(nn.Module):
    """What takes the transformer's place: 1x1 to its width, three residual 3x3 convolutions, 1x1 to the codes."""

    def __init__(self, code_channels: int, width: int, codebook_size: int) -> None:
        super().__init__()
        groups = math.gcd(32, width)
        self.features_in = nn.Conv2d(code_channels, width, 1)
        self.norms = nn.ModuleList(nn.GroupNorm(groups, width) for _ in range(HEAD_LAYERS))
        self.layers = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(HEAD_LAYERS))
        self.norm_out = nn.GroupNorm(groups, width)
        self.codes_out = nn.Conv2d(width, codebook_size, 1)

    def forward(self, latent_BDHW: Tensor) -> Tensor:
        """logits_BTK."""
        x_BWHW = self.features_in(latent_BDHW)
        for norm, layer in zip(self.norms, self.layers, strict=True):
            x_BWHW = x_BWHW + layer(F.gelu(norm(x_BWHW)))
        return self.codes_out(F.gelu(self.norm_out(x_BWHW))).flatten(2).transpose(1, 2)


def run_ablation(
    network: CodeFormer,
    teacher: VQAutoencoder,
    train_faces: FaceSource,
    faces: FaceSource,
    training: HeadTraining,
    *,
    levels: Mapping[str, Degradation] = LEVELS,
    train_degradation: Degradation = PRESETS["stage2"],
    seed: int = 0,
    device: torch.device | str = "cpu",
    batch_size: int = 4,
    count: int | None = None,
    on_progress: OnProgress | None = None,
) -> Ablation:
    """Train the convolutional head on `train_faces`, then count right codes of `faces` at every level.

    network, teacher: on `device`, in float32; neither changes.
    count: so many of `faces`, evenly spread; None: all.
    on_progress: called with (done, total, what).
    Raises ValueError: no faces, the same faces twice, a teacher of another codebook.
    """
    device = torch.device(device)
    check_teacher(network, teacher)
    indices = spread(count, len(faces))
    if not indices or not len(train_faces) or not levels:
        raise ValueError(
            f"nothing to compare: {len(train_faces)} faces to train on, {len(indices)} to measure, {len(levels)} levels"
        )
    if train_faces.fingerprint == faces.fingerprint:
        raise ValueError(
            f"the {len(faces)} faces to train the convolutional head on are those it is measured with; give others"
        )
    network, teacher = network.eval(), teacher.eval()
    total = training.steps + len(indices) * len(levels)

    def progress(done: int, what: str) -> None:
        if on_progress is not None:
            on_progress(done, total, what)

    head, losses = _train_head(network, teacher, train_faces, training, train_degradation, seed, device, progress)
    right = {level: dict.fromkeys(METHODS, 0) for level in levels}
    tokens, measured = 0, 0
    for batch in clean_batches(faces, indices, batch_size):
        if not batch.names:
            continue
        measured += len(batch.names)
        codes_BT = _codes(teacher, to_unit(batch.faces_BHW3, device))
        tokens += codes_BT.numel()
        for place, (level, degradation) in enumerate(levels.items()):
            inputs_B3HW = to_unit(degraded(batch, level, degradation, seed), device)
            for method, found_BT in _found_codes(network, teacher, head, inputs_B3HW).items():
                right[level][method] += int((found_BT == codes_BT).sum())
            done = (measured - len(batch.names)) * len(levels) + len(batch.names) * (place + 1)
            progress(training.steps + done, f"{level}, face {measured} of {len(indices)}")
    if not tokens:
        raise ValueError("none of the faces to measure can be read; the lines above say why")
    shares = {level: {method: count / tokens for method, count in row.items()} for level, row in right.items()}
    return Ablation(shares, measured, losses)


@torch.no_grad()
def _codes(teacher: VQAutoencoder, clean_B3HW: Tensor) -> Tensor:
    return teacher.quantize(teacher.encode(clean_B3HW * 2 - 1))


@torch.no_grad()
def _found_codes(
    network: CodeFormer, teacher: VQAutoencoder, head: nn.Module, degraded_B3HW: Tensor
) -> dict[str, Tensor]:
    """By method -> codes_BT."""
    latent_BDHW = network.encode(degraded_B3HW * 2 - 1)
    found = (
        _codes(teacher, degraded_B3HW),
        network.quantize(latent_BDHW),
        head(latent_BDHW).argmax(-1),
        network.predict_codes(latent_BDHW),
    )
    return dict(zip(METHODS, found, strict=True))


def _train_head(
    network: CodeFormer,
    teacher: VQAutoencoder,
    source: FaceSource,
    training: HeadTraining,
    degradation: Degradation,
    seed: int,
    device: torch.device,
    progress: Callable[[int, str], None],
) -> tuple[ConvolutionalHead, tuple[float, ...]]:
    """Cross-entropy of the teacher's codes of the clean faces, from the frozen encoder's features of the degraded."""
    config = network.config
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = ConvolutionalHead(config.autoencoder.code_channels, config.width, config.autoencoder.codebook_size)
    head = head.to(device)
    optimizer = torch.optim.Adam(head.parameters(), lr=training.learning_rate, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, training.steps)
    losses = []
    for step in range(training.steps):
        clean_BHW3 = _drawn_faces(source, training.batch_size, seeded(seed, "head", step))
        inputs_BHW3 = np.stack(
            [
                degrade_on_cpu(face_HW3, draw(degradation, face_HW3.shape[0], seeded(seed, "head", step, place)))
                for place, face_HW3 in enumerate(clean_BHW3)
            ]
        )
        with torch.no_grad():
            codes_BT = _codes(teacher, to_unit(clean_BHW3, device))
            latent_BDHW = network.encode(to_unit(inputs_BHW3, device) * 2 - 1)
        loss = F.cross_entropy(head(latent_BDHW).flatten(0, 1), codes_BT.flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            raise ValueError(
                f"the convolutional head's loss is {losses[-1]} at step {step + 1}; lower --head-learning-rate"
            )
        progress(step + 1, f"training the convolutional head, loss {losses[-1]:.3f}")
    return head.eval(), tuple(losses)


def _drawn_faces(source: FaceSource, count: int, generator: torch.Generator) -> np.ndarray:
    """faces_BHW3 uint8, drawn with replacement; the place of a broken face is drawn again."""
    faces: list[np.ndarray] = []
    broken = 0
    while len(faces) < count:
        index = int(torch.randint(len(source), (), generator=generator))
        try:
            faces.append(source.read(index))
        except BrokenFace as error:
            broken += 1
            logger.warning("face left out: %s", error)
            if broken > _MAX_BROKEN:
                raise ValueError(f"more than {_MAX_BROKEN} drawn faces can't be read; the last: {error}") from error
    return np.stack(faces)
