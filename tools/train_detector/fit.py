"""The steps: from scenes to starter_detector.safetensors, saved on the way, and on from where it stopped.

A run's folder: labels.csv (see `labels`), checkpoints/, starter_detector.safetensors (the averaged weights, norms
folded).
"""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections.abc import Callable, Mapping
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from codeformer_core.faces.detectors.starter.decode import cells, decode
from codeformer_core.faces.detectors.starter.network import STRIDES, StarterNetwork, fold_norms
from codeformer_core.networks.operations import set_memory_format
from codeformer_core.training.config.run import Schedule
from codeformer_core.training.engine.checkpoint import Checkpoints, Meta, read_meta
from codeformer_core.training.engine.processes import Processes
from codeformer_core.training.engine.schedules import rate_at
from codeformer_core.training.engine.state import TrainingState
from codeformer_core.training.engine.stopping import StopRequest
from codeformer_core.training.engine.trainer import NotFinite
from codeformer_core.weights.metadata import CheckpointMetadata
from codeformer_core.weights.safetensors_cache import write_safetensors

from .feed import DetectorBatch, batches
from .loss import losses_of
from .scenes import SceneMaker

logger = logging.getLogger(__name__)

WEIGHTS_NAME = "starter_detector.safetensors"
ARCHITECTURE = "starter_detector"
_STAGE = "detector"
_MAX_GRADIENT = 10.0
_KEPT_CHECKPOINTS = 2


@dataclass(frozen=True)
class FitOptions:
    """How the detector is trained.

    learning_rate: Adam's, reached after `warm_up` steps and falling to `final_rate`.
    average: what a step leaves of the averaged weights.
    precision: float32 or bfloat16.
    workers: threads that make scenes.
    """

    steps: int = 10_000
    batch_size: int = 16
    learning_rate: float = 3e-3
    final_rate: float = 2e-5
    warm_up: int = 200
    average: float = 0.998
    precision: str = "float32"
    save_every: int = 500
    log_every: int = 50
    workers: int = 1

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "warm_up", "save_every", "log_every", "workers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.precision not in ("float32", "bfloat16"):
            raise ValueError(f"precision must be float32 or bfloat16, got {self.precision!r}")


@dataclass(frozen=True)
class FitProgress:
    """After a step.

    values: means since the last of `log_every` steps, else empty.
    """

    step: int
    steps: int
    scenes_per_second: float
    values: dict[str, float]


@dataclass(frozen=True)
class FitResult:
    """How a run ended.

    steps: done in all.
    stopped_by: the signal that ended the run before its last step.
    """

    steps: int
    weights: Path
    stopped_by: int | None


