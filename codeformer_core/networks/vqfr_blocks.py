"""Shared parts of both versions of VQFR: their sizes, their codebook, and the warping of textures to the given face.

Source: "VQFR: Blind Face Restoration with Vector-Quantized Dictionary and Parallel Decoder", arXiv 2205.06803.
Shape legend: B faces, C channels, H W height and width, T tokens of the latent map, K codes, D channels of a code, G
channels of the guide (features taken straight from the given face).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .blocks import ResidualBlock, group_norm, norm_swish
from .containers import ModuleList
from .kernels import ConvolutionKernel, convolution_with
from .operations import Device, DType, Factory, LayerOptions, Operations

KERNEL_TAPS = 9


@dataclass(frozen=True)
class VQFRConfig:
    """Sizes of either version. Level i works at image_size / 2**i with level_channels[i]."""

    image_size: int
    level_channels: tuple[int, ...]
    encoder_blocks: int
    decoder_blocks: int
    codebook_size: int
    code_channels: int
    guide_channels: int
    deformable_groups: int

    def __post_init__(self) -> None:
        if len(self.level_channels) < 2:
            raise ValueError(f"level_channels must name two levels or more, got {self.level_channels}")
        shrink = 2 ** (len(self.level_channels) - 1)
        if self.image_size % shrink:
            raise ValueError(
                f"image_size {self.image_size} must be a multiple of {shrink}, "
                f"because {len(self.level_channels)} levels halve it that often"
            )
        if self.deformable_groups < 1 or any(channels % self.deformable_groups for channels in self.level_channels):
            raise ValueError(
                f"level_channels {self.level_channels} must be multiples of deformable_groups {self.deformable_groups}"
            )

    @property
    def base_channels(self) -> int:
        return self.level_channels[0]


class ReadElsewhere(ConvolutionKernel):
    """Modulated deformable convolution: every tap reads beside its place by a shift and counts as much as its mask.

    Layers pass on a single tensor, so the features come joined with what steers them: per group and tap two shifts
    (down, right, in pixels), then one mask before its sigmoid.
    """

    def output_shape(self, input_shape: torch.Size) -> tuple[int, ...]:
        return input_shape[0], self.out_channels, *input_shape[2:]

    def compute(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        deform_conv2d = _torchvision_operator()
        # It knows no bfloat16; and halves of a pixel are lost where a shift is long.
        exact = torch.promote_types(input.dtype, torch.float32)
        channels = weight.shape[1]
        masks = (input.shape[1] - channels) // 3
        weight, bias = weight.to(exact), None if bias is None else bias.to(exact)
        warped_1CHW: list[Tensor] = []
        # Face by face: it unfolds what it is given, nine times the memory.
        for face_1XHW in torch.split(input.to(exact), 1):
            features_1CHW, shifts_1SHW, masks_1MHW = torch.split(face_1XHW, [channels, 2 * masks, masks], dim=1)
            # A shift that is NaN would be read from anywhere in memory. The mask takes it over, so that it is
            # seen in the result; 0 times any other shift is nothing.
            masks_1MHW = masks_1MHW.sigmoid() + 0 * torch.unflatten(shifts_1SHW, 1, (masks, 2)).sum(2)
            shifts_1SHW = torch.nan_to_num(shifts_1SHW)
            try:
                warped_1CHW.append(deform_conv2d(features_1CHW, shifts_1SHW, weight, bias, padding=1, mask=masks_1MHW))
            except NotImplementedError as error:
                raise RuntimeError(
                    f"VQFR needs torchvision's deform_conv2d, and the installed torchvision has none for "
                    f"{input.device.type}: install the torchvision that belongs to this torch and device, "
                    "or restore on the CPU"
                ) from error
        return torch.cat(warped_1CHW).to(input.dtype, memory_format=torch.channels_last)


def _torchvision_operator() -> Any:
    try:
        from torchvision.ops import deform_conv2d
    # A torchvision of another torch's fails with a RuntimeError.
    except (ImportError, RuntimeError) as error:
        raise RuntimeError(f"VQFR needs torchvision, which can't be imported ({error}): {_fix()}") from error
    # One of another torch's may also be imported without the part of it that was compiled.
    if not hasattr(torch.ops.torchvision, "deform_conv2d"):
        raise RuntimeError(f"VQFR needs torchvision's deform_conv2d, and the installed torchvision has none: {_fix()}")
    return deform_conv2d


def _fix() -> str:
    return (
        f"install the torchvision that belongs to torch {torch.__version__}, see https://pytorch.org/get-started, "
        "or choose another model"
    )


class TextureWarp(nn.Module):
    """Moves a level's textures to where the given face has them (the paper's texture warping module)."""

    def __init__(self, channels: int, coarser_channels: int, config: VQFRConfig, factory: Factory) -> None:
        super().__init__()
        device, dtype, operations = factory["device"], factory["dtype"], factory["operations"]
        options: LayerOptions = {"device": device, "dtype": dtype}
        self.compare = operations.Conv2d(channels + config.guide_channels, channels, 1, **options)
        self.norm1 = group_norm(channels, device, dtype, operations)
        self.look_around = operations.Conv2d(channels, channels, 7, padding=3, groups=channels, **options)
        self.norm2 = group_norm(channels, device, dtype, operations)
        self.mix = operations.Conv2d(channels, channels, 1, **options)
        self.merge = operations.Conv2d(channels + coarser_channels, channels, 3, padding=1, **options)
        self.norm3 = group_norm(channels, device, dtype, operations)
        self.steer = operations.Conv2d(channels, 3 * KERNEL_TAPS * config.deformable_groups, 3, padding=1, **options)
        convolution = convolution_with(ReadElsewhere, operations)
        self.warp = convolution(channels, channels, 3, padding=1, **options)

    def forward(self, textures_BCHW: Tensor, guide_BGHW: Tensor, coarser_BCHW: Tensor | None) -> tuple[Tensor, Tensor]:
        """warped_BCHW, and motion_BCHW, the features behind the shifts, doubled: the next finer level's `coarser`."""
        motion_BCHW = self.compare(torch.cat((guide_BGHW, textures_BCHW), dim=1))
        motion_BCHW = self.look_around(norm_swish(self.norm1, motion_BCHW))
        motion_BCHW = self.mix(norm_swish(self.norm2, motion_BCHW))
        if coarser_BCHW is not None:
            motion_BCHW = torch.cat((motion_BCHW, coarser_BCHW), dim=1)
        motion_BCHW = norm_swish(self.norm3, self.merge(motion_BCHW))
        return self.warp(torch.cat((textures_BCHW, self.steer(motion_BCHW)), dim=1)), motion_BCHW


