"""The discriminator beside a stage: what it adds to the generator's loss, and its own learning.

Shape legend: B faces, H W their side.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from ...networks.discriminator import Discriminator
from ..config.run import Adversarial
from ..losses.adversarial import adaptive_weight, discriminator_loss, generator_loss
from ..losses.perceptual import feature_matching
from .processes import Processes, gradients_gathered


class Adversary:
    def __init__(
        self,
        network: Discriminator,
        config: Adversarial,
        betas: tuple[float, float],
        processes: Processes,
        *,
        matches_features: bool,
    ) -> None:
        self.network = network.to(processes.device)
        self.config = config
        self.processes = processes
        self.matches_features = matches_features
        # Batch statistics stay each process's own: broadcasting them would write into what the backward pass needs.
        self.parallel = (
            DistributedDataParallel(self.network, broadcast_buffers=False) if processes.count > 1 else self.network
        )
        self.optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate, betas=betas)

    def is_on(self, step: int) -> bool:
        return step >= self.config.starts_after

    def terms(
        self, made_B3HW: Tensor, clean_B3HW: Tensor, image_loss: Tensor, perceptual_weight: float, last_layer: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """What to add to the generator's loss, weighed; and the numbers behind it. The discriminator gets no
        gradients from it."""
        self.network.requires_grad_(False)
        scores, fake_maps = self.network.judge(made_B3HW)
        adversarial = generator_loss(scores)
        shown = {"adversarial": adversarial}
        added = torch.zeros_like(image_loss)
        if self.matches_features:
            with torch.no_grad():
                real_maps = self.network.features(clean_B3HW)
            shown["matching"] = feature_matching(fake_maps, real_maps)
            added = perceptual_weight * shown["matching"]
        weight = self.config.weight * torch.ones((), device=adversarial.device)
        if self.config.adaptive_scale > 0:
            with torch.autocast(last_layer.device.type, enabled=False):
                image_gradient, adversarial_gradient = (
                    self.processes.mean(torch.autograd.grad(loss, last_layer, retain_graph=True)[0])
                    for loss in (image_loss + added, adversarial)
                )
            weight = weight * adaptive_weight(image_gradient, adversarial_gradient, self.config.adaptive_scale)
        shown["adversarial_weight"] = weight
        return added + weight * adversarial, shown

    def learn(self, pairs: Sequence[tuple[Tensor, Tensor]], precision: torch.dtype, rate: float) -> dict[str, Tensor]:
        """One step over (clean, made) images, made ones detached; returns its numbers. A loss or gradient that
        is not finite makes no step; the caller is to look at "discriminator" and "discriminator_gradient"."""
        self.network.requires_grad_(True)
        self.optimizer.zero_grad(set_to_none=True)
        losses: list[Tensor] = []
        reals: list[Tensor] = []
        fakes: list[Tensor] = []
        for number, (clean_B3HW, made_B3HW) in enumerate(pairs):
            with gradients_gathered(self.parallel, number == len(pairs) - 1):
                with torch.autocast(clean_B3HW.device.type, dtype=precision, enabled=precision != torch.float32):
                    real, fake = self.parallel(clean_B3HW), self.parallel(made_B3HW)
                loss = discriminator_loss(real, fake)
                (loss / len(pairs)).backward()
            losses.append(loss.detach())
            reals.append(real.detach().float().mean())
            fakes.append(fake.detach().float().mean())
        mean_loss = torch.stack(losses).mean()
        gradients = [part.grad for part in self.network.parameters() if part.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if not self.processes.any(not bool(torch.isfinite(mean_loss + norm))):
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            self.optimizer.step()
        return {
            "discriminator": mean_loss,
            "discriminator_gradient": norm,
            "score_real": torch.stack(reals).mean(),
            "score_made": torch.stack(fakes).mean(),
        }
