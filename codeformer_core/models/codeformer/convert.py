"""Published checkpoint layout <-> ours, both ways and exact.

A link says: these tensors of ours, joined along their first axis, are those published tensors joined the same way.
Most links rename one tensor; three kinds join or split (attention's query+key and value; the first convolutions of
scale and shift). Names of the published layout: sczhou/CodeFormer at b33cc7d, seen in its checkpoints' keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ...networks.codeformer import CodeFormerConfig
from ...networks.vqgan import AutoencoderConfig

NetworkConfig = AutoencoderConfig | CodeFormerConfig


@dataclass(frozen=True)
class Link:
    """Names with their shares of the common first axis: (("query_key.weight", 2), ("value.weight", 1))."""

    ours: tuple[tuple[str, int], ...]
    published: tuple[tuple[str, int], ...]


def from_published(state: Mapping[str, Tensor], config: NetworkConfig) -> dict[str, Tensor]:
    """Published keys -> our keys. Keys without a link are dropped; `Architecture.read` has refused them before."""
    converted: dict[str, Tensor] = {}
    for link in links(config):
        converted |= _carry(state, link.published, link.ours)
    return converted


def to_published(state: Mapping[str, Tensor], config: NetworkConfig) -> dict[str, Tensor]:
    """Our keys -> published keys."""
    converted: dict[str, Tensor] = {}
    for link in links(config):
        converted |= _carry(state, link.ours, link.published)
    return converted


def _carry(
    state: Mapping[str, Tensor], source: tuple[tuple[str, int], ...], target: tuple[tuple[str, int], ...]
) -> dict[str, Tensor]:
    parts = [state[name] for name, _ in source]
    joined = parts[0] if len(parts) == 1 else torch.cat(parts)
    if len(target) == 1:
        return {target[0][0]: joined}
    unit = joined.shape[0] // sum(share for _, share in target)
    pieces = torch.split(joined, [unit * share for _, share in target])
    return {name: piece.clone() for (name, _), piece in zip(target, pieces, strict=True)}


def links(config: NetworkConfig) -> Iterator[Link]:
    """All links of a network, in the published order of modules."""
    autoencoder = config.autoencoder if isinstance(config, CodeFormerConfig) else config
    yield _renamed("codebook.weight", "quantize.embedding.weight")
    yield from _encoder_links(autoencoder)
    yield from _generator_links(autoencoder)
    if isinstance(config, CodeFormerConfig):
        yield from _transformer_links(config)
        for size in config.fuse_sizes:
            yield from _fusion_links(f"fusions.{size}", f"fuse_convs_dict.{size}")
        if config.pixel_path is not None:
            # No published network has one: the names stay, so that nothing is lost on the way.
            for name in ("gate_in", "gate_middle", "gate_face", "gate_out"):
                yield from _layer(f"pixel_path.{name}", f"pixel_path.{name}")


def _renamed(ours: str, published: str) -> Link:
    return Link(((ours, 1),), ((published, 1),))


def _layer(ours: str, published: str) -> Iterator[Link]:
    for parameter in ("weight", "bias"):
        yield _renamed(f"{ours}.{parameter}", f"{published}.{parameter}")


def _residual(ours: str, published: str, changes_channels: bool) -> Iterator[Link]:
    for name in ("norm1", "conv1", "norm2", "conv2"):
        yield from _layer(f"{ours}.{name}", f"{published}.{name}")
    if changes_channels:
        yield from _layer(f"{ours}.shortcut", f"{published}.conv_out")


def _attention(ours: str, published: str) -> Iterator[Link]:
    for our_name, published_name in {
        "norm": "norm",
        "query": "q",
        "key": "k",
        "value": "v",
        "out": "proj_out",
    }.items():
        yield from _layer(f"{ours}.{our_name}", f"{published}.{published_name}")


class _Numbered:
    """Published modules of the autoencoder stand in one flat list: hands out `encoder.blocks.0`, `.1`, ..."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.index = -1

    def next(self) -> str:
        self.index += 1
        return f"{self.prefix}.{self.index}"


def _encoder_links(config: AutoencoderConfig) -> Iterator[Link]:
    published = _Numbered("encoder.blocks")
    yield from _layer("encoder.conv_in", published.next())
    yield from _level_links(config, "encoder", config.level_sizes, config.base_channels, "resample.conv", published)
    yield from _middle_links("encoder.middle", published)
    yield from _layer("encoder.norm_out", published.next())
    yield from _layer("encoder.conv_out", published.next())


def _generator_links(config: AutoencoderConfig) -> Iterator[Link]:
    published = _Numbered("generator.blocks")
    sizes = config.level_sizes[::-1]
    yield from _layer("generator.conv_in", published.next())
    yield from _middle_links("generator.middle", published)
    yield from _level_links(config, "generator", sizes, config.channels_at(sizes[0]), "resample.conv", published)
    yield from _layer("generator.norm_out", published.next())
    yield from _layer("generator.conv_out", published.next())


def _middle_links(ours: str, published: _Numbered) -> Iterator[Link]:
    yield from _residual(f"{ours}.block1", published.next(), changes_channels=False)
    yield from _attention(f"{ours}.attention", published.next())
    yield from _residual(f"{ours}.block2", published.next(), changes_channels=False)


def _level_links(
    config: AutoencoderConfig,
    part: str,
    sizes: tuple[int, ...],
    channels: int,
    resample: str,
    published: _Numbered,
) -> Iterator[Link]:
    for i, size in enumerate(sizes):
        level = f"{part}.levels.{i}"
        for j in range(config.residual_blocks):
            changes = channels != config.channels_at(size)
            channels = config.channels_at(size)
            yield from _residual(f"{level}.blocks.{j}", published.next(), changes)
            if size in config.attention_sizes:
                yield from _attention(f"{level}.attentions.{j}", published.next())
        if i < len(sizes) - 1:
            yield from _layer(f"{level}.{resample}", f"{published.next()}.conv")


def _transformer_links(config: CodeFormerConfig) -> Iterator[Link]:
    yield _renamed("position.weight", "position_emb")
    yield from _layer("token_in", "feat_emb")
    for i in range(config.layers):
        ours, published = f"layers.{i}", f"ft_layers.{i}"
        for parameter in ("weight", "bias"):
            yield Link(
                ((f"{ours}.query_key.{parameter}", 2), (f"{ours}.value.{parameter}", 1)),
                ((f"{published}.self_attn.in_proj_{parameter}", 3),),
            )
        for our_name, published_name in {
            "out": "self_attn.out_proj",
            "mlp_in": "linear1",
            "mlp_out": "linear2",
            "norm1": "norm1",
            "norm2": "norm2",
        }.items():
            yield from _layer(f"{ours}.{our_name}", f"{published}.{published_name}")
    yield from _layer("norm_out", "idx_pred_layer.0")
    yield _renamed("code_head.weight", "idx_pred_layer.1.weight")


def _fusion_links(ours: str, published: str) -> Iterator[Link]:
    yield from _residual(f"{ours}.merge", f"{published}.encode_enc", changes_channels=True)
    for parameter in ("weight", "bias"):
        yield Link(
            ((f"{ours}.scale_shift_in.{parameter}", 2),),
            ((f"{published}.scale.0.{parameter}", 1), (f"{published}.shift.0.{parameter}", 1)),
        )
    yield from _layer(f"{ours}.scale_out", f"{published}.scale.2")
    yield from _layer(f"{ours}.shift_out", f"{published}.shift.2")
