"""VQFR checkpoints: told from their keys, sizes read from shapes, the published layout <-> ours, both ways and exact.

Every layer of ours is one published layer, so converting needs no more than a table of their names. Names of the
published layout: TencentARC/VQFR, seen in its checkpoints' keys.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Literal

from torch import Tensor, nn

from ..networks.blocks import Operations
from ..networks.vqfr_blocks import KERNEL_TAPS, VQFRConfig
from ..networks.vqfr_v1 import PUBLISHED_VQFR_V1, VQFRv1, VQFRv1Config
from ..networks.vqfr_v2 import PUBLISHED_VQFR_V2, VQFRv2, VQFRv2Config
from ..weights.reading import WeightsError

Version = Literal[1, 2]

# The networks take pictures of other sizes too, so shapes don't tell it.
ASSUMED_IMAGE_SIZE = 512

# Only a VQFR has keys that begin so.
_PUBLISHED_MAIN: dict[Version, str] = {1: "main_decoder.align_func_dict.", 2: "main_branch.align_func_dict."}
_OUR_MAIN = "main.warps."
_OURS_IN_V1 = ("main.guides.", "to_code.", "from_code.")
# What training keeps about the use of the codebook.
_COUNTERS = re.compile(r"quantizer\.(.*\.)?(usage$|reestimation_reservoir\.)")


def claims(state: Mapping[str, Tensor]) -> bool:
    """Whether these keys are a VQFR's: of either version, in the published layout or ours, all of them or not."""
    return _version(state) is not None


def read_config(state: Mapping[str, Tensor], source: str = "the given state dict") -> VQFRv1Config | VQFRv2Config:
    """The sizes of the VQFR in `state`; their type tells the version. `source` names it in messages.

    Raises WeightsError with the first missing or unexpected keys and how many there are, or with a wrong shape.
    """
    version = _version(state)
    if version is None:
        raise WeightsError(f"{source}: no key of a VQFR is among its {len(state)}. Choose a VQFR checkpoint.")
    published = is_published(state)
    state = {key: tensor for key, tensor in state.items() if not _COUNTERS.match(key)}
    try:
        config = (_read_published if published else _read_ours)(state, version)
        # Also what only a network notices: a number of channels that its norms can't have.
        expected = empty_network(config, device="meta").state_dict()
    except (KeyError, IndexError) as error:
        whole = PUBLISHED_VQFR_V1 if version == 1 else PUBLISHED_VQFR_V2
        expected = empty_network(whole, device="meta").state_dict()
        missing = (to_published(expected, whole) if published else expected).keys() - state.keys()
        reason = _first(missing, "keys of the published network are missing") or "a tensor has an impossible shape"
        raise _broken(source, version, reason) from error
    except ValueError as error:
        raise _broken(source, version, f"its sizes are impossible: {error}") from error
    problem = _difference(state, to_published(expected, config) if published else expected)
    if problem:
        raise _broken(source, version, problem)
    return config


def is_published(state: Mapping[str, Tensor]) -> bool:
    """Whether `state` is a VQFR in the published layout, not in ours."""
    return any(key.startswith(tuple(_PUBLISHED_MAIN.values())) for key in state)


def build(
    state: Mapping[str, Tensor],
    config: VQFRv1Config | VQFRv2Config,
    *,
    device=None,
    dtype=None,
    operations: Operations = nn,
) -> VQFRv1 | VQFRv2:
    """The network of `config` with the weights of `state` (either layout), in eval mode, gradients off."""
    network = empty_network(config, device=device, dtype=dtype, operations=operations)
    ours = from_published(state, config) if is_published(state) else dict(state)
    network.load_state_dict(ours, strict=True)
    return network.eval().requires_grad_(False)


def empty_network(
    config: VQFRv1Config | VQFRv2Config, *, device=None, dtype=None, operations: Operations = nn
) -> VQFRv1 | VQFRv2:
    """A network of these sizes with torch's initial weights. Raises ValueError for sizes that none can have."""
    if isinstance(config, VQFRv1Config):
        return VQFRv1(config, device=device, dtype=dtype, operations=operations)
    return VQFRv2(config, device=device, dtype=dtype, operations=operations)


def from_published(state: Mapping[str, Tensor], config: VQFRv1Config | VQFRv2Config) -> dict[str, Tensor]:
    """Published keys -> our keys. Training's counters are dropped."""
    return _renamed(state, {published: ours for ours, published in layers(config)})


def to_published(state: Mapping[str, Tensor], config: VQFRv1Config | VQFRv2Config) -> dict[str, Tensor]:
    """Our keys -> published keys."""
    return _renamed(state, dict(layers(config)))


