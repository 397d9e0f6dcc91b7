"""The steps of any stage: losses, gradients, discriminator, average, and what is shown, saved and checked on the way.

Shape legend: B faces of this process's micro step, H W their side.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ...networks.codeformer import CodeFormer
from ...runtime.memory import is_out_of_memory
from ..config.run import Engine, StageSection
from ..data.feed import Batch
from ..losses.codes import code_accuracy, count_codes, perplexity
from ..stages.stage import IMAGE_TERMS, Faces, Output, Stage
from .adversary import Adversary
from .freezing import parameter_groups, trained_parameters
from .grids import from_levels
from .processes import Processes, gradients_gathered
from .revival import CodeRevival
from .schedules import rate_at
from .state import TrainingState


class NotFinite(RuntimeError):
    """A loss or gradient that is not a number. What was saved before this step is good."""


class FeedFailed(RuntimeError):
    """The next faces could not be had; the weights are whole, `step` steps having been done."""

    def __init__(self, text: str, step: int) -> None:
        super().__init__(text)
        self.step = step


@dataclass(frozen=True)
class Progress:
    """After a step.

    faces_per_second, waiting: speed, and the share of the time in which the next faces weren't there yet, since the
    last log.
    values: the means since then, filled every `log_every` steps, otherwise empty.
    """

    step: int
    iterations: int
    faces_per_second: float
    waiting: float
    values: dict[str, float]


class Trainer:
    """One stage on one process. Feed it batches by `run`; everything that changes is in `state`."""

    def __init__(
        self, stage: Stage, section: StageSection, engine: Engine, processes: Processes, adversary: Adversary | None
    ) -> None:
        self.stage = stage
        self.section = section
        self.engine = engine
        self.processes = processes
        self.adversary = adversary
        self.precision = torch.bfloat16 if engine.precision == "bfloat16" else torch.float32
        self.parameters = trained_parameters(stage.network)
        # Each group has its factor, which the rate of a step is multiplied by.
        groups = parameter_groups(stage.network, section.rate_factors or {})
        self.optimizer = torch.optim.Adam(groups, lr=section.learning_rate, betas=section.betas)
        averaging = cast("Callable[..., None]", get_ema_multi_avg_fn(section.ema))
        self.average = AveragedModel(stage.network, multi_avg_fn=averaging)
        self.average.requires_grad_(False)
        self.average.eval()
        self.revival = None
        if section.kind == "autoencoder":
            size = stage.network.codebook.num_embeddings
            every, until = section.revive_codes_every, section.revive_codes_until
            self.revival = CodeRevival(size, every, until, engine.seed, processes)
        if engine.compile:
            from torch._functorch import config as autograd_config

            # The adaptive weight looks at gradients before the backward pass proper, which donated buffers forbid.
            autograd_config.donated_buffer = False
            stage.network.encoder.compile()
            stage.network.generator.compile()
            if isinstance(stage.network, CodeFormer) and stage.network.pixel_path is not None:
                stage.network.pixel_path.compile()
        self.parallel = self._in_parallel()
        self.log = _Means(processes)

    @property
    def state(self) -> TrainingState:
        uses_K = self.revival.uses_K if self.revival is not None else None
        return TrainingState(self.stage.network, self.average, self.optimizer, self.adversary, uses_K, self.processes)

    def run(self, batches: Iterator[Batch], start: int, on_step: Callable[[Progress], bool]) -> int:
        """Train from step `start` to the end, or until `on_step` says stop; returns how many steps were done.

        Raises NotFinite naming the step and its faces.
        """
        self.stage.network.train()
        step, mark, waited = start, time.monotonic(), 0.0
        since = start
        while step < self.section.iterations:
            begun = time.monotonic()
            micro_batches = self._next(batches, step)
            waited += time.monotonic() - begun
            self.step(step, micro_batches)
            step += 1
            values: dict[str, float] = {}
            if step % self.engine.log_every == 0 or step == self.section.iterations:
                values = self.log.take()
            elapsed = max(time.monotonic() - mark, 1e-9)
            speed = (step - since) * self.section.batch_size / elapsed
            stops = on_step(Progress(step, self.section.iterations, speed, waited / elapsed, values))
            if values:
                since, mark, waited = step, time.monotonic(), 0.0
            if stops:
                break
        return step

    def _next(self, batches: Iterator[Batch], step: int) -> list[Batch]:
        """The micro batches of a step. Raises FeedFailed in all processes when one can't have them."""
        found: list[Batch] = []
        failure: Exception | None = None
        try:
            found = [next(batches) for _ in range(self.engine.accumulate)]
        except (RuntimeError, OSError, ValueError) as error:
            if isinstance(error, RuntimeError) and is_out_of_memory(error):
                raise
            failure = error
        if self.processes.any(failure is not None):
            raise FeedFailed(str(failure or "another process got no faces"), step) from failure
        return found

    def step(self, step: int, batches: list[Batch]) -> None:
        """One step of the generator over all micro batches, then one of the discriminator."""
        self.optimizer.zero_grad(set_to_none=True)
        pairs: list[tuple[Tensor, Tensor]] = []
        total = torch.zeros((), device=self.processes.device)
        outputs: list[Output] = []
        for number, batch in enumerate(batches):
            is_last = number == len(batches) - 1
            faces = _faces(batch)
            with gradients_gathered(self.parallel, is_last):
                with self._autocast():
                    output: Output = self.parallel(faces)
                    loss = self._loss(step, faces, output)
                (loss / len(batches)).backward()
            if self.revival is not None:
                outputs.append(output)
            total += loss.detach() / len(batches)
            if output.made_B3HW is not None:
                pairs.append((faces.clean_B3HW, output.made_B3HW.detach().float()))
        norm = torch.nn.utils.get_total_norm([part.grad for part in self.parameters if part.grad is not None])
        self._require_finite(step, {"the loss": total, "a gradient": norm}, batches)
        rate = rate_at(step, self.section.learning_rate, self.section.schedule, self.section.iterations)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        if self.section.clip > 0:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, self.section.clip, norm)
        self.optimizer.step()
        self.log.add({"learning_rate": torch.tensor(rate), "loss": total, "gradient": norm})
        if self.adversary is not None and self.adversary.is_on(step) and pairs:
            # It falls in proportion with the generator's.
            adversarial_rate = self.section.adversarial.learning_rate * rate / self.section.learning_rate
            shown = self.adversary.learn(pairs, self.precision, adversarial_rate)
            found = {name: shown[name] for name in ("discriminator", "discriminator_gradient")}
            self._require_finite(step, found, batches)
            self.log.add(shown)
        self.average.update_parameters(self.stage.network)
        if self.revival is not None:
            self._revive(self.revival, step, outputs)

    @torch.no_grad()
    def _revive(self, revival: CodeRevival, step: int, outputs: list[Output]) -> None:
        codebook = self.stage.network.codebook.weight
        revived_N = revival.after_step(step, codebook, outputs)
        self.log.add({"codes_revived": torch.tensor(0.0 if revived_N is None else float(len(revived_N)))})
        if revived_N is not None:
            # A new code has no past: neither in the average, which would mix it with the old one, nor in Adam.
            self.average.module.codebook.weight[revived_N] = codebook[revived_N]  # pyright: ignore
            for moment in ("exp_avg", "exp_avg_sq"):
                self.optimizer.state[codebook][moment][revived_N] = 0

    def _loss(self, step: int, faces: Faces, output: Output) -> Tensor:
        weights = self.section.losses
        loss = torch.zeros((), device=self.processes.device)
        image_loss = loss
        for name, term in output.terms.items():
            # The codebook loss has beta inside; its own weight is `codebook`.
            weight = getattr(weights, name)
            if weight == 0:
                continue
            weighed = weight * term
            loss = loss + weighed
            if name in IMAGE_TERMS:
                image_loss = image_loss + weighed
        if self.adversary is not None and output.made_B3HW is not None and self.adversary.is_on(step):
            added, shown = self.adversary.terms(
                output.made_B3HW, faces.clean_B3HW, image_loss, weights.perceptual, self.stage.last_layer
            )
            loss = loss + added
            self.log.add(shown)
        self.log.add(output.terms)
        if self.revival is None and output.codes_BT is not None:
            self.log.add({"code_accuracy": code_accuracy(output.predicted_BT, output.codes_BT)})
        self.log.count(count_codes(output.predicted_BT, self.stage.network.codebook.num_embeddings))
        return loss

    def _require_finite(self, step: int, values: dict[str, Tensor], batches: list[Batch]) -> None:
        is_finite = bool(torch.isfinite(torch.stack(list(values.values()))).all())
        if self.processes.any(not is_finite):
            names = [name for batch in batches for name in batch.names]
            numbers = ", ".join(f"{name} {float(value):g}" for name, value in values.items())
            found = f"{numbers}; the faces: {', '.join(names)}" if not is_finite else "so in another process"
            raise NotFinite(f"step {step + 1}: training gave values that are not numbers: {found}")

    def _in_parallel(self) -> nn.Module:
        if self.processes.count == 1:
            return self.stage
        return DistributedDataParallel(
            self.stage,
            broadcast_buffers=False,
            # Steps with codes only leave the fusion blocks without gradients.
            find_unused_parameters=self.section.kind == "fusion"
            and any(entry.fidelity is None for phase in self.section.mixture for entry in phase.cycle),
        )

    def _autocast(self):
        if self.precision == torch.float32:
            return nullcontext()
        return torch.autocast(self.processes.device.type, dtype=self.precision)


