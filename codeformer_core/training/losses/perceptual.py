"""How different two faces look: LPIPS when VGG16's weights are at hand, otherwise a stated replacement.

The replacement needs no download: differences of picture gradients at several scales, and while the GAN runs the
discriminator's own features. It is no LPIPS; `name` says which one a run used.
Shape legend: B faces, 3 colours, H W height and width, RGB in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..metrics.lpips import load_lpips

SCALES = 4


@dataclass(frozen=True)
class Perceptual:
    """measure(restored, clean) -> one number. uses_discriminator: feature matching is to be added to it."""

    name: str
    measure: Callable[[Tensor, Tensor], Tensor]
    uses_discriminator: bool


def choose_perceptual(lpips_backbone: str | None, device: torch.device) -> Perceptual:
    """LPIPS with the backbone of the given file, or without one the replacement. Raises WeightsError for a file that
    isn't VGG16's."""
    if lpips_backbone is None:
        return Perceptual("gradients and discriminator features", gradient_loss, True)
    distance = load_lpips(lpips_backbone, device)
    return Perceptual("LPIPS-VGG", lambda restored, clean: distance(restored, clean).mean(), False)


def gradient_loss(restored_B3HW: Tensor, clean_B3HW: Tensor, scales: int = SCALES) -> Tensor:
    """Mean over `scales` halvings of mean |dx restored - dx clean| + mean |dy restored - dy clean|.

    Scales at which a side would fall below 2 pixels are left out.
    """
    difference_B3HW = restored_B3HW.float() - clean_B3HW.float()
    terms = []
    for scale in range(scales):
        if scale:
            difference_B3HW = F.avg_pool2d(difference_B3HW, 2)
        if min(difference_B3HW.shape[2:]) < 2:
            break
        across = (difference_B3HW[..., :, 1:] - difference_B3HW[..., :, :-1]).abs().mean()
        down = (difference_B3HW[..., 1:, :] - difference_B3HW[..., :-1, :]).abs().mean()
        terms.append(across + down)
    return torch.stack(terms).mean()


def feature_matching(fake_maps: Sequence[Tensor], real_maps: Sequence[Tensor]) -> Tensor:
    """Mean over the discriminator's layers of mean |fake - real|, the real ones detached."""
    return torch.stack(
        [F.l1_loss(fake.float(), real.detach().float()) for fake, real in zip(fake_maps, real_maps, strict=True)]
    ).mean()
