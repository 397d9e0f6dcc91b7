"""How different two faces look to EfficientNet-lite0, at several of its layers: a metric, and a training loss.

As LPIPS (Zhang et al. 2018, arXiv 1801.03924) without its learned weights: features of unit length over the channels,
their squared difference summed over channels, mean over places, mean over layers.
Shape legend: B faces, 3 colours, H W height and width, C channels of a feature map, h w its size; RGB in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..networks.efficientnet_lite import STEM
from ..networks.operations import set_memory_format
from ..weights.reading import WeightsError
from .feature_weights import INSTALL, PACKAGE, find_feature_weights, load_feature_network
from .kinds import Better, ReferenceMetric

ALL_LAYERS = (STEM, 0, 2, 4, 10, 15)
# Larger faces are reduced to this many pixels, as in the measurements; half of 512.
MAX_SIDE = 256
# Added to a squared length: features that are zero everywhere keep a finite gradient.
EPSILON = 1e-8


class FeatureDistance(nn.Module):
    """`module(restored_B3HW, clean_B3HW)` -> distance_B >= 0, float32; gradients reach the restored faces only.

    Always float32, also under autocast: bfloat16 saves a sixth of the time on a CPU, and bends the gradient (its cosine
    with the right one was 0.82 for slightly blurred faces). The weights are frozen.
    """

    def __init__(self, network: nn.Module) -> None:
        """network: images_B3HW, RGB (x - 127) / 128 of 0..255 -> a sequence of feature maps."""
        super().__init__()
        self.network = network.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> FeatureDistance:
        return super().train(False)

    def forward(self, restored_B3HW: Tensor, clean_B3HW: Tensor) -> Tensor:
        if restored_B3HW.shape != clean_B3HW.shape or restored_B3HW.ndim != 4 or restored_B3HW.shape[1] != 3:
            raise ValueError(
                "the feature distance needs two batches of one shape (n, 3, height, width), "
                f"got {tuple(restored_B3HW.shape)} and {tuple(clean_B3HW.shape)}"
            )
        with torch.no_grad():
            clean = self.features(clean_B3HW)
        return self.to_features(restored_B3HW, clean)

    def to_features(self, restored_B3HW: Tensor, clean: Sequence[Tensor]) -> Tensor:
        """As `forward`, with the clean faces' `features`, which may be kept from step to step."""
        return feature_distance(self.features(restored_B3HW), clean)

    def features(self, faces_B3HW: Tensor) -> list[Tensor]:
        """maps_BChw of unit length over C, one per layer, float32.

        faces_B3HW: RGB in [-1, 1]; above 256 px they are reduced first.
        """
        with torch.autocast(faces_B3HW.device.type, enabled=False):
            scaled_B3HW = (reduced(faces_B3HW.float()) * 127.5 + 0.5) / 128
            return [unit_length(map_BChw) for map_BChw in self.network(scaled_B3HW)]


def load_feature_distance(
    device: torch.device | str = "cpu", layers: Sequence[int] = ALL_LAYERS
) -> FeatureDistance | None:
    """The distance with the installed package's weights, or None where the package is not installed.

    device: where it runs.
    layers: STEM and block numbers, 0..15; fewer layers are faster.
    Raises WeightsError for a damaged package.
    """
    path = find_feature_weights()
    if path is None:
        return None
    distance = FeatureDistance(load_feature_network(path, layers)).to(device)
    if torch.device(device).type == "cpu":
        # A tenth faster; the faces follow their first convolution's weights.
        set_memory_format(distance, torch.channels_last)
    return distance


def reduced(faces_B3HW: Tensor) -> Tensor:
    """Averaged down to a longer side of 256 px; smaller faces as they are."""
    height, width = faces_B3HW.shape[2:]
    factor = MAX_SIDE / max(height, width)
    if factor >= 1:
        return faces_B3HW
    size = [max(1, round(side * factor)) for side in (height, width)]
    return F.interpolate(faces_B3HW, size=size, mode="area")


def unit_length(map_BChw: Tensor) -> Tensor:
    """Every place's channels divided by their length."""
    return map_BChw * torch.rsqrt(map_BChw.square().sum(1, keepdim=True) + EPSILON)


def feature_distance(restored: Sequence[Tensor], clean: Sequence[Tensor]) -> Tensor:
    """distance_B: |restored - clean|^2 summed over channels, mean over places, mean over layers."""
    return torch.stack([(a - b).square().sum(1).mean((1, 2)) for a, b in zip(restored, clean, strict=True)]).mean(0)


class PerceptualDistance(ReferenceMetric):
    """The distance over all six layers, at 256 px, as a metric of restored against clean faces."""

    name = "lite0"
    better: Better = "lower"

    def __init__(self, device: torch.device | str = "cpu") -> None:
        """Raises WeightsError where the package is damaged or not installed."""
        self._device = torch.device(device)
        distance = load_feature_distance(self._device)
        if distance is None:
            raise WeightsError(f"{PACKAGE} is not installed. Install it: {INSTALL}")
        self._distance = distance

    @torch.no_grad()
    def reference(self, clean_B3HW: Tensor) -> list[Tensor]:
        return self._distance.features(clean_B3HW.to(self._device) * 2 - 1)

    @torch.no_grad()
    def measure_to(self, restored_B3HW: Tensor, reference: list[Tensor]) -> Tensor:
        return self._distance.to_features(restored_B3HW.to(self._device) * 2 - 1, reference).cpu().double()
