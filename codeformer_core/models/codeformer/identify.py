"""What a state dict is, told from its keys and shapes, never from a file's name.

What shapes can't tell is taken from what the file says about itself (`metadata.Said`), and assumed where it says
nothing: 8 attention heads (the published number), for a bare autoencoder pictures of 512 pixels, and the task whose
published checkpoint has such sizes.
"""

from __future__ import annotations

import logging
import math
import re
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ...networks.codeformer import PUBLISHED_CODEFORMER, CodeFormer, CodeFormerConfig
from ...networks.pixel_path import PixelPathConfig
from ...networks.vqgan import AutoencoderConfig, VQAutoencoder
from ...weights.metadata import ENTRY, Said, quoted
from ...weights.reading import WeightsError
from .convert import NetworkConfig, from_published, links, to_published

log = logging.getLogger(__name__)

Layout = Literal["published", "ours"]
Architecture = Literal["codeformer", "vqgan"]

TASKS: dict[Architecture, tuple[str, ...]] = {
    "codeformer": ("restoration", "colorization", "inpainting"),
    "vqgan": ("autoencoder",),
}

ASSUMED_HEADS = 8
ASSUMED_IMAGE_SIZE = 512

# Of a file that says nothing.
_SILENT = Said()

# The keys that make a state dict worth a closer look.
_PUBLISHED_SIGNATURE = ("encoder.blocks.0.weight", "quantize.embedding.weight")
_OUR_SIGNATURE = ("encoder.conv_in.weight", "codebook.weight")
_PIXEL_PATH_SIGNATURE = "pixel_path.gate_out.weight"


@dataclass(frozen=True)
class Identity:
    """architecture: "codeformer" or "vqgan"; task: "restoration", "colorization", "inpainting" or "autoencoder".
    also: tasks that the network learned beside it."""

    architecture: Architecture
    task: str
    layout: Layout
    config: NetworkConfig
    also: tuple[str, ...] = ()


def identify(state: dict[str, Tensor], source: str, said: Said | None = None) -> Identity:
    """Tell what `state` (key -> tensor) holds; `source` names it in messages, `said` is its file's own word.

    Raises WeightsError with the first missing or unexpected keys, with what the file seems to be instead, or with both
    values where its word contradicts its shapes.
    """
    said = said or _SILENT
    layout: Layout
    if all(key in state for key in _PUBLISHED_SIGNATURE):
        layout, read = "published", _read_published
    elif all(key in state for key in _OUR_SIGNATURE):
        layout, read = "ours", _read_ours
    else:
        raise WeightsError(f"{source}: {_stranger(state)}")
    try:
        config = read(state, said)
    except _ContradictionError as error:
        raise WeightsError(f"{source}: {error}") from error
    except (KeyError, ValueError, IndexError, ZeroDivisionError) as error:
        raise _unreadable(source, error, state, layout) from error
    _check_complete(state, config, layout, source)
    try:
        architecture, task = _architecture_and_task(config, said, source)
    except _ContradictionError as error:
        raise WeightsError(f"{source}: {error}") from error
    return Identity(architecture, task, layout, config, _others(said.also, architecture, task, source))


def build(
    state: dict[str, Tensor], identity: Identity, *, device=None, dtype=None, operations=torch.nn
) -> VQAutoencoder:
    """The network of `identity` with the weights of `state`, in eval mode, gradients off."""
    ours = from_published(state, identity.config) if identity.layout == "published" else state
    network = empty_network(identity.config, device=device, dtype=dtype, operations=operations)
    network.load_state_dict(ours, strict=True)
    return network.eval().requires_grad_(False)


def empty_network(config: NetworkConfig, *, device=None, dtype=None, operations=torch.nn) -> VQAutoencoder:
    """A network of these sizes with torch's initial weights. Raises ValueError for sizes that none can have."""
    options = {"device": device, "dtype": dtype, "operations": operations}
    if isinstance(config, CodeFormerConfig):
        return CodeFormer(config, **options)
    return VQAutoencoder(config, **options)


class _ContradictionError(WeightsError):
    """The file's word doesn't fit its shapes."""

    def __init__(self, key: str, value: str, found: str) -> None:
        super().__init__(
            f"its header says {ENTRY}.{key} = {value}, but {found}. The header was changed, or belongs to other "
            "weights; export the network again from its training run"
        )


def _architecture_and_task(config: NetworkConfig, said: Said, source: str) -> tuple[Architecture, str]:
    is_codeformer = isinstance(config, CodeFormerConfig)
    architecture: Architecture = "codeformer" if is_codeformer else "vqgan"
    if said.architecture is not None and said.architecture != architecture:
        raise _ContradictionError("architecture", quoted(said.architecture), f'its keys are those of "{architecture}"')
    task = _task(config) if is_codeformer else "autoencoder"
    if said.task is None or said.task in TASKS[architecture]:
        return architecture, said.task or task
    if any(said.task in tasks for tasks in TASKS.values()):
        fitting = " or ".join(TASKS[architecture])
        raise _ContradictionError("task", quoted(said.task), f'its keys are those of "{architecture}", for {fitting}')
    log.warning(
        "%s: its header says %s.task = %s, which this program doesn't know; taken for %s by its sizes",
        source,
        ENTRY,
        quoted(said.task),
        task,
    )
    return architecture, task


