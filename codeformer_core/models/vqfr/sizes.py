"""Version and sizes of a VQFR, read from keys and shapes, in the published layout and in ours."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from torch import Tensor

from ...networks.vqfr_blocks import KERNEL_TAPS
from ...networks.vqfr_v1 import VQFRv1Config
from ...networks.vqfr_v2 import VQFRv2Config
from ..architecture import ASSUMED_IMAGE_SIZE
from .names import VQFRSizes

Version = Literal[1, 2]

# Only a VQFR has keys that begin so.
PUBLISHED_MAIN: dict[Version, str] = {1: "main_decoder.align_func_dict.", 2: "main_branch.align_func_dict."}
OUR_MAIN = "main.warps."
_OURS_IN_V1 = ("main.guides.", "to_code.", "from_code.")


def version_of(state: Mapping[str, object]) -> Version | None:
    """None for what is not a VQFR."""
    for version, prefix in PUBLISHED_MAIN.items():
        if any(key.startswith(prefix) for key in state):
            return version
    if not any(key.startswith(OUR_MAIN) for key in state):
        return None
    return 1 if any(key.startswith(_OURS_IN_V1) for key in state) else 2


def read_published(state: Mapping[str, Tensor], version: Version) -> VQFRSizes:
    main = PUBLISHED_MAIN[version]
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


def read_ours(state: Mapping[str, Tensor], version: Version) -> VQFRSizes:
    levels = _numbers(state, re.escape(OUR_MAIN) + r"(\d+)\.")
    warps = [f"{OUR_MAIN}{i}.warp" for i in levels[::-1]]
    steer = state[f"{OUR_MAIN}{levels[-1]}.steer.weight"]
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
) -> VQFRSizes:
    """The sizes, from shapes.

    warps: names of the warping layers, the finest first.
    encoder_block, decoder_block: patterns of the names of the finest level's blocks.
    """
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
