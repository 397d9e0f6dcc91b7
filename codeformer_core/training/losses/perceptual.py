"""How different two faces look: by LPIPS, by EfficientNet-lite0's features, or by a stated replacement.

LPIPS needs VGG16's weights, lite0 an installed package. The replacement needs neither: differences of image gradients
at several scales, and while the GAN runs the discriminator's own features. `name` says which one a run used.
Shape legend: B faces, 3 colours, H W height and width, RGB in [-1, 1].
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ...metrics.feature_weights import INSTALL, PACKAGE
from ...metrics.features import load_feature_distance
from ...metrics.lpips import load_lpips

log = logging.getLogger(__name__)

SCALES = 4


@dataclass(frozen=True)
class Perceptual:
    """A perceptual loss.

    measure: (restored, clean) -> one number.
    uses_discriminator: feature matching is to be added to it.
    """

    name: str
    measure: Callable[[Tensor, Tensor], Tensor]
    uses_discriminator: bool


def choose_perceptual(lpips_backbone: str | None, device: torch.device) -> Perceptual:
    """The best perceptual loss that can run here.

    lpips_backbone: a file of VGG16's weights, for LPIPS. None: EfficientNet-lite0 from its package, or without the
        package the replacement, with a warning that says how to install it.
    device: where it runs.
    Raises WeightsError for a file that isn't VGG16's, and for a damaged package.
    """
    if lpips_backbone is not None:
        distance = load_lpips(lpips_backbone, device)
        return Perceptual("LPIPS-VGG", lambda restored, clean: distance(restored, clean).mean(), False)
    features = load_feature_distance(device)
    if features is not None:
        name = "EfficientNet-lite0 features"
        return Perceptual(name, lambda restored, clean: features(restored, clean).mean(), False)
    log.warning(
        "%s is not installed: the perceptual loss is replaced by image gradients, which paint less detail. Install: %s",
        PACKAGE,
        INSTALL,
    )
    return gradient_replacement()


def gradient_replacement() -> Perceptual:
    """What needs neither weights nor a package."""
    return Perceptual("gradients and discriminator features", gradient_loss, True)


def gradient_loss(restored_B3HW: Tensor, clean_B3HW: Tensor, scales: int = SCALES) -> Tensor:
    """Mean over `scales` halvings of mean |dx restored - dx clean| + mean |dy restored - dy clean|.

    Scales at which a side would fall below 2 pixels are left out.
    """
    difference_B3HW = restored_B3HW.float() - clean_B3HW.float()
    terms: list[Tensor] = []
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
