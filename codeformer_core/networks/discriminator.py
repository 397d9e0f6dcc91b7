"""The patch discriminator of the adversarial losses (Isola et al. 2017, as VQGAN uses it).

Shape legend: B images, C channels, H W height and width, h w the map of patch scores.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from .containers import ModuleList

SLOPE = 0.2
# Widths grow up to eight times the first one.
WIDEST = 8
GROUPS = 8


@dataclass(frozen=True)
class DiscriminatorConfig:
    """Published: 64 channels, 4 layers, "batch" norm; 30x30 scores for a 512 face.

    norm: "batch", or "group", which judges every image by itself, so that small or split batches give the same.
    """

    channels: int
    layers: int
    norm: str


class Discriminator(nn.Module):
    """Scores of overlapping patches: high for real images, low for generated ones."""

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        widths = [config.channels * min(2**i, WIDEST) for i in range(config.layers + 1)]
        self.first = nn.Conv2d(3, widths[0], 4, stride=2, padding=1)
        self.convolutions = ModuleList(
            # The norm after it has the bias.
            nn.Conv2d(widths[i - 1], widths[i], 4, stride=2 if i < config.layers else 1, padding=1, bias=False)
            for i in range(1, config.layers + 1)
        )
        self.norms = ModuleList(_norm(config.norm, width) for width in widths[1:])
        self.last = nn.Conv2d(widths[-1], 1, 4, padding=1)
        for layer in (self.first, *self.convolutions, self.last):
            nn.init.normal_(layer.weight, 0.0, 0.02)
        for norm in self.norms:
            if config.norm == "batch":
                nn.init.normal_(norm.weight, 1.0, 0.02)

    def features(self, images_B3HW: Tensor) -> list[Tensor]:
        """The features of each layer but the last, from large maps to small ones."""
        maps = [F.leaky_relu(self.first(images_B3HW), SLOPE)]
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            maps.append(F.leaky_relu(norm(convolution(maps[-1])), SLOPE))
        return maps

    def forward(self, images_B3HW: Tensor) -> Tensor:
        """scores_B1hw.

        images_B3HW: RGB in [-1, 1].
        """
        return self.last(self.features(images_B3HW)[-1])

    def judge(self, images_B3HW: Tensor) -> tuple[Tensor, list[Tensor]]:
        """scores_B1hw and the features they were made from."""
        maps = self.features(images_B3HW)
        return self.last(maps[-1]), maps


def _norm(kind: str, channels: int) -> nn.BatchNorm2d | nn.GroupNorm:
    return nn.BatchNorm2d(channels) if kind == "batch" else nn.GroupNorm(min(GROUPS, channels), channels)


def score_size(config: DiscriminatorConfig, side: int) -> int:
    """Side of the map of scores for an image of `side` pixels; below 1 the image is too small."""
    for _ in range(config.layers):
        side //= 2
    return side - 2  # two convolutions without a stride
