"""The painter: one small U-Net that gives a gray face colours, fills the holes of a face, or mends a damaged one.

Ours, for machines and minutes that a codebook network is too large for. It sees and paints the face at half of its
side: colours, what lies in a hole and what damage leaves need no more, and everything else is the input's own.
Shape legend: B faces, S side of the face, s = S / 2, P side of a patch, C channels, h w = s / P; RGB in [-1, 1].
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .blocks import Downsample, ResidualBlock, SpatialAttention, Upsample, group_norm, norm_swish
from .operations import Device, DType, Factory, LayerOptions, Operations
from .pixel_path import PixelPath, PixelPathConfig, gaussian_blur

_LUMA = (0.299, 0.587, 0.114)
# A mask above this is a hole.
HOLE = 0.5
# A half-sized pixel is one where less of it is left than this.
_LEFT = 0.25
# How far the error around a hole is carried into it: (sigma in half-sized pixels, weight). Distant pixels only matter
# where no nearer one is visible.
_REACHES = ((1.0, 1.0), (4.0, 0.02), (16.0, 0.001), (48.0, 0.0001))


@dataclass(frozen=True)
class PainterConfig:
    """patch: so many pixels squared of a half-sized face become the channels of one place.
    widths: channels of each level, the first with a place for each patch, each further one half as wide and high.
    image_size: side of a face in pixels.
    pixel_path: lets through what a face shows more finely or more truly than the painter; for mending faces.
    """

    patch: int
    widths: tuple[int, ...]
    image_size: int = 512
    pixel_path: PixelPathConfig | None = None

    def __post_init__(self) -> None:
        if not self.widths or self.patch < 1 or self.image_size % (2 * self.patch * 2 ** (len(self.widths) - 1)):
            levels = f"patches of {self.patch} and {len(self.widths)} levels"
            raise ValueError(f"faces of {self.image_size} pixels can't be divided into {levels}")


class Painter(nn.Module):
    """A U-Net of residual blocks with attention at its coarsest level."""

    def __init__(
        self, config: PainterConfig, *, device: Device = None, dtype: DType = None, operations: Operations = nn
    ) -> None:
        super().__init__()
        self.config = config
        options: LayerOptions = {"device": device, "dtype": dtype}
        factory: Factory = {**options, "operations": operations}
        widths = config.widths
        # RGB and the hole of each pixel, and where in the face the place lies: aligned faces are all alike in that.
        self.conv_in = operations.Conv2d(4 * config.patch**2 + 2, widths[0], 3, padding=1, **options)
        self.down = nn.ModuleList(ResidualBlock(width, width, **factory) for width in widths[:-1])
        self.shrink = nn.ModuleList(Downsample(width, **factory) for width in widths[:-1])
        self.widen = nn.ModuleList(operations.Conv2d(low, high, 1, **options) for low, high in pairwise(widths))
        self.middle1 = ResidualBlock(widths[-1], widths[-1], **factory)
        self.attention = SpatialAttention(widths[-1], **factory)
        self.middle2 = ResidualBlock(widths[-1], widths[-1], **factory)
        upward = list(pairwise(widths))[::-1]
        self.narrow = nn.ModuleList(operations.Conv2d(high, low, 1, **options) for low, high in upward)
        self.grow = nn.ModuleList(Upsample(low, **factory) for low, _ in upward)
        self.up = nn.ModuleList(ResidualBlock(2 * low, low, **factory) for low, _ in upward)
        self.norm_out = group_norm(widths[0], device, dtype, operations)
        self.conv_out = operations.Conv2d(widths[0], 3 * config.patch**2, 3, padding=1, **options)
        self.pixel_path = None if config.pixel_path is None else PixelPath(config.pixel_path, **factory)

    def forward(self, faces_B3ss: Tensor, hole_B1ss: Tensor) -> Tensor:
        """painted_B3ss, not clamped.

        faces_B3ss: half-sized faces; what they show in a hole is not looked at.
        hole_B1ss: 1 in a hole, else 0.
        """
        hole_B1ss = hole_B1ss.to(faces_B3ss.dtype)
        seen_B4ss = torch.cat((faces_B3ss * (1 - hole_B1ss), hole_B1ss), dim=1)
        x_BChw = F.pixel_unshuffle(seen_B4ss, self.config.patch)
        x_BChw = self.conv_in(torch.cat((x_BChw, _places(x_BChw)), dim=1))
        skips: list[Tensor] = []
        for block, shrink, widen in zip(self.down, self.shrink, self.widen, strict=True):
            x_BChw = block(x_BChw)
            skips.append(x_BChw)
            x_BChw = widen(shrink(x_BChw))
        x_BChw = self.middle2(self.attention(self.middle1(x_BChw)))
        for narrow, grow, block in zip(self.narrow, self.grow, self.up, strict=True):
            x_BChw = block(torch.cat((grow(narrow(x_BChw)), skips.pop()), dim=1))
        return F.pixel_shuffle(self.conv_out(norm_swish(self.norm_out, x_BChw)), self.config.patch)

    def colorize(self, faces_B3SS: Tensor) -> Tensor:
        """The faces' own brightness (BT.601 luma) with the painter's colours, not clamped.

        faces_B3SS: RGB [-1, 1], gray or not; their colours are not looked at.
        """
        gray_B1SS = luma(faces_B3SS)
        half_B1ss = half_sized(gray_B1SS)
        painted_B3ss = self(half_B1ss.expand(-1, 3, -1, -1), torch.zeros_like(half_B1ss))
        return gray_B1SS + _full_sized(painted_B3ss - luma(painted_B3ss))

    def restore(self, faces_B3SS: Tensor, fidelity: float) -> Tensor:
        """The faces without their damage, not clamped.

        faces_B3SS: RGB [-1, 1].
        fidelity: 0 all painted .. 1 with everything of the faces that is sound; the same without a pixel path.
        """
        made_B3SS = self.painted(faces_B3SS)
        return made_B3SS if self.pixel_path is None else self.pixel_path(faces_B3SS, made_B3SS, fidelity)[0]

    def painted(self, faces_B3SS: Tensor) -> Tensor:
        """The faces as the painter alone makes them."""
        half_B3ss = half_sized(faces_B3SS)
        return _full_sized(self(half_B3ss, torch.zeros_like(half_B3ss[:, :1])))

    def fill(self, faces_B3SS: Tensor, hole_B1SS: Tensor) -> Tensor:
        """The faces, painted in the hole, all other pixels as they came; not clamped.

        hole_B1SS: above 0.5 in a hole.
        """
        open_B1SS = hole_B1SS > HOLE
        kept_B1SS = (~open_B1SS).to(faces_B3SS.dtype)
        # Of the pixels beside a hole, only those that are not in it count.
        share_B1ss = half_sized(kept_B1SS)
        half_B3ss = half_sized(faces_B3SS * kept_B1SS) / share_B1ss.clamp_min(1e-3)
        hole_B1ss = share_B1ss < _LEFT
        painted_B3ss = self(half_B3ss, hole_B1ss)
        matched_B3ss = painted_B3ss + _spread(half_B3ss - painted_B3ss, ~hole_B1ss)
        return torch.where(open_B1SS, _full_sized(matched_B3ss), faces_B3SS)


def luma(image_B3HW: Tensor) -> Tensor:
    """luma_B1HW (BT.601)."""
    weights_3 = torch.tensor(_LUMA, device=image_B3HW.device, dtype=image_B3HW.dtype)
    return torch.einsum("bchw,c->bhw", image_B3HW, weights_3)[:, None]


def half_sized(image_BCSS: Tensor) -> Tensor:
    """image_BCss, each pixel the mean of four."""
    return F.avg_pool2d(image_BCSS, 2)


def _spread(error_B3ss: Tensor, seen_B1ss: Tensor) -> Tensor:
    """The painter's error where it can be seen, averaged and continued into the holes, so that they have no rim.

    seen_B1ss: bool, where the error is known.
    """
    weights_B1ss = seen_B1ss.float()
    total_B3ss, weight_B1ss = torch.zeros_like(error_B3ss, dtype=torch.float32), torch.zeros_like(weights_B1ss)
    for sigma, share in _REACHES:
        total_B3ss = total_B3ss + share * gaussian_blur(error_B3ss.float() * weights_B1ss, sigma)
        weight_B1ss = weight_B1ss + share * gaussian_blur(weights_B1ss, sigma)
    return (total_B3ss / weight_B1ss.clamp_min(1e-6)).to(error_B3ss.dtype)


def _full_sized(image_BCss: Tensor) -> Tensor:
    return F.interpolate(image_BCss, scale_factor=2, mode="bicubic", align_corners=False)


def _places(x_BChw: Tensor) -> Tensor:
    """-> (B, 2, h, w): row and column of each place, -1 to 1."""
    batch, _, height, width = x_BChw.shape
    rows_h = torch.linspace(-1, 1, height, device=x_BChw.device, dtype=x_BChw.dtype)
    columns_w = torch.linspace(-1, 1, width, device=x_BChw.device, dtype=x_BChw.dtype)
    places_2hw = torch.stack(torch.meshgrid(rows_h, columns_w, indexing="ij"))
    return places_2hw.expand(batch, -1, -1, -1)
