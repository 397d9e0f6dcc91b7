"""CodeFormer: a transformer predicts the codes, a controllable fusion brings the input's own features back.

Source: "Towards Robust Blind Face Restoration with Codebook Lookup Transformer", arXiv 2206.11253.
Shape legend: B faces, C channels, H W height and width, T tokens, W transformer width, K codes, D code channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import strips
from .blocks import ResidualBlock
from .containers import ModuleDict, ModuleList
from .operations import Device, DType, Factory, LayerOptions, Operations
from .pixel_path import PixelPath, PixelPathConfig
from .vqgan import AutoencoderConfig, VQNetwork


@dataclass(frozen=True)
class CodeFormerConfig:
    autoencoder: AutoencoderConfig
    width: int
    layers: int
    heads: int
    mlp_width: int
    fuse_sizes: tuple[int, ...]
    pixel_path: PixelPathConfig | None = None  # none in the published network

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} must be a multiple of heads {self.heads}")
        unknown = set(self.fuse_sizes) - set(self.autoencoder.level_sizes)
        if unknown:
            raise ValueError(f"fuse_sizes {sorted(unknown)} are not among the levels {self.autoencoder.level_sizes}")
        if self.pixel_path is not None and self.pixel_path.sigmas[-1] > self.autoencoder.image_size:
            raise ValueError(
                f"pixel_path: sigma {self.pixel_path.sigmas[-1]:g} is larger than the faces, which have "
                f"{self.autoencoder.image_size} pixels; give sigmas in pixels of the face"
            )

    @property
    def image_size(self) -> int:
        """Side of its faces in pixels."""
        return self.autoencoder.image_size

    @property
    def latent_size(self) -> int:
        """Side of the map of codes."""
        return self.autoencoder.latent_size


class TransformerLayer(nn.Module):
    """Pre-norm self-attention and GELU MLP; the position embedding enters queries and keys, not values."""

    def __init__(self, config: CodeFormerConfig, *, device: Device, dtype: DType, operations: Operations) -> None:
        super().__init__()
        options: LayerOptions = {"device": device, "dtype": dtype}
        width = config.width
        self.heads = config.heads
        self.norm1 = operations.LayerNorm(width, **options)
        self.query_key = operations.Linear(width, 2 * width, **options)
        self.value = operations.Linear(width, width, **options)
        self.out = operations.Linear(width, width, **options)
        self.norm2 = operations.LayerNorm(width, **options)
        self.mlp_in = operations.Linear(width, config.mlp_width, **options)
        self.mlp_out = operations.Linear(config.mlp_width, width, **options)

    def forward(self, x_BTW: Tensor, position_TW: Tensor) -> Tensor:
        normed_BTW = self.norm1(x_BTW)
        query_BTW, key_BTW = self.query_key(normed_BTW + position_TW).chunk(2, dim=-1)
        attended = F.scaled_dot_product_attention(
            self._split(query_BTW), self._split(key_BTW), self._split(self.value(normed_BTW))
        )
        x_BTW = x_BTW + self.out(attended.transpose(1, 2).flatten(2))
        return x_BTW + self.mlp_out(F.gelu(self.mlp_in(self.norm2(x_BTW))))

    def _split(self, x_BTW: Tensor) -> Tensor:
        """(B, T, W) -> (B, heads, T, W / heads)"""
        return torch.unflatten(x_BTW, -1, (self.heads, -1)).transpose(1, 2)


class ControllableFusion(nn.Module):
    """The paper's controllable feature transform: decoder + fidelity * (decoder * scale + shift).

    Scale and shift start from the same features, so their first convolutions are one.
    """

    def __init__(self, channels: int, *, device: Device, dtype: DType, operations: Operations) -> None:
        super().__init__()
        options: LayerOptions = {"device": device, "dtype": dtype}
        self.merge = ResidualBlock(2 * channels, channels, device=device, dtype=dtype, operations=operations)
        self.scale_shift_in = operations.Conv2d(channels, 2 * channels, 3, padding=1, **options)
        self.scale_out = operations.Conv2d(channels, channels, 3, padding=1, **options)
        self.shift_out = operations.Conv2d(channels, channels, 3, padding=1, **options)

    def forward(self, encoder_BCHW: Tensor, decoder_BCHW: Tensor, fidelity: float | Tensor) -> Tensor:
        """fidelity: a tensor of one number while training, since compiled code would be made anew for each float."""
        merged_BCHW = self.merge(torch.cat((encoder_BCHW, decoder_BCHW), dim=1))
        if strips.pays(merged_BCHW, self.scale_shift_in, self.scale_out, self.shift_out):
            both_BCHW = strips.convolve(self.scale_shift_in, merged_BCHW, strips.unchanged)
            scale_BCHW, shift_BCHW = (
                strips.convolve(conv, half_BCHW, strips.leaky)
                for conv, half_BCHW in zip((self.scale_out, self.shift_out), both_BCHW.chunk(2, dim=1), strict=True)
            )
        else:
            both_BCHW = F.leaky_relu(self.scale_shift_in(merged_BCHW), 0.2)
            scale_BCHW, shift_BCHW = both_BCHW.chunk(2, dim=1)
            scale_BCHW, shift_BCHW = self.scale_out(scale_BCHW), self.shift_out(shift_BCHW)
        residual_BCHW = torch.addcmul(shift_BCHW, decoder_BCHW, scale_BCHW)
        if isinstance(fidelity, float | int):
            return torch.add(decoder_BCHW, residual_BCHW, alpha=fidelity)
        return torch.addcmul(decoder_BCHW, residual_BCHW, fidelity.to(residual_BCHW.dtype))


class Generated(NamedTuple):
    """made_B3HW: from codes and fused features.
    output_B3HW: the result; the same as made_B3HW without a pixel path.
    gate_logits_BNhw: of the pixel path; None without one.
    """

    made_B3HW: Tensor
    output_B3HW: Tensor
    gate_logits_BNhw: Tensor | None


class CodeFormer(VQNetwork):
    """Blind face restoration. Faces are RGB in [-1, 1], aligned, image_size square; any batch size."""

    def __init__(
        self, config: CodeFormerConfig, *, device: Device = None, dtype: DType = None, operations: Operations = nn
    ) -> None:
        factory: Factory = {"device": device, "dtype": dtype, "operations": operations}
        options: LayerOptions = {"device": device, "dtype": dtype}
        super().__init__(config.autoencoder, **factory)
        self.config = config
        tokens = config.autoencoder.latent_size**2
        self.token_in = operations.Linear(config.autoencoder.code_channels, config.width, **options)
        # An Embedding, not a bare parameter: hosts stream the weights of layers, not of their parents.
        self.position = operations.Embedding(tokens, config.width, **options)
        self.layers = ModuleList(TransformerLayer(config, **factory) for _ in range(config.layers))
        self.norm_out = operations.LayerNorm(config.width, **options)
        self.code_head = operations.Linear(config.width, config.autoencoder.codebook_size, bias=False, **options)
        self.fusions = ModuleDict(
            {
                str(size): ControllableFusion(config.autoencoder.channels_at(size), **factory)
                for size in config.fuse_sizes
            }
        )
        self.pixel_path = None if config.pixel_path is None else PixelPath(config.pixel_path, **factory)
        self.generator_dtype: torch.dtype | None = None
        self.arrange(torch.channels_last)

    def generate_in(self, dtype: torch.dtype) -> None:
        """Fuses features and generates in another precision than the codes are found in.

        A code that comes out as another one changes a part of the face; what is rounded in the generator can't be seen.
        For torch's own layers: a host's follow the precision of their input.
        """
        for part in (self.generator, self.fusions):
            part.to(dtype)
        self.generator_dtype = dtype

    def predict_logits(self, latent_BDHW: Tensor) -> Tensor:
        """logits_BTK, one row of code scores per position of the latent map."""
        tokens = self.position.num_embeddings
        if latent_BDHW.shape[2] * latent_BDHW.shape[3] != tokens:
            size = self.config.image_size
            raise ValueError(f"faces must be {size}x{size} pixels for this network; resize them first")
        x_BTW = self.token_in(latent_BDHW.flatten(2).transpose(1, 2))
        # A host's embeddings answer in the precision they are stored in, whatever the faces'.
        position_TW = self.position(torch.arange(tokens, device=latent_BDHW.device)).to(x_BTW.dtype)
        for layer in self.layers:
            x_BTW = layer(x_BTW, position_TW)
        return self.code_head(self.norm_out(x_BTW))

    def predict_codes(self, latent_BDHW: Tensor) -> Tensor:
        """codes_BT int64, the best code of every position."""
        return self.predict_logits(latent_BDHW).argmax(-1)

    def restore(self, faces_B3HW: Tensor, fidelity: float, adain: bool = True) -> Tensor:
        """restored_B3HW, about [-1, 1], not clamped.

        faces_B3HW: RGB in [-1, 1], aligned, image_size square.
        fidelity: the paper's w. 0 gives the codebook's best quality, 1 the closest to the input; more is accepted.
        adain: give the looked-up codes the mean and deviation of the encoder's output, channel by channel.
        """
        latent_BDHW, skips = self.encode_with_skips(faces_B3HW, fidelity)
        quantised_BDHW = self.embed_codes(self.predict_codes(latent_BDHW)).to(latent_BDHW.dtype)
        if adain:
            quantised_BDHW = match_statistics(quantised_BDHW, latent_BDHW)
        return self.generate(quantised_BDHW, skips, fidelity, faces_B3HW).output_B3HW

    def encode_with_skips(self, faces_B3HW: Tensor, fidelity: float) -> tuple[Tensor, dict[int, Tensor]]:
        """latent_BDHW, and the skip features that `generate` fuses (none at fidelity 0)."""
        taps_wanted: frozenset[int] = frozenset(self.config.fuse_sizes) if fidelity > 0 else frozenset()
        return self.encoder(faces_B3HW.contiguous(memory_format=self.memory_format), taps_wanted)

    def generate(
        self, quantised_BDHW: Tensor, skips: dict[int, Tensor], fidelity: float | Tensor, faces_B3HW: Tensor
    ) -> Generated:
        """Looked-up codes -> a face, fused with the skip features and, where there is a pixel path, with the input's
        own pixels.

        Neither fusion nor path at fidelity 0.

        skips: by size; each is removed from the dict as it is used.
        faces_B3HW: the input, RGB in [-1, 1].
        """

        def fuse(size: int, features_BCHW: Tensor) -> Tensor:
            if size not in skips:
                return features_BCHW
            return self.fusions[str(size)](skips.pop(size).to(features_BCHW.dtype), features_BCHW, fidelity)

        has_path = self.pixel_path is not None and bool(skips)
        made_B3HW = self.generator(quantised_BDHW.to(self.generator_dtype or quantised_BDHW.dtype), fuse)
        # The path lets the input's own pixels through, which keep their precision.
        made_B3HW = made_B3HW.to(quantised_BDHW.dtype)
        if self.pixel_path is None or not has_path:
            return Generated(made_B3HW, made_B3HW, None)
        output_B3HW, logits_BNhw = self.pixel_path(faces_B3HW, made_B3HW, fidelity)
        return Generated(made_B3HW, output_B3HW, logits_BNhw)

    def inpaint(self, faces_B3HW: Tensor, mask_B1HW: Tensor) -> Tensor:
        """faces_B3HW with the masked pixels made new and all others exactly as in the input.

        The published recipe: the region painted white, fidelity 1, no adain, hard composite.

        faces_B3HW: RGB in [-1, 1], aligned, image_size square.
        mask_B1HW: 1 = fill.
        """
        hole_B1HW = mask_B1HW > 0.5
        white = torch.ones((), dtype=faces_B3HW.dtype, device=faces_B3HW.device)
        filled_B3HW = self.restore(torch.where(hole_B1HW, white, faces_B3HW), fidelity=1.0, adain=False)
        return torch.where(hole_B1HW, filled_B3HW.clamp(-1, 1), faces_B3HW)


def uses_adain(task: str | None) -> bool:
    """Not for inpainting: white strokes would change the statistics, so the codes stay as they are, as published."""
    return task != "inpainting"


def match_statistics(content_BCHW: Tensor, style_BCHW: Tensor) -> Tensor:
    """Adaptive instance normalisation (unbiased variance + 1e-5): content with style's mean and deviation."""
    content_var_BC11, content_mean_BC11 = torch.var_mean(content_BCHW, dim=(2, 3), keepdim=True)
    style_var_BC11, style_mean_BC11 = torch.var_mean(style_BCHW, dim=(2, 3), keepdim=True)
    gain_BC11 = ((style_var_BC11 + 1e-5) / (content_var_BC11 + 1e-5)).sqrt()
    return (content_BCHW - content_mean_BC11) * gain_BC11 + style_mean_BC11


PUBLISHED_AUTOENCODER = AutoencoderConfig(
    image_size=512,
    base_channels=64,
    channel_multipliers=(1, 2, 2, 4, 4, 8),
    residual_blocks=2,
    attention_sizes=(16,),
    codebook_size=1024,
    code_channels=256,
)
PUBLISHED_CODEFORMER = CodeFormerConfig(
    autoencoder=PUBLISHED_AUTOENCODER,
    width=512,
    layers=9,
    heads=8,
    mlp_width=1024,
    fuse_sizes=(32, 64, 128, 256),
)
