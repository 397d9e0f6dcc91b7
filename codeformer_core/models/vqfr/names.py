"""Which of our VQFR's layers is which of the published ones.

Every layer of ours is one published layer, so converting needs no more than a table of their names. Names of the
published layout: TencentARC/VQFR, seen in its checkpoints' keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor

from ...networks.vqfr_blocks import VQFRConfig
from ...networks.vqfr_v1 import VQFRv1Config
from ...networks.vqfr_v2 import VQFRv2Config

VQFRSizes = VQFRv1Config | VQFRv2Config


def from_published(state: Mapping[str, Tensor], config: VQFRSizes) -> dict[str, Tensor]:
    """Published keys -> our keys. Keys of no layer are dropped."""
    return _renamed(state, {published: ours for ours, published in layers(config)})


def to_published(state: Mapping[str, Tensor], config: VQFRSizes) -> dict[str, Tensor]:
    """Our keys -> published keys."""
    return _renamed(state, dict(layers(config)))


def _renamed(state: Mapping[str, Tensor], names: dict[str, str]) -> dict[str, Tensor]:
    renamed: dict[str, Tensor] = {}
    for key, tensor in state.items():
        layer, _, parameter = key.rpartition(".")
        if layer in names:
            renamed[f"{names[layer]}.{parameter}"] = tensor
    return renamed


def layers(config: VQFRSizes) -> Iterator[tuple[str, str]]:
    """All layers of a network: our name, published name."""
    yield from (_layers_v1 if isinstance(config, VQFRv1Config) else _layers_v2)(config)
    main = "main_decoder" if isinstance(config, VQFRv1Config) else "main_branch"
    for i, scale in enumerate(_scales(config)[::-1]):
        ours, published = f"main.warps.{i}", f"{main}.align_func_dict.Level_{scale}"
        for our_name, published_name in {
            "compare": "offset_conv1.0",
            "norm1": "offset_conv1.1",
            "look_around": "offset_conv1.3",
            "norm2": "offset_conv1.4",
            "mix": "offset_conv1.6",
            "merge": "offset_conv2.0",
            "norm3": "offset_conv2.1",
            "steer": "dcn.conv_offset",
            "warp": "dcn",
        }.items():
            yield f"{ours}.{our_name}", f"{published}.{published_name}"


def _layers_v1(config: VQFRConfig) -> Iterator[tuple[str, str]]:
    scales = _scales(config)
    coarsest = f"Level_{scales[-1]}"
    yield "guide", "inpfeat_extraction.conv"
    yield "encoder.conv_in", "encoder.conv_in"
    for i, scale in enumerate(scales):
        for j in range(config.encoder_blocks):
            yield from _residual(f"encoder.levels.{i}.blocks.{j}", f"encoder.encoder_dict.Level_{scale}.{j}")
        if i:
            yield f"encoder.levels.{i}.resample.conv", f"encoder.pre_downsample_dict.Level_{scale}.conv"
    yield from _head("encoder.head", f"encoder.enc_convout_dict.{coarsest}")
    yield "to_code", f"quantizer.quantize_dict.{coarsest}.quant_conv"
    yield "codebook", f"quantizer.quantize_dict.{coarsest}.embedding"
    yield "from_code", f"quantizer.quantize_dict.{coarsest}.post_quant_conv"
    for i, scale in enumerate(scales[::-1]):
        for j in range(config.decoder_blocks):
            yield from _residual(f"decoder.levels.{i}.blocks.{j}", f"decoder.decoder_dict.Level_{scale}.{j}")
        if i:
            yield f"decoder.levels.{i}.resample.conv", f"decoder.pre_upsample_dict.Level_{scale}.conv"
            yield f"main.upsamples.{i - 1}.conv", f"main_decoder.pre_upsample_dict.Level_{scale}.conv"
            yield from _residual(f"main.merges.{i - 1}", f"main_decoder.decoder_dict.Level_{scale}", "shortcut_conv")
            # Each level's guide but the finest's.
            yield f"main.guides.{i - 1}", f"main_decoder.align_func_dict.Level_{2 * scale}.downsample.conv"
    yield from _head("decoder.head", "decoder.conv_out")
    yield "main.norm_out", "main_decoder.conv_out_1.0"
    yield "main.conv_out", "main_decoder.conv_out.0"


def _layers_v2(config: VQFRConfig) -> Iterator[tuple[str, str]]:
    scales = _scales(config)
    last = len(scales) - 1
    yield "guide", "inpfeat_extraction"
    yield "codebook", "quantizer.embedding"
    yield "code_norm", "feat2index.0"
    yield "code_head", "feat2index.1"
    for part, blocks, attended in (("encoder", config.encoder_blocks, last), ("decoder", config.decoder_blocks, 0)):
        yield f"{part}.conv_in", f"{part}.conv_in"
        for i in range(len(scales)):
            ours = f"{part}.levels.{i}"
            names = iter(f"{part}.blocks.{i}.{index}" for index in range(2 * blocks + 1))
            if i:
                # We count the resampling to the level before.
                yield f"{part}.levels.{i - 1}.resample.conv", f"{next(names)}.conv"
            for j in range(blocks):
                yield from _residual(f"{ours}.blocks.{j}", next(names), "residual_func")
                if i == attended:
                    yield from _attention(f"{ours}.attentions.{j}", next(names))
        yield from _residual(f"{part}.middle.block1", f"{part}.mid_blocks.0")
        yield from _attention(f"{part}.middle.attention", f"{part}.mid_blocks.1")
        yield from _residual(f"{part}.middle.block2", f"{part}.mid_blocks.2")
        yield from _head(f"{part}.head", f"{part}.conv_out")
    for i, scale in enumerate(scales[-2::-1]):
        yield f"main.upsamples.{i}.conv", f"main_branch.pre_upsample_dict.Level_{scale}.1"
        yield from _residual(f"main.merges.{i}", f"main_branch.decoder_dict.Level_{scale}", "residual_func")


def _scales(config: VQFRConfig) -> tuple[int, ...]:
    """How often smaller than the image each level is, the finest first: the published numbers of levels."""
    return tuple(2**i for i in range(len(config.level_channels)))


def _residual(ours: str, published: str, shortcut: str | None = None) -> Iterator[tuple[str, str]]:
    for name in ("norm1", "conv1", "norm2", "conv2"):
        yield f"{ours}.{name}", f"{published}.{name}"
    if shortcut:
        yield f"{ours}.shortcut", f"{published}.{shortcut}"


def _attention(ours: str, published: str) -> Iterator[tuple[str, str]]:
    for our_name, name in {"norm": "norm", "query": "q", "key": "k", "value": "v", "out": "proj_out"}.items():
        yield f"{ours}.{our_name}", f"{published}.{name}"


def _head(ours: str, published: str) -> Iterator[tuple[str, str]]:
    yield f"{ours}.norm", f"{published}.0"
    yield f"{ours}.conv", f"{published}.2"