def _renamed(state: Mapping[str, Tensor], names: dict[str, str]) -> dict[str, Tensor]:
    renamed: dict[str, Tensor] = {}
    for key, tensor in state.items():
        layer, _, parameter = key.rpartition(".")
        if layer in names:
            renamed[f"{names[layer]}.{parameter}"] = tensor
    return renamed


def layers(config: VQFRv1Config | VQFRv2Config) -> Iterator[tuple[str, str]]:
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
    """How often smaller than the picture each level is, the finest first: the published numbers of levels."""
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


def _version(state: Mapping[str, Tensor]) -> Version | None:
    for version, prefix in _PUBLISHED_MAIN.items():
        if any(key.startswith(prefix) for key in state):
            return version
    if not any(key.startswith(_OUR_MAIN) for key in state):
        return None
    return 1 if any(key.startswith(_OURS_IN_V1) for key in state) else 2


def _read_published(state: Mapping[str, Tensor], version: Version) -> VQFRv1Config | VQFRv2Config:
    main = _PUBLISHED_MAIN[version]
    scales = _numbers(state, re.escape(main) + r"Level_(\d+)\.")
    if version == 1:
        encoder_block, decoder_block = (
            rf"{part}\.{part}_dict\.Level_1\.(\d+)\.conv1\." for part in ("encoder", "decoder")
        )
        codebook, guide = f"quantizer.quantize_dict.Level_{scales[-1]}.embedding.weight", "inpfeat_extraction.conv"
    else:
        encoder_block, decoder_block = (
            rf"{part}\.blocks\.{level}\.(\d+)\.conv1\."
            for part, level in (("encoder", 0), ("decoder", len(scales) - 1))
        )
        codebook, guide = "quantizer.embedding.weight", "inpfeat_extraction"
    warps = [f"{main}Level_{scale}.dcn" for scale in scales]
    steer = state[f"{warps[0]}.conv_offset.weight"]
    return _config(state, version, warps, steer, encoder_block, decoder_block, codebook, f"{guide}.weight")


def _read_ours(state: Mapping[str, Tensor], version: Version) -> VQFRv1Config | VQFRv2Config:
    levels = _numbers(state, re.escape(_OUR_MAIN) + r"(\d+)\.")
    warps = [f"{_OUR_MAIN}{i}.warp" for i in levels[::-1]]
    steer = state[f"{_OUR_MAIN}{levels[-1]}.steer.weight"]
    encoder_block = r"encoder\.levels\.0\.blocks\.(\d+)\.conv1\."
    decoder_block = rf"decoder\.levels\.{levels[-1]}\.blocks\.(\d+)\.conv1\."
    return _config(state, version, warps, steer, encoder_block, decoder_block, "codebook.weight", "guide.weight")


def _config(
    state: Mapping[str, Tensor],
    version: Version,
    warps: list[str],
    steer: Tensor,
    encoder_block: str,
    decoder_block: str,
    codebook: str,
    guide: str,
) -> VQFRv1Config | VQFRv2Config:
    """warps: names of the warping layers, the finest first; blocks: patterns of those of the finest level."""
    return (VQFRv1Config if version == 1 else VQFRv2Config)(
        image_size=ASSUMED_IMAGE_SIZE,
        level_channels=tuple(state[f"{name}.weight"].shape[0] for name in warps),
        encoder_blocks=len(_numbers(state, encoder_block)),
        decoder_blocks=len(_numbers(state, decoder_block)),
        codebook_size=state[codebook].shape[0],
        code_channels=state[codebook].shape[1],
        guide_channels=state[guide].shape[0],
        deformable_groups=steer.shape[0] // (3 * KERNEL_TAPS),
    )


def _numbers(state: Mapping[str, Tensor], pattern: str) -> list[int]:
    return sorted({int(match[1]) for key in state if (match := re.match(pattern, key))})


def _difference(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    """What is wrong with `state`, or nothing."""
    problems = [
        _first(expected.keys() - state.keys(), "missing keys"),
        _first(state.keys() - expected.keys(), "unexpected keys"),
    ]
    if not any(problems):
        # Whole numbers would load without an error and make garbage of every face.
        problems.append(
            _first([key for key in expected if not state[key].is_floating_point()], "tensors of another kind of number")
        )
        wrong = {key: tensor.shape for key, tensor in state.items() if tensor.shape != expected[key].shape}
        shapes = [f"{key} {tuple(shape)} instead of {tuple(expected[key].shape)}" for key, shape in wrong.items()]
        problems.append(_first(shapes, "tensors of another shape"))
    return "; ".join(filter(None, problems))


def _first(found: Collection[str], what: str) -> str:
    return f"{len(found)} {what}, the first: {', '.join(sorted(found)[:3])}" if found else ""


def _broken(source: str, version: Version, problem: str) -> WeightsError:
    return WeightsError(
        f"{source}: looks like a VQFR v{version} checkpoint, but can't be used: {problem}. "
        "The file is incomplete or of another version; download it again."
    )
