"""The VQ autoencoder: encoder, codebook of faces' local looks, generator (CodeFormer paper, stage I).

Shape legend: B images, C channels, H W height and width, K codes in the codebook, D channels of a code,
T tokens of the latent map.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from . import strips
from .blocks import (
    Downsample,
    ResidualBlock,
    SpatialAttention,
    Upsample,
    group_norm,
)
from .containers import ModuleList
from .kernels import apply_norm
from .operations import Device, DType, Factory, LayerOptions, Operations, set_memory_format

# Called with the image size (H) of a generator level and its features; returns the features to go on with.
Fusion = Callable[[int, Tensor], Tensor]


# Between two levels.
Resample = type[Downsample] | type[Upsample] | None


@dataclass(frozen=True)
class AutoencoderConfig:
    """Sizes of the autoencoder. Level i works at image_size / 2**i with base_channels * channel_multipliers[i]."""

    image_size: int
    base_channels: int
    channel_multipliers: tuple[int, ...]
    residual_blocks: int
    attention_sizes: tuple[int, ...]
    codebook_size: int
    code_channels: int

    def __post_init__(self) -> None:
        shrink = 2 ** (len(self.channel_multipliers) - 1)
        if self.image_size % shrink:
            raise ValueError(
                f"image_size {self.image_size} must be a multiple of {shrink}, "
                f"because {len(self.channel_multipliers)} channel_multipliers halve it that often"
            )

    @property
    def level_sizes(self) -> tuple[int, ...]:
        return tuple(self.image_size >> level for level in range(len(self.channel_multipliers)))

    @property
    def level_channels(self) -> tuple[int, ...]:
        return tuple(self.base_channels * multiplier for multiplier in self.channel_multipliers)

    @property
    def latent_size(self) -> int:
        return self.level_sizes[-1]

    def channels_at(self, size: int) -> int:
        return self.level_channels[self.level_sizes.index(size)]


class Level(nn.Module):
    """Residual blocks of one image size, each followed by attention where the size asks for it."""

    def __init__(
        self, in_channels: int, out_channels: int, blocks: int, attention: bool, *, resample: Resample, factory: Factory
    ) -> None:
        super().__init__()
        self.blocks = ModuleList(
            ResidualBlock(in_channels if i == 0 else out_channels, out_channels, **factory) for i in range(blocks)
        )
        self.attentions = ModuleList(
            SpatialAttention(out_channels, **factory) if attention else nn.Identity() for _ in range(blocks)
        )
        self.resample = resample(out_channels, **factory) if resample else nn.Identity()
        self.has_attention = attention


class Middle(nn.Module):
    """Residual block, attention, residual block at the latent's size."""

    def __init__(self, channels: int, factory: Factory) -> None:
        super().__init__()
        self.block1 = ResidualBlock(channels, channels, **factory)
        self.attention = SpatialAttention(channels, **factory)
        self.block2 = ResidualBlock(channels, channels, **factory)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.block2(self.attention(self.block1(x_BCHW)))


class Encoder(nn.Module):
    """Image -> latent map, and on the way the skip features for the controllable fusion."""

    def __init__(self, config: AutoencoderConfig, *, device: Device, dtype: DType, operations: Operations) -> None:
        super().__init__()
        factory: Factory = {"device": device, "dtype": dtype, "operations": operations}
        options: LayerOptions = {"device": device, "dtype": dtype}
        channels = config.level_channels
        last = len(channels) - 1
        self.sizes = config.level_sizes
        self.conv_in = operations.Conv2d(3, config.base_channels, 3, padding=1, **options)
        self.levels = ModuleList(
            Level(
                config.base_channels if i == 0 else channels[i - 1],
                channels[i],
                config.residual_blocks,
                size in config.attention_sizes,
                resample=Downsample if i < last else None,
                factory=factory,
            )
            for i, size in enumerate(config.level_sizes)
        )
        self.middle = Middle(channels[-1], factory)
        self.norm_out = group_norm(channels[-1], device, dtype, operations)
        self.conv_out = operations.Conv2d(channels[-1], config.code_channels, 3, padding=1, **options)

    def forward(self, x_B3HW: Tensor, tap_sizes: frozenset[int] = frozenset()) -> tuple[Tensor, dict[int, Tensor]]:
        """latent_BDHW, and {size: features_BCHW}, the skip features.

        tap_sizes: sizes of the levels whose features are kept, after their last residual block.
        """
        skips: dict[int, Tensor] = {}
        x = self.conv_in(x_B3HW)
        for size, level in zip(self.sizes, self.levels, strict=True):
            for block, attention in zip(level.blocks, level.attentions, strict=True):
                x = block(x)
                if size in tap_sizes:
                    skips[size] = x
                x = attention(x)
            x = level.resample(x)
        # The last convolution's input is normed; `norm_out` has no swish after it in this network.
        return self.conv_out(self.norm_out(self.middle(x))), skips


