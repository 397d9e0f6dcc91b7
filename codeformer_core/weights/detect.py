"""What a state dict is, told from its keys and shapes alone, never from a file's name.

What shapes can't tell is assumed and said here: 8 attention heads (the published number), and for a bare
autoencoder pictures of 512 pixels.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..networks.codeformer import PUBLISHED_CODEFORMER, CodeFormer, CodeFormerConfig
from ..networks.vqgan import AutoencoderConfig, VQAutoencoder
from .convert import NetworkConfig, from_published, links, to_published
from .load import WeightsError

Layout = Literal["published", "ours"]

ASSUMED_HEADS = 8
ASSUMED_IMAGE_SIZE = 512

# The keys that make a state dict worth a closer look.
_PUBLISHED_SIGNATURE = ("encoder.blocks.0.weight", "quantize.embedding.weight")
_OUR_SIGNATURE = ("encoder.conv_in.weight", "codebook.weight")


@dataclass(frozen=True)
class Identity:
    """architecture: "codeformer" or "vqgan"; task: "restoration", "colorization", "inpainting" or "autoencoder"."""

    architecture: str
    task: str
    layout: Layout
    config: NetworkConfig


def identify(state: dict[str, Tensor], source: str) -> Identity:
    """Tell what `state` (key -> tensor) holds; `source` names it in messages.

    Raises WeightsError with the first missing or unexpected keys, or with what the file seems to be instead.
    """
    layout: Layout
    if all(key in state for key in _PUBLISHED_SIGNATURE):
        layout, read = "published", _read_published
    elif all(key in state for key in _OUR_SIGNATURE):
        layout, read = "ours", _read_ours
    else:
        raise WeightsError(f"{source}: {_stranger(state)}")
    try:
        config = read(state)
    except (KeyError, ValueError, IndexError, ZeroDivisionError) as error:
        raise _unreadable(source, error, state, layout) from error
    _check_complete(state, config, layout, source)
    if isinstance(config, CodeFormerConfig):
        return Identity("codeformer", _task(config), layout, config)
    return Identity("vqgan", "autoencoder", layout, config)


def build(
    state: dict[str, Tensor], identity: Identity, *, device=None, dtype=None, operations=torch.nn
) -> VQAutoencoder:
    """The network of `identity` with the weights of `state`, in eval mode, gradients off."""
    ours = from_published(state, identity.config) if identity.layout == "published" else state
    options = {"device": device, "dtype": dtype, "operations": operations}
    network = (
        CodeFormer(identity.config, **options)
        if isinstance(identity.config, CodeFormerConfig)
        else VQAutoencoder(identity.config, **options)
    )
    network.load_state_dict(ours, strict=True)
    return network.eval().requires_grad_(False)


def _task(config: CodeFormerConfig) -> str:
    """The published checkpoints differ in their sizes: see the table in the parity contract."""
    if config.fuse_sizes == (32, 64, 128):
        return "inpainting" if config.autoencoder.codebook_size == 512 else "colorization"
    return "restoration"


def _read_published(state: dict[str, Tensor]) -> NetworkConfig:
    indices = sorted({int(key.split(".")[2]) for key in state if key.startswith("encoder.blocks.")})
    # Without the first convolution and, at the end, residual, attention, residual, norm, convolution.
    kinds = [(_published_kind(state, f"encoder.blocks.{i}"), i) for i in indices][1:-5]
    levels: list[list[tuple[str, int]]] = [[]]
    for kind, index in kinds:
        if kind == "resample":
            levels.append([])
        else:
            levels[-1].append((kind, index))
    channels = tuple(
        state[f"encoder.blocks.{[i for kind, i in level if kind == 'residual'][-1]}.conv2.weight"].shape[0]
        for level in levels
    )
    autoencoder = _autoencoder(
        channels=channels,
        base_channels=state["encoder.blocks.0.weight"].shape[0],
        residual_blocks=sum(kind == "residual" for kind, _ in levels[0]),
        attention_levels=[i for i, level in enumerate(levels) if any(kind == "attention" for kind, _ in level)],
        codebook=state["quantize.embedding.weight"],
        positions=state.get("position_emb"),
    )
    if "position_emb" not in state:
        return autoencoder
    return CodeFormerConfig(
        autoencoder=autoencoder,
        width=state["position_emb"].shape[1],
        layers=_count(state, r"ft_layers\.(\d+)\."),
        heads=ASSUMED_HEADS,
        mlp_width=state["ft_layers.0.linear1.weight"].shape[0],
        fuse_sizes=_fuse_sizes(state, r"fuse_convs_dict\.(\d+)\."),
    )


def _read_ours(state: dict[str, Tensor]) -> NetworkConfig:
    levels = _count(state, r"encoder\.levels\.(\d+)\.")
    blocks = _count(state, r"encoder\.levels\.0\.blocks\.(\d+)\.")
    autoencoder = _autoencoder(
        channels=tuple(state[f"encoder.levels.{i}.blocks.0.conv2.weight"].shape[0] for i in range(levels)),
        base_channels=state["encoder.conv_in.weight"].shape[0],
        residual_blocks=blocks,
        attention_levels=[i for i in range(levels) if f"encoder.levels.{i}.attentions.0.norm.weight" in state],
        codebook=state["codebook.weight"],
        positions=state.get("position.weight"),
    )
    if "position.weight" not in state:
        return autoencoder
    return CodeFormerConfig(
        autoencoder=autoencoder,
        width=state["position.weight"].shape[1],
        layers=_count(state, r"layers\.(\d+)\."),
        heads=ASSUMED_HEADS,
        mlp_width=state["layers.0.mlp_in.weight"].shape[0],
        fuse_sizes=_fuse_sizes(state, r"fusions\.(\d+)\."),
    )


def _autoencoder(
    *,
    channels: tuple[int, ...],
    base_channels: int,
    residual_blocks: int,
    attention_levels: list[int],
    codebook: Tensor,
    positions: Tensor | None,
) -> AutoencoderConfig:
    shrink = 2 ** (len(channels) - 1)
    image_size = ASSUMED_IMAGE_SIZE if positions is None else math.isqrt(positions.shape[0]) * shrink
    if any(count % base_channels for count in channels):
        raise ValueError(f"level channels {channels} are no multiples of {base_channels}")
    return AutoencoderConfig(
        image_size=image_size,
        base_channels=base_channels,
        channel_multipliers=tuple(count // base_channels for count in channels),
        residual_blocks=residual_blocks,
        attention_sizes=tuple(image_size >> level for level in attention_levels),
        codebook_size=codebook.shape[0],
        code_channels=codebook.shape[1],
    )


def _published_kind(state: dict[str, Tensor], prefix: str) -> str:
    if f"{prefix}.norm1.weight" in state:
        return "residual"
    if f"{prefix}.q.weight" in state:
        return "attention"
    if f"{prefix}.conv.weight" in state:
        return "resample"
    return "plain"


def _count(state: dict[str, Tensor], pattern: str) -> int:
    found = {int(match[1]) for key in state if (match := re.match(pattern, key))}
    count = max(found) + 1 if found else 0
    if count > len(state):
        raise ValueError(f"number {count - 1} of {pattern!r} among {len(state)} keys")
    return count


def _fuse_sizes(state: dict[str, Tensor], pattern: str) -> tuple[int, ...]:
    return tuple(sorted({int(match[1]) for key in state if (match := re.match(pattern, key))}))


def _check_complete(state: dict[str, Tensor], config: NetworkConfig, layout: Layout, source: str) -> None:
    """Every key there, none left over, every shape as the config says; else WeightsError with the first ones."""
    expected = _expected_keys(config, layout)
    problems = []
    if missing := sorted(expected - state.keys()):
        problems.append(f"{len(missing)} missing keys, the first: {', '.join(missing[:3])}")
    if unexpected := sorted(state.keys() - expected):
        problems.append(f"{len(unexpected)} unexpected keys, the first: {', '.join(unexpected[:3])}")
    if not problems:
        problems = _no_weights(state)
    if not problems:
        problems = _wrong_shapes(state, config, layout, source)
    if problems:
        raise WeightsError(
            f"{source}: looks like a CodeFormer checkpoint, but has {'; '.join(problems)}. "
            "The file is incomplete or of another version; download it again."
        )


def _no_weights(state: dict[str, Tensor]) -> list[str]:
    """Whole numbers load without an error and make garbage of every face."""
    wrong = [key for key, tensor in state.items() if not tensor.is_floating_point()]
    return [f"{len(wrong)} tensors of another kind of number, the first: {key} {state[key].dtype}" for key in wrong[:1]]


def _wrong_shapes(state: dict[str, Tensor], config: NetworkConfig, layout: Layout, source: str) -> list[str]:
    """Compared in the file's own layout: only tensors of the right shapes can be converted."""
    network_class = CodeFormer if isinstance(config, CodeFormerConfig) else VQAutoencoder
    try:
        with torch.device("meta"):
            expected = network_class(config).state_dict()  # pyright: ignore[reportArgumentType]
    except ValueError as error:
        raise _unreadable(source, error, state, layout) from error
    if layout == "published":
        expected = to_published(expected, config)
    wrong = [key for key, tensor in expected.items() if state[key].shape != tensor.shape]
    return [
        f"{len(wrong)} tensors of another shape, the first: {key} {tuple(state[key].shape)} "
        f"instead of {tuple(expected[key].shape)}"
        for key in wrong[:1]
    ]


