"""Restorers that spandrel, the host's library of networks, opens: GFPGAN (1.2 to 1.4) and RestoreFormer."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from ..weights.reading import WeightsError

Borrowed = Literal["gfpgan", "restoreformer"]

_SIGNATURES: dict[Borrowed, tuple[str, ...]] = {
    "gfpgan": ("toRGB.0.weight", "stylegan_decoder.style_mlp.1.weight"),
    "restoreformer": ("quantize.embedding.weight", "encoder.down.0.block.0.norm1.weight", "decoder.conv_out.weight"),
}
_TITLES: dict[Borrowed, str] = {"gfpgan": "GFPGAN", "restoreformer": "RestoreFormer"}
# Of RestoreFormer's training checkpoints, which hold losses beside the network.
_PREFIX = "vqvae."


def claims(state: Mapping[str, Tensor]) -> Borrowed | None:
    """Which of them these keys are, whole or not."""
    keys = _bare(state).keys()
    return next((name for name, signature in _SIGNATURES.items() if keys >= set(signature)), None)


def open_borrowed(
    state: Mapping[str, Tensor], architecture: Borrowed, source: str, device: torch.device | str, dtype: torch.dtype
) -> nn.Module:
    """The network, in eval mode, gradients off. `source` names the file in messages.

    Raises WeightsError where spandrel is missing or can't make a network of these weights.
    """
    try:
        from spandrel import ModelLoader
    except ImportError as error:
        raise WeightsError(
            f"{source} is a {_TITLES[architecture]}, whose network comes with the package spandrel, and that can't be "
            f"imported here ({error}). Cure: pip install spandrel (ComfyUI brings it), or choose another model"
        ) from error
    try:
        found = ModelLoader("cpu").load_from_state_dict(dict(_bare(state)))
    except Exception as error:  # spandrel has no common error of its own
        # It lists every single key.
        reason = textwrap.shorten(str(error), 250, placeholder=" ...")
        raise WeightsError(
            f"{source}: looks like a {_TITLES[architecture]}, but spandrel can't open it: {reason}. The file is "
            "incomplete or of another version; download it again."
        ) from error
    if found.architecture.id.lower() != architecture:
        raise WeightsError(
            f"{source}: looks like a {_TITLES[architecture]}, and spandrel takes it for {found.architecture.id}"
        )
    if whole_numbers := _whole_numbers(found.model, _bare(state)):
        # They would load without an error and make garbage of every face.
        raise WeightsError(
            f"{source}: looks like a {_TITLES[architecture]}, but {len(whole_numbers)} of its tensors hold whole "
            f"numbers where floats belong, the first: {whole_numbers[0]}. The file is damaged; download it again."
        )
    network = found.model.to(device, dtype)
    return network.eval().requires_grad_(False)


def _whole_numbers(network: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    expected = network.state_dict()
    return [
        key
        for key, tensor in state.items()
        if key in expected and expected[key].is_floating_point() and not tensor.is_floating_point()
    ]


def _bare(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    inner = {key.removeprefix(_PREFIX): tensor for key, tensor in state.items() if key.startswith(_PREFIX)}
    return inner or state
