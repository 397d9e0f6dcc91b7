"""VQFR's first version: the nearest codes give the textures, a second decoder brings them to the given face.

Source: arXiv 2205.06803; sizes of the published checkpoint at the end.
Shape legend: B faces, C channels, H W height and width, T tokens of the latent map, K codes, D channels of a code, G
channels of the guide.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .blocks import ResidualBlock, group_norm, norm_swish
from .containers import ModuleList
from .operations import Device, DType, Factory, LayerOptions, Operations, set_memory_format
from .vqfr_blocks import VQFR, Head, MainDecoder, VQFRConfig, resize


class VQFRv1Config(VQFRConfig):
    """Sizes of version 1."""


class _Resample(nn.Module):
    """A 3x3 convolution, on the smaller of the two maps."""

    def __init__(
        self, in_channels: int, out_channels: int, *, device: Device, dtype: DType, operations: Operations
    ) -> None:
        super().__init__()
        self.conv = operations.Conv2d(in_channels, out_channels, 3, padding=1, device=device, dtype=dtype)


class Halve(_Resample):
    """Bilinear halving, then a 3x3 convolution."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        height, width = x_BCHW.shape[2:]
        return self.conv(resize(x_BCHW, torch.Size((height // 2, width // 2))))


class Double(_Resample):
    """A 3x3 convolution, then bilinear doubling."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        height, width = x_BCHW.shape[2:]
        return resize(self.conv(x_BCHW), torch.Size((2 * height, 2 * width)))


class Level(nn.Module):
    """From the level before by `resample` (none in the first level), then residual blocks of one width."""

    def __init__(
        self, in_channels: int, out_channels: int, blocks: int, resample: type[_Resample] | None, factory: Factory
    ) -> None:
        super().__init__()
        self.resample = resample(in_channels, out_channels, **factory) if resample else nn.Identity()
        self.blocks = nn.Sequential(*(ResidualBlock(out_channels, out_channels, **factory) for _ in range(blocks)))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.blocks(self.resample(x_BCHW))


def _levels(channels: tuple[int, ...], blocks: int, resample: type[_Resample], factory: Factory) -> ModuleList[Level]:
    return ModuleList(
        Level(channels[max(i - 1, 0)], count, blocks, resample if i else None, factory)
        for i, count in enumerate(channels)
    )


class Encoder(nn.Module):
    """Image -> features_BCHW of the coarsest level."""

    def __init__(self, config: VQFRConfig, factory: Factory) -> None:
        super().__init__()
        channels, operations = config.level_channels, factory["operations"]
        self.conv_in = operations.Conv2d(3, channels[0], 3, padding=1, device=factory["device"], dtype=factory["dtype"])
        self.levels = _levels(channels, config.encoder_blocks, Halve, factory)
        self.head = Head(channels[-1], channels[-1], **factory)

    def forward(self, x_B3HW: Tensor) -> Tensor:
        x_BCHW = self.conv_in(x_B3HW)
        for level in self.levels:
            x_BCHW = level(x_BCHW)
        return self.head(x_BCHW)


class TextureDecoder(nn.Module):
    """Quantised features -> textures of all levels, the coarsest first; its head paints an image of them alone."""

    def __init__(self, config: VQFRConfig, factory: Factory) -> None:
        super().__init__()
        self.levels = _levels(config.level_channels[::-1], config.decoder_blocks, Double, factory)
        self.head = Head(config.level_channels[0], 3, **factory)

    def forward(self, x_BCHW: Tensor) -> list[Tensor]:
        textures: list[Tensor] = []
        for level in self.levels:
            textures.append(level(textures[-1] if textures else x_BCHW))
        return textures


class GuidedDecoder(MainDecoder):
    """Version 1 convolves the guide at each level and sees the given face once more at the end."""

    def __init__(self, config: VQFRConfig, factory: Factory) -> None:
        super().__init__(config, Double, factory)
        device, dtype, operations = factory["device"], factory["dtype"], factory["operations"]
        options: LayerOptions = {"device": device, "dtype": dtype}
        width = config.guide_channels
        self.guides = ModuleList(
            operations.Conv2d(width, width, 3, padding=1, **options) for _ in config.level_channels[1:]
        )
        self.norm_out = group_norm(config.level_channels[0], device, dtype, operations)
        self.conv_out = operations.Conv2d(config.level_channels[0] + 3, 3, 3, padding=1, **options)

    def guide_at(self, level: int, guide_BGHW: Tensor, size: torch.Size) -> Tensor:
        """The guide as it is at the finest level."""
        guide_BGHW = super().guide_at(level, guide_BGHW, size)
        return self.guides[level](guide_BGHW) if level < len(self.guides) else guide_BGHW

    def paint(self, features_BCHW: Tensor, faces_B3HW: Tensor) -> Tensor:
        return self.conv_out(torch.cat((norm_swish(self.norm_out, features_BCHW), faces_B3HW), dim=1))


class VQFRv1(VQFR):
    """Blind face restoration without adjustable fidelity."""

    uses_fidelity = False

    def __init__(
        self, config: VQFRv1Config, *, device: Device = None, dtype: DType = None, operations: Operations = nn
    ) -> None:
        factory: Factory = {"device": device, "dtype": dtype, "operations": operations}
        options: LayerOptions = {"device": device, "dtype": dtype}
        super().__init__(config, **factory)
        channels = config.level_channels[-1]
        self.encoder = Encoder(config, factory)
        self.to_code = operations.Conv2d(channels, config.code_channels, 1, **options)
        self.from_code = operations.Conv2d(config.code_channels, channels, 1, **options)
        self.decoder = TextureDecoder(config, factory)
        self.main = GuidedDecoder(config, factory)
        set_memory_format(self, torch.channels_last)

    def encode(self, faces_B3HW: Tensor) -> Tensor:
        """latent_BDHW, not yet quantised.

        faces_B3HW: RGB in [-1, 1], aligned, image_size square.
        Raises ValueError for faces of another size.
        """
        return self.to_code(self.encoder(self.prepare(faces_B3HW)))

    def pick_codes(self, latent_BDHW: Tensor) -> Tensor:
        """codes_BT int64: for each position the code with the smallest squared distance."""
        # Distances of near codes differ in the last digits: no autocast here.
        with torch.autocast(latent_BDHW.device.type, enabled=False):
            vectors_BTD = latent_BDHW.flatten(2).transpose(1, 2).float()
            codebook_KD = self.codebook(torch.arange(self.config.codebook_size, device=latent_BDHW.device)).float()
            # Without the vector's own square, which is the same for all codes.
            distance_BTK = codebook_KD.square().sum(-1) - 2 * vectors_BTD @ codebook_KD.T
            return distance_BTK.argmin(-1)

    def decode(self, quantised_BDHW: Tensor) -> list[Tensor]:
        """textures_BCHW of all levels, the coarsest first; `decoder.head` paints the last one."""
        return self.decoder(self.from_code(quantised_BDHW))

    def warp(self, textures: list[Tensor], faces_B3HW: Tensor) -> Tensor:
        """restored_B3HW: the textures where the given faces have them, about [-1, 1], not clamped."""
        return self.main.paint(self.main(textures, self.guide(faces_B3HW)), faces_B3HW)

    def restore(self, faces_B3HW: Tensor, fidelity: float) -> Tensor:
        """restored_B3HW, about [-1, 1], not clamped.

        faces_B3HW: RGB in [-1, 1], aligned, image_size square.
        fidelity: accepted as by other networks, and without effect.
        Raises ValueError for faces of another size.
        """
        faces_B3HW = self.prepare(faces_B3HW)
        latent_BDHW = self.encode(faces_B3HW)
        # A host's embeddings answer in the precision they are stored in, whatever the faces'.
        quantised_BDHW = self.embed_codes(self.pick_codes(latent_BDHW)).to(latent_BDHW.dtype)
        return self.warp(self.decode(quantised_BDHW), faces_B3HW)


PUBLISHED_VQFR_V1 = VQFRv1Config(
    image_size=512,
    level_channels=(128, 128, 256, 256, 256, 512),
    encoder_blocks=2,
    decoder_blocks=3,
    codebook_size=1024,
    code_channels=256,
    guide_channels=32,
    deformable_groups=4,
)