class DetectorFit:
    """One run. All that changes is in `state`; scenes come from their numbers."""

    def __init__(self, maker: SceneMaker, options: FitOptions, folder: Path, device: torch.device) -> None:
        if maker.side % max(STRIDES):
            raise ValueError(f"scenes must have a side divisible by {max(STRIDES)}, got {maker.side}")
        self.maker, self.options, self.folder, self.device = maker, options, folder, device
        torch.manual_seed(maker.seed)
        self.network = StarterNetwork(has_norms=True).to(device)
        set_memory_format(self.network, torch.channels_last)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=options.learning_rate)
        averaging = get_ema_multi_avg_fn(options.average)
        self.average = AveragedModel(self.network, multi_avg_fn=averaging, use_buffers=True)
        self.average.requires_grad_(False)
        self.grid = cells(maker.side, maker.side, device)
        self.processes = Processes(0, 1, device)
        self.checkpoints = _checkpoints(folder, self.processes)
        self.images = _fingerprint(maker)

    @property
    def state(self) -> TrainingState:
        return TrainingState(self.network, self.average, self.optimizer, None, None, self.processes)

    def run(self, *, resume: bool, on_progress: Callable[[FitProgress], None] = lambda progress: None) -> FitResult:
        """To the last step, or until a signal asks to stop; either way all is saved.

        Raises ValueError for a folder whose run can't be continued, NotFinite when training diverged, OSError when
        the disk fails.
        """
        start = self._begin(resume)
        options, weights = self.options, self.folder / WEIGHTS_NAME
        if start >= options.steps:
            # Stopped between the last checkpoint and the weights, perhaps.
            self._export(start, weights)
        step, mark, since = start, time.monotonic(), start
        sums: dict[str, Tensor] = {}
        self.network.train()
        feed = batches(self.maker, options.batch_size, start, options.steps, options.workers)
        with StopRequest() as stop, closing(feed):
            for batch in feed:
                for name, value in self._step(step, batch.to(self.device)).items():
                    sums[name] = sums.get(name, torch.zeros((), device=self.device)) + value
                step += 1
                asked_to_stop = stop.number is not None
                saves = step % options.save_every == 0 or step == options.steps or asked_to_stop
                speed = (step - since) * options.batch_size / max(time.monotonic() - mark, 1e-9)
                values: dict[str, float] = {}
                # Nothing is saved unseen: training can't continue from a state that is not a number.
                if step % options.log_every == 0 or saves:
                    values = {name: float(value) / (step - since) for name, value in sums.items()}
                    sums, since, mark = {}, step, time.monotonic()
                    self._require_finite(step, values)
                on_progress(FitProgress(step, options.steps, speed, values))
                if saves:
                    self._save(step, weights)
                if asked_to_stop:
                    break
        stopped_by = stop.number if step < options.steps else None
        return FitResult(step, weights, stopped_by)

    def _begin(self, resume: bool) -> int:
        require_new_or_resumed(self.folder, resume)
        newest = self.checkpoints.newest()
        if newest is None:
            return 0
        meta = read_meta(newest)
        if meta.stage != _STAGE or dict(meta.about) != self._about():
            raise ValueError(
                f"{newest} was made with {dict(meta.about)}, this run has {self._about()}. Use the same, or another "
                "folder (-o)"
            )
        self.state.restore(self.checkpoints.load(newest))
        return meta.step

    def _about(self) -> dict[str, Any]:
        """What has to be the same for a run to continue as if it had not been stopped."""
        learned = ("steps", "batch_size", "learning_rate", "final_rate", "warm_up", "average", "precision")
        options = {name: value for name, value in asdict(self.options).items() if name in learned}
        scenes = {"seed": self.maker.seed, "side": self.maker.side, "faces": len(self.maker.portraits)}
        images = {"backgrounds": len(self.maker.backgrounds.photos), "pictures": self.images}
        return {**options, **scenes, **images}

    def _step(self, step: int, batch: DetectorBatch) -> Mapping[str, Tensor]:
        images_B3SS = batch.images_BSS3.permute(0, 3, 1, 2).float()
        images_B3SS = ((images_B3SS - 127.5) / 127.5).contiguous(memory_format=torch.channels_last)
        self.optimizer.zero_grad(set_to_none=True)
        is_short = self.options.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16) if is_short else nullcontext():
            outputs = self.network(images_B3SS)
        losses = losses_of(decode(outputs, self.grid), batch.kind_BA, batch.boxes_BA4, batch.points_BA52)
        losses.total.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), _MAX_GRADIENT)
        schedule = Schedule("cosine", self.options.final_rate, (), 1.0)
        rate = rate_at(step, self.options.learning_rate, schedule, self.options.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / self.options.warm_up)
        self.optimizer.step()
        self.average.update_parameters(self.network)
        parts = {"loss": losses.total, "score": losses.score, "box": losses.box, "landmarks": losses.landmarks}
        return {name: value.detach() for name, value in {**parts, "gradient": norm}.items()}

    def _require_finite(self, step: int, values: Mapping[str, float]) -> None:
        if not all(math.isfinite(value) for value in values.values()):
            found = ", ".join(f"{name} {value:g}" for name, value in values.items())
            raise NotFinite(
                f"step {step}: training gave values that are not numbers: {found}; use a lower learning rate"
            )

    def _save(self, step: int, weights: Path) -> None:
        self.checkpoints.save(self.state.tensors(), Meta(step, _STAGE, self._about()))
        self._export(step, weights)

    def _export(self, step: int, weights: Path) -> None:
        averaged = self.average.module
        assert isinstance(averaged, StarterNetwork)
        trained = {"steps": str(step), **{name: str(value) for name, value in self._about().items() if name != "steps"}}
        metadata = CheckpointMetadata(architecture=ARCHITECTURE, task="detection", trained=trained)
        write_safetensors(fold_norms(averaged).state_dict(), weights, metadata.to_header())
        logger.info("step %d: saved %s", step, weights)


def require_new_or_resumed(folder: Path, resume: bool) -> None:
    """Raise ValueError for a folder that has a run, unless it is to be continued."""
    if not resume and _checkpoints(folder, Processes(0, 1, torch.device("cpu"))).newest() is not None:
        raise ValueError(f"{folder}: there is a run in it already; --resume continues, or name another folder")


def _checkpoints(folder: Path, processes: Processes) -> Checkpoints:
    return Checkpoints(folder / "checkpoints", _KEPT_CHECKPOINTS, processes)


def _fingerprint(maker: SceneMaker) -> str:
    """Of all that scenes are composed of."""
    digest = hashlib.sha256()
    for portrait in maker.portraits:
        digest.update(portrait.levels[-1].tobytes())
        digest.update(portrait.landmarks_52.tobytes())
    for photo in maker.backgrounds.photos:
        digest.update(np.ascontiguousarray(photo).data)
    return digest.hexdigest()[:16]