def _others(also: tuple[str, ...], architecture: Architecture, task: str, source: str) -> tuple[str, ...]:
    """A program that knows fewer tasks than the file was trained for can do those it knows."""
    known = tuple(other for other in also if other in TASKS[architecture] and other != task)
    if unknown := [other for other in also if other not in TASKS[architecture]]:
        log.warning(
            "%s: its header's %s.tasks names %s, which is no task of a %s; left out",
            source,
            ENTRY,
            quoted(unknown[0]),
            architecture,
        )
    return known


def _task(config: CodeFormerConfig) -> str:
    """The published checkpoints differ in their sizes: see the table in the parity contract."""
    if config.fuse_sizes == (32, 64, 128):
        return "inpainting" if config.autoencoder.codebook_size == 512 else "colorization"
    return "restoration"


def _read_published(state: dict[str, Tensor], said: Said) -> NetworkConfig:
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
        said=said,
    )
    if "position_emb" not in state:
        return autoencoder
    width = state["position_emb"].shape[1]
    return CodeFormerConfig(
        autoencoder=autoencoder,
        width=width,
        layers=_count(state, r"ft_layers\.(\d+)\."),
        heads=_heads(width, said),
        mlp_width=state["ft_layers.0.linear1.weight"].shape[0],
        fuse_sizes=_fuse_sizes(state, r"fuse_convs_dict\.(\d+)\."),
    )


def _read_ours(state: dict[str, Tensor], said: Said) -> NetworkConfig:
    levels = _count(state, r"encoder\.levels\.(\d+)\.")
    blocks = _count(state, r"encoder\.levels\.0\.blocks\.(\d+)\.")
    autoencoder = _autoencoder(
        channels=tuple(state[f"encoder.levels.{i}.blocks.0.conv2.weight"].shape[0] for i in range(levels)),
        base_channels=state["encoder.conv_in.weight"].shape[0],
        residual_blocks=blocks,
        attention_levels=[i for i in range(levels) if f"encoder.levels.{i}.attentions.0.norm.weight" in state],
        codebook=state["codebook.weight"],
        positions=state.get("position.weight"),
        said=said,
    )
    if "position.weight" not in state:
        return autoencoder
    width = state["position.weight"].shape[1]
    return CodeFormerConfig(
        autoencoder=autoencoder,
        width=width,
        layers=_count(state, r"layers\.(\d+)\."),
        heads=_heads(width, said),
        mlp_width=state["layers.0.mlp_in.weight"].shape[0],
        fuse_sizes=_fuse_sizes(state, r"fusions\.(\d+)\."),
        pixel_path=_pixel_path(state, said),
    )


def _autoencoder(
    *,
    channels: tuple[int, ...],
    base_channels: int,
    residual_blocks: int,
    attention_levels: list[int],
    codebook: Tensor,
    positions: Tensor | None,
    said: Said,
) -> AutoencoderConfig:
    image_size = _image_size(2 ** (len(channels) - 1), positions, said)
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


def _image_size(shrink: int, positions: Tensor | None, said: Said) -> int:
    """The position embedding tells it; a bare autoencoder has none and would take pictures of any size."""
    if positions is not None:
        image_size = math.isqrt(positions.shape[0]) * shrink
        if said.image_size not in (None, image_size):
            raise _ContradictionError("image_size", str(said.image_size), f"its shapes are for {image_size} pixels")
        return image_size
    if "image_size" in said.unusable:
        raise _ContradictionError("image_size", said.unusable["image_size"], "a number of pixels is needed here")
    if said.image_size is None:
        return ASSUMED_IMAGE_SIZE
    if said.image_size % shrink:
        raise _ContradictionError("image_size", str(said.image_size), f"its levels need a multiple of {shrink}")
    return said.image_size


def _heads(width: int, said: Said) -> int:
    """Another number than it was trained with gives no error and other faces: what was said must be usable."""
    if "heads" in said.unusable:
        raise _ContradictionError("heads", said.unusable["heads"], f"a divisor of its width {width} is needed here")
    if said.heads is None:
        return ASSUMED_HEADS
    if width % said.heads:
        raise _ContradictionError("heads", str(said.heads), f"its width {width} can't be divided into so many")
    return said.heads


def _pixel_path(state: dict[str, Tensor], said: Said) -> PixelPathConfig | None:
    """The gate's shapes tell how many bands there are; only the file's word tells where they are cut."""
    gate = state.get(_PIXEL_PATH_SIGNATURE)
    if gate is None:
        return None
    bands, width = gate.shape[:2]
    if "pixel_path" in said.unusable:
        raise _ContradictionError(
            "pixel_path", said.unusable["pixel_path"], "a list of sigmas in pixels is needed here"
        )
    if said.pixel_path is None or len(said.pixel_path) + 1 != bands:
        value = "nothing" if said.pixel_path is None else str(list(said.pixel_path))
        raise _ContradictionError("pixel_path", value, f"its gate has {bands} bands, which {bands - 1} sigmas cut")
    return PixelPathConfig(said.pixel_path, width)


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
    try:
        expected = empty_network(config, device="meta").state_dict()
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