class MainDecoder(nn.Module):
    """Textures of all levels, from the coarsest on: warped to the given face and merged with the levels before."""

    def __init__(self, config: VQFRConfig, upsample: type[nn.Module], factory: Factory) -> None:
        """upsample: made as upsample(in_channels, out_channels, **factory), doubles a map."""
        super().__init__()
        channels = config.level_channels[::-1]
        finer = range(1, len(channels))
        self.warps = ModuleList(
            TextureWarp(count, channels[i - 1] if i else 0, config, factory) for i, count in enumerate(channels)
        )
        self.upsamples = ModuleList(upsample(channels[i - 1], channels[i], **factory) for i in finer)
        self.merges = ModuleList(ResidualBlock(2 * channels[i], channels[i], **factory) for i in finer)

    def guide_at(self, level: int, guide_BGHW: Tensor, size: torch.Size) -> Tensor:
        """The guide at a level's size; level 0 is the coarsest."""
        return resize(guide_BGHW, size)

    def forward(self, textures: Sequence[Tensor], guide_BGHW: Tensor) -> Tensor:
        """features_BCHW of the finest level.

        textures: one map per level, the coarsest first.
        """
        features_BCHW, motion_BCHW = self.warps[0](
            textures[0], self.guide_at(0, guide_BGHW, textures[0].shape[2:]), None
        )
        for i in range(1, len(self.warps)):
            size = textures[i].shape[2:]
            # Shifts are in pixels: twice as many where the map is twice as large.
            coarser_BCHW = 2 * resize(motion_BCHW, size)
            warped_BCHW, motion_BCHW = self.warps[i](textures[i], self.guide_at(i, guide_BGHW, size), coarser_BCHW)
            features_BCHW = self.upsamples[i - 1](features_BCHW)
            features_BCHW = self.merges[i - 1](torch.cat((features_BCHW, warped_BCHW), dim=1))
        return features_BCHW


class Head(nn.Module):
    """Norm, swish, 3x3 convolution: the end of encoders and decoders."""

    def __init__(
        self, in_channels: int, out_channels: int, *, device: Device, dtype: DType, operations: Operations
    ) -> None:
        super().__init__()
        self.norm = group_norm(in_channels, device, dtype, operations)
        self.conv = operations.Conv2d(in_channels, out_channels, 3, padding=1, device=device, dtype=dtype)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.conv(norm_swish(self.norm, x_BCHW))


class VQFR(nn.Module):
    """Base of both versions. Faces are RGB in [-1, 1], aligned, image_size square; any batch size."""

    # Whether `restore` makes anything of its fidelity.
    uses_fidelity: bool

    def __init__(self, config: VQFRConfig, *, device: Device, dtype: DType, operations: Operations) -> None:
        super().__init__()
        options: LayerOptions = {"device": device, "dtype": dtype}
        self.config = config
        self.codebook = operations.Embedding(config.codebook_size, config.code_channels, **options)
        self.guide = operations.Conv2d(3, config.guide_channels, 3, padding=1, **options)

    def prepare(self, faces_B3HW: Tensor) -> Tensor:
        """The faces in the memory order of the weights.

        Raises ValueError for another size.
        """
        size = self.config.image_size
        if faces_B3HW.shape[1:] != (3, size, size):
            raise ValueError(
                f"faces must be {size}x{size} pixels for this network, got the shape {tuple(faces_B3HW.shape)}; "
                "resize them first"
            )
        return faces_B3HW.contiguous(memory_format=torch.channels_last)

    def embed_codes(self, codes_BT: Tensor) -> Tensor:
        """quantised_BDHW, a square map.

        codes_BT: int64 in [0, K).
        """
        side = self.config.image_size >> (len(self.config.level_channels) - 1)
        quantised_BTD = self.codebook(codes_BT)
        quantised_BDHW = quantised_BTD.transpose(1, 2).unflatten(2, (side, side))
        return quantised_BDHW.contiguous(memory_format=torch.channels_last)


def resize(x_BCHW: Tensor, size: torch.Size) -> Tensor:
    """Bilinear, by pixel centres, not smoothed before it shrinks; itself where the size is right."""
    if x_BCHW.shape[2:] == size:
        return x_BCHW
    return F.interpolate(x_BCHW, size=size, mode="bilinear", align_corners=False)