class Generator(nn.Module):
    """Latent map -> image. `fuse` may change the features once per level."""

    def __init__(self, config: AutoencoderConfig, *, device: Device, dtype: DType, operations: Operations) -> None:
        super().__init__()
        factory: Factory = {"device": device, "dtype": dtype, "operations": operations}
        options: LayerOptions = {"device": device, "dtype": dtype}
        channels = config.level_channels[::-1]
        self.sizes = config.level_sizes[::-1]
        last = len(channels) - 1
        self.conv_in = operations.Conv2d(config.code_channels, channels[0], 3, padding=1, **options)
        self.middle = Middle(channels[0], factory)
        self.levels = ModuleList(
            Level(
                channels[max(i - 1, 0)],
                channels[i],
                config.residual_blocks,
                size in config.attention_sizes,
                resample=Upsample if i < last else None,
                factory=factory,
            )
            for i, size in enumerate(self.sizes)
        )
        self.norm_out = group_norm(channels[-1], device, dtype, operations)
        self.conv_out = operations.Conv2d(channels[-1], 3, 3, padding=1, **options)

    def forward(self, latent_BDHW: Tensor, fuse: Fusion | None = None) -> Tensor:
        x = self.middle(self.conv_in(latent_BDHW))
        for size, level in zip(self.sizes, self.levels, strict=True):
            # The published network fuses after a level's first block, but where the level has attention after its last.
            fuse_after = len(level.blocks) - 1 if level.has_attention else 0
            for i, (block, attention) in enumerate(zip(level.blocks, level.attentions, strict=True)):
                x = block(x)
                if fuse is not None and i == fuse_after:
                    x = fuse(size, x)
                x = attention(x)
            x = level.resample(x)
        if strips.pays(x, self.norm_out, self.conv_out):
            return strips.convolve(self.conv_out, x, strips.norm_alone(self.norm_out, x))
        return self.conv_out(apply_norm(self.norm_out, x))


class VQNetwork(nn.Module):
    """Encoder, codebook and generator, as verbs: shared by stage I's network and CodeFormer.

    Images are RGB in [-1, 1], image_size square.
    """

    def __init__(self, config: AutoencoderConfig, *, device: Device, dtype: DType, operations: Operations) -> None:
        super().__init__()
        factory: Factory = {"device": device, "dtype": dtype, "operations": operations}
        self.encoder = Encoder(config, **factory)
        self.codebook = operations.Embedding(config.codebook_size, config.code_channels, device=device, dtype=dtype)
        self.generator = Generator(config, **factory)
        self.arrange(torch.channels_last)

    def arrange(self, memory_format: torch.memory_format) -> None:
        """Keep weights and features in this memory format.

        Inference is fastest in channels_last, and so is training on GPUs; training on a CPU is faster in
        contiguous_format: torch's group norm takes ten times as long otherwise.
        """
        self.memory_format = memory_format
        set_memory_format(self, memory_format)

    def encode(self, faces_B3HW: Tensor) -> Tensor:
        """latent_BDHW, not yet quantised.

        faces_B3HW: RGB in [-1, 1], image_size square.
        """
        return self.encoder(faces_B3HW.contiguous(memory_format=self.memory_format))[0]

    def quantize(self, latent_BDHW: Tensor) -> Tensor:
        """codes_BT int64: for each position the code with the smallest squared distance."""
        # Distances of near codes differ in the last digits: no autocast here.
        with torch.autocast(latent_BDHW.device.type, enabled=False):
            vectors_BTD = latent_BDHW.flatten(2).transpose(1, 2).float()
            every_K = torch.arange(self.codebook.num_embeddings, device=latent_BDHW.device)
            codebook_KD = self.codebook(every_K).float()
            distance_BTK = (
                vectors_BTD.square().sum(-1, keepdim=True)
                + codebook_KD.square().sum(-1)
                - 2 * vectors_BTD @ codebook_KD.T
            )
            return distance_BTK.argmin(-1)

    def embed_codes(self, codes_BT: Tensor) -> Tensor:
        """quantised_BDHW, a square map.

        codes_BT: int64 in [0, K).
        """
        batch, tokens = codes_BT.shape
        side = round(tokens**0.5)
        if side * side != tokens:
            raise ValueError(f"codes must form a square map, got {tokens} of them")
        quantised_BTD = self.codebook(codes_BT)
        return quantised_BTD.transpose(1, 2).reshape(batch, -1, side, side).contiguous(memory_format=self.memory_format)

    def decode(self, codes_BT: Tensor) -> Tensor:
        """faces_B3HW, about [-1, 1], not clamped.

        codes_BT: int64 in [0, K).
        """
        return self.generator(self.embed_codes(codes_BT))

    def reconstruct(self, faces_B3HW: Tensor) -> Tensor:
        """Encode, quantise to the nearest codes, decode."""
        return self.decode(self.quantize(self.encode(faces_B3HW)))


class VQAutoencoder(VQNetwork):
    """The network of stage I: it reconstructs its own input."""

    def __init__(
        self, config: AutoencoderConfig, *, device: Device = None, dtype: DType = None, operations: Operations = nn
    ) -> None:
        super().__init__(config, device=device, dtype=dtype, operations=operations)
        self.config = config