class _Means:
    """Numbers of many steps, kept on the device and averaged over steps and processes when they are asked for."""

    def __init__(self, processes: Processes) -> None:
        self.processes = processes
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._uses_K: Tensor | None = None

    def add(self, values: dict[str, Tensor]) -> None:
        for name, value in values.items():
            value = value.detach().float().to(self.processes.device)
            self._sums[name] = self._sums[name] + value if name in self._sums else value
            self._counts[name] = self._counts.get(name, 0) + 1

    def count(self, uses_K: Tensor) -> None:
        self._uses_K = uses_K if self._uses_K is None else self._uses_K + uses_K

    def take(self) -> dict[str, float]:
        """All processes call this together, with the same names."""
        names = sorted(self._sums)
        means = torch.stack([self._sums[name] / self._counts[name] for name in names])
        means_of_all: list[float] = self.processes.mean(means).cpu().numpy().tolist()
        values = dict(zip(names, means_of_all, strict=True))
        if self._uses_K is not None:
            uses_K = self.processes.sum(self._uses_K)
            values |= {"codes_used": float((uses_K > 0).float().mean()), "perplexity": perplexity(uses_K)}
        self._sums, self._counts, self._uses_K = {}, {}, None
        return {name: value for name, value in values.items() if math.isfinite(value)}


def _faces(batch: Batch) -> Faces:
    degraded_B3HW = None if batch.degraded_B3HW is None else from_levels(batch.degraded_B3HW)
    return Faces(from_levels(batch.clean_B3HW), degraded_B3HW, batch.codes_BT, batch.recipe.fidelity, batch.recipe.task)
