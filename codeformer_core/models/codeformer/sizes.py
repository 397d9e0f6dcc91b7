"""Sizes of CodeFormers and their autoencoders, read from shapes, in the published layout and in ours.

What shapes can't tell is taken from the file's metadata, and assumed where there is none: 8 attention heads (the
published number), and for an autoencoder by itself images of 512 pixels.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from torch import Tensor

from ...networks.codeformer import CodeFormerConfig
from ...networks.vqgan import AutoencoderConfig
from ...weights.metadata import CheckpointMetadata
from ..architecture import ASSUMED_IMAGE_SIZE, ContradictionError, Layout
from ..pixel_path import read_pixel_path

ASSUMED_HEADS = 8

# Only these tell an image size.
_POSITIONS: dict[Layout, str] = {"published": "position_emb", "ours": "position.weight"}


def read_codeformer(state: Mapping[str, Tensor], layout: Layout, metadata: CheckpointMetadata) -> CodeFormerConfig:
    """Sizes of a CodeFormer. Raises as `Architecture.read_config`."""
    published = layout == "published"
    positions = state[_POSITIONS[layout]]
    width = positions.shape[1]
    layers, mlp_in = ("ft_layers", "linear1") if published else ("layers", "mlp_in")
    return CodeFormerConfig(
        autoencoder=read_autoencoder(state, layout, metadata),
        width=width,
        layers=_count(state, rf"{layers}\.(\d+)\."),
        heads=_heads(width, metadata),
        mlp_width=state[f"{layers}.0.{mlp_in}.weight"].shape[0],
        fuse_sizes=_fuse_sizes(state, r"fuse_convs_dict\.(\d+)\." if published else r"fusions\.(\d+)\."),
        pixel_path=None if published else read_pixel_path(state, metadata),
    )


def read_autoencoder(state: Mapping[str, Tensor], layout: Layout, metadata: CheckpointMetadata) -> AutoencoderConfig:
    """Sizes of an autoencoder, also of the one in a CodeFormer. Raises as `Architecture.read_config`."""
    if layout == "published":
        levels = _published_levels(state)
        channels = tuple(
            state[f"encoder.blocks.{[i for kind, i in level if kind == 'residual'][-1]}.conv2.weight"].shape[0]
            for level in levels
        )
        residual_blocks = sum(kind == "residual" for kind, _ in levels[0])
        attention_levels = [i for i, level in enumerate(levels) if any(kind == "attention" for kind, _ in level)]
        conv_in, codebook = state["encoder.blocks.0.weight"], state["quantize.embedding.weight"]
    else:
        count = _count(state, r"encoder\.levels\.(\d+)\.")
        channels = tuple(state[f"encoder.levels.{i}.blocks.0.conv2.weight"].shape[0] for i in range(count))
        residual_blocks = _count(state, r"encoder\.levels\.0\.blocks\.(\d+)\.")
        attention_levels = [i for i in range(count) if f"encoder.levels.{i}.attentions.0.norm.weight" in state]
        conv_in, codebook = state["encoder.conv_in.weight"], state["codebook.weight"]
    base_channels = conv_in.shape[0]
    image_size = _image_size(2 ** (len(channels) - 1), state.get(_POSITIONS[layout]), metadata)
    if any(count % base_channels for count in channels):
        raise ValueError(f"level channels {channels} are not multiples of {base_channels}")
    return AutoencoderConfig(
        image_size=image_size,
        base_channels=base_channels,
        channel_multipliers=tuple(count // base_channels for count in channels),
        residual_blocks=residual_blocks,
        attention_sizes=tuple(image_size >> level for level in attention_levels),
        codebook_size=codebook.shape[0],
        code_channels=codebook.shape[1],
    )


def _published_levels(state: Mapping[str, Tensor]) -> list[list[tuple[str, int]]]:
    """Kind and number of each of the encoder's modules, which stand in one flat list, level by level."""
    indices = sorted({int(key.split(".")[2]) for key in state if key.startswith("encoder.blocks.")})
    # Without the first convolution and, at the end, residual, attention, residual, norm, convolution.
    kinds = [(_published_kind(state, f"encoder.blocks.{i}"), i) for i in indices][1:-5]
    levels: list[list[tuple[str, int]]] = [[]]
    for kind, index in kinds:
        if kind == "resample":
            levels.append([])
        else:
            levels[-1].append((kind, index))
    return levels


def _published_kind(state: Mapping[str, Tensor], prefix: str) -> str:
    if f"{prefix}.norm1.weight" in state:
        return "residual"
    if f"{prefix}.q.weight" in state:
        return "attention"
    if f"{prefix}.conv.weight" in state:
        return "resample"
    return "plain"


def _image_size(shrink: int, positions: Tensor | None, metadata: CheckpointMetadata) -> int:
    """The position embedding tells it; an autoencoder by itself has none and would take images of any size."""
    if positions is not None:
        image_size = math.isqrt(positions.shape[0]) * shrink
        if metadata.image_size not in (None, image_size):
            raise ContradictionError("image_size", str(metadata.image_size), f"its shapes are for {image_size} pixels")
        return image_size
    if "image_size" in metadata.unusable:
        raise ContradictionError("image_size", metadata.unusable["image_size"], "a number of pixels is needed here")
    if metadata.image_size is None:
        return ASSUMED_IMAGE_SIZE
    if metadata.image_size % shrink:
        raise ContradictionError("image_size", str(metadata.image_size), f"its levels need a multiple of {shrink}")
    return metadata.image_size


def _heads(width: int, metadata: CheckpointMetadata) -> int:
    """The number of attention heads. A wrong one gives no error but other faces, so the header's must be usable."""
    if "heads" in metadata.unusable:
        raise ContradictionError("heads", metadata.unusable["heads"], f"a divisor of its width {width} is needed here")
    if metadata.heads is None:
        return ASSUMED_HEADS
    if width % metadata.heads:
        raise ContradictionError("heads", str(metadata.heads), f"its width {width} can't be divided into so many")
    return metadata.heads


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    found = {int(match[1]) for key in state if (match := re.match(pattern, key))}
    count = max(found) + 1 if found else 0
    if count > len(state):
        raise ValueError(f"number {count - 1} of {pattern!r} among {len(state)} keys")
    return count


def _fuse_sizes(state: Mapping[str, Tensor], pattern: str) -> tuple[int, ...]:
    return tuple(sorted({int(match[1]) for key in state if (match := re.match(pattern, key))}))
