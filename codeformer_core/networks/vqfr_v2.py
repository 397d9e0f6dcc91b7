"""VQFR's second version: codes are predicted, and a ratio says how much of the given face goes into the textures.

Source: arXiv 2205.06803, and for the differences the published checkpoint's layout.
Shape legend: B faces, C channels, H W height and width, T tokens of the latent map, K codes, D channels of a code.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .blocks import Downsample, Upsample
from .containers import ModuleList
from .operations import Device, DType, Factory, LayerOptions, Operations, set_memory_format
from .vqfr_blocks import VQFR, Head, MainDecoder, VQFRConfig
from .vqgan import Level, Middle


class VQFRv2Config(VQFRConfig):
    """Sizes of version 2, which has attention after each residual block of the coarsest level."""


class Double(nn.Module):
    """Doubles the image (nearest neighbour), then a 3x3 convolution to another number of channels."""

    def __init__(
        self, in_channels: int, out_channels: int, *, device: Device, dtype: DType, operations: Operations
    ) -> None:
        super().__init__()
        self.conv = operations.Conv2d(in_channels, out_channels, 3, padding=1, device=device, dtype=dtype)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.conv(F.interpolate(x_BCHW, scale_factor=2, mode="nearest"))


def _run_blocks(level: Level, x_BCHW: Tensor) -> Tensor:
    for block, attention in zip(level.blocks, level.attentions, strict=True):
        x_BCHW = attention(block(x_BCHW))
    return x_BCHW


class Encoder(nn.Module):
    """Image -> latent map."""

    def __init__(self, config: VQFRConfig, factory: Factory) -> None:
        super().__init__()
        channels, operations = config.level_channels, factory["operations"]
        last = len(channels) - 1
        self.conv_in = operations.Conv2d(3, channels[0], 3, padding=1, device=factory["device"], dtype=factory["dtype"])
        self.levels = ModuleList(
            Level(
                channels[max(i - 1, 0)],
                count,
                config.encoder_blocks,
                i == last,
                resample=Downsample if i < last else None,
                factory=factory,
            )
            for i, count in enumerate(channels)
        )
        self.middle = Middle(channels[-1], factory)
        self.head = Head(channels[-1], config.code_channels, **factory)

    def forward(self, x_B3HW: Tensor) -> Tensor:
        x_BCHW = self.conv_in(x_B3HW)
        for level in self.levels:
            x_BCHW = level.resample(_run_blocks(level, x_BCHW))
        return self.head(self.middle(x_BCHW))


class TextureDecoder(nn.Module):
    """Quantised latent map -> textures of all levels, the coarsest first; its head paints the finest features."""

    def __init__(self, config: VQFRConfig, factory: Factory) -> None:
        super().__init__()
        channels, operations = config.level_channels[::-1], factory["operations"]
        options: LayerOptions = {"device": factory["device"], "dtype": factory["dtype"]}
        last = len(channels) - 1
        self.conv_in = operations.Conv2d(config.code_channels, channels[0], 3, padding=1, **options)
        self.middle = Middle(channels[0], factory)
        self.levels = ModuleList(
            Level(
                channels[max(i - 1, 0)],
                count,
                config.decoder_blocks,
                i == 0,
                resample=Upsample if i < last else None,
                factory=factory,
            )
            for i, count in enumerate(channels)
        )
        self.head = Head(channels[-1], 3, **factory)

    def forward(self, quantised_BDHW: Tensor) -> list[Tensor]:
        x_BCHW = self.middle(self.conv_in(quantised_BDHW))
        textures: list[Tensor] = []
        for level in self.levels:
            textures.append(_run_blocks(level, x_BCHW))
            x_BCHW = level.resample(textures[-1])
        return textures


class VQFRv2(VQFR):
    """Blind face restoration with adjustable fidelity: textures alone, or textures where the given face has them."""

    uses_fidelity = True

    def __init__(
        self, config: VQFRv2Config, *, device: Device = None, dtype: DType = None, operations: Operations = nn
    ) -> None:
        factory: Factory = {"device": device, "dtype": dtype, "operations": operations}
        options: LayerOptions = {"device": device, "dtype": dtype}
        super().__init__(config, **factory)
        self.encoder = Encoder(config, factory)
        self.code_norm = operations.LayerNorm(config.code_channels, **options)
        self.code_head = operations.Linear(config.code_channels, config.codebook_size, **options)
        self.decoder = TextureDecoder(config, factory)
        self.main = MainDecoder(config, Double, factory)
        set_memory_format(self, torch.channels_last)

    def encode(self, faces_B3HW: Tensor) -> Tensor:
        """latent_BDHW, not yet quantised.

        faces_B3HW: RGB in [-1, 1], aligned, image_size square.
        Raises ValueError for faces of another size.
        """
        return self.encoder(self.prepare(faces_B3HW))

    def pick_codes(self, latent_BDHW: Tensor) -> Tensor:
        """codes_BT int64, the code predicted for every position."""
        latent_BTD = latent_BDHW.flatten(2).transpose(1, 2)
        return self.code_head(self.code_norm(latent_BTD)).argmax(-1)

    def decode(self, quantised_BDHW: Tensor) -> list[Tensor]:
        """textures_BCHW of all levels, the coarsest first; `decoder.head` paints the last one."""
        return self.decoder(quantised_BDHW)

    def warp(self, textures: list[Tensor], faces_B3HW: Tensor) -> Tensor:
        """features_BCHW: what the given faces add to the finest textures at fidelity 1."""
        return self.main(textures, self.guide(faces_B3HW))

    def restore(self, faces_B3HW: Tensor, fidelity: float) -> Tensor:
        """restored_B3HW, about [-1, 1], not clamped.

        faces_B3HW: RGB in [-1, 1], aligned, image_size square.
        fidelity: the published fidelity ratio. 0 gives the textures' best quality, 1 the closest to the input; more is
        accepted.
        Raises ValueError for faces of another size.
        """
        faces_B3HW = self.prepare(faces_B3HW)
        latent_BDHW = self.encode(faces_B3HW)
        # A host's embeddings answer in the precision they are stored in, whatever the faces'.
        quantised_BDHW = self.embed_codes(self.pick_codes(latent_BDHW)).to(latent_BDHW.dtype)
        textures = self.decode(quantised_BDHW)
        features_BCHW = textures[-1]
        # At 0 the whole second decoder would be computed and weighed with nothing.
        if fidelity > 0:
            features_BCHW = torch.add(features_BCHW, self.warp(textures, faces_B3HW), alpha=fidelity)
        return self.decoder.head(features_BCHW)


PUBLISHED_VQFR_V2 = VQFRv2Config(
    image_size=512,
    level_channels=(64, 128, 128, 256, 256, 512),
    encoder_blocks=2,
    decoder_blocks=2,
    codebook_size=1024,
    code_channels=256,
    guide_channels=32,
    deformable_groups=4,
)