def _unreadable(source: str, error: Exception, state: dict[str, Tensor], layout: Layout) -> WeightsError:
    """Where a key that tells a size is absent, what else is absent can only be said of the published network."""
    missing = sorted(_expected_keys(PUBLISHED_CODEFORMER, layout) - state.keys())
    if isinstance(error, ValueError):
        reason = str(error)
    elif missing:
        reason = f"{len(missing)} keys of the published network are missing, the first: {', '.join(missing[:3])}"
    else:
        reason = "a tensor has an impossible shape"
    return WeightsError(
        f"{source}: looks like a CodeFormer checkpoint, but its sizes can't be read: {reason}. "
        "The file is incomplete or of another version; download it again."
    )


def _expected_keys(config: NetworkConfig, layout: Layout) -> set[str]:
    return {name for link in links(config) for name, _ in getattr(link, layout)}


# A key that only this kind of checkpoint has -> what to tell the user about it.
_STRANGERS = (
    ("stylegan_decoder.style_mlp.1.weight", "a GFPGAN checkpoint"),
    ("BboxHead.0.conv1x1.weight", "a RetinaFace detector; use it in Load Face Detector"),
    ("module.BboxHead.0.conv1x1.weight", "a RetinaFace detector; use it in Load Face Detector"),
    ("res_0.0.conv1.conv2d.weight", "a ParseNet face parser"),
    ("conv_first.weight", "an upscaler; use it in Load Upscale Model"),
    ("model.diffusion_model.input_blocks.0.0.weight", "a Stable Diffusion checkpoint"),
    ("first_stage_model.encoder.conv_in.weight", "a Stable Diffusion checkpoint"),
)


def _stranger(state: dict[str, Tensor]) -> str:
    for key, what in _STRANGERS:
        if key in state:
            return f"this is {what}, not a CodeFormer checkpoint"
    first = ", ".join(sorted(state)[:3]) or "none at all"
    missing = ", ".join(key for key in _PUBLISHED_SIGNATURE if key not in state)
    return (
        f"no known face restorer has these keys (first: {first}). "
        f"Missing for a CodeFormer: {missing}. Choose codeformer.pth or its safetensors copy."
    )
