"""The hinge GAN and VQGAN's adaptive weight."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

# Keeps the ratio finite where the adversarial gradient vanishes (published).
EPSILON = 1e-4


def discriminator_loss(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """mean relu(1 - real) + mean relu(1 + fake)."""
    return F.relu(1 - real_scores.float()).mean() + F.relu(1 + fake_scores.float()).mean()


def generator_loss(fake_scores: Tensor) -> Tensor:
    """-mean(fake)."""
    return -fake_scores.float().mean()


def adaptive_weight(image_gradient: Tensor, adversarial_gradient: Tensor, scale: float) -> Tensor:
    """clamp(|image gradient| / (|adversarial gradient| + 1e-4), 0, 1) * scale, detached.

    Both are gradients at the last layer's weight (over all processes), so that neither loss drowns the other.
    """
    ratio = _length(image_gradient) / (_length(adversarial_gradient) + EPSILON)
    return torch.clamp(ratio, 0, 1).detach() * scale


def _length(gradient: Tensor) -> Tensor:
    return cast(Tensor, gradient.float().norm())
