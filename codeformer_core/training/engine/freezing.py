"""The parts of a network by name: which learn and which keep every bit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ...networks.codeformer import CodeFormer
from ...networks.vqgan import VQNetwork

# A config's word -> top-level modules.
MODULES = {
    "encoder": ("encoder",),
    "codebook": ("codebook",),
    "generator": ("generator",),
    "transformer": ("token_in", "position", "layers"),
    "head": ("norm_out", "code_head"),
    "fusion": ("fusions",),
    "pixel_path": ("pixel_path",),
}

# A gate of sigmoid(-1) = 0.27: open enough for a gradient, shut enough to let little damage through.
GATE_BIAS = -1.0


def freeze_all_but(network: VQNetwork, parts: tuple[str, ...]) -> None:
    """Only the named parts get gradients. Raises ValueError for a part that the network doesn't have."""
    network.requires_grad_(False)
    for part in parts:
        for name in MODULES[part]:
            if getattr(network, name, None) is None:
                raise ValueError(f"train: a {type(network).__name__} has no {part}; leave it out for this stage")
            getattr(network, name).requires_grad_(True)


def trained_parameters(network: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


def parameter_groups(network: nn.Module, factors: Mapping[str, float]) -> list[dict[str, Any]]:
    """What learns, as an optimiser takes it: parts with a factor of their own apart, with it under "factor"."""
    factor_of = {module: factor for part, factor in factors.items() for module in MODULES[part]}
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            groups.setdefault(factor_of.get(name.split(".")[0], 1.0), []).append(parameter)
    return [{"params": parameters, "factor": factor} for factor, parameters in groups.items()]


def initialise(network: VQNetwork, seed: int) -> None:
    """Weights before training: torch's own for all layers; the codebook uniform in +-1/K; the position embedding 0, and
    the fusion's last convolutions, so that it begins by changing nothing; the pixel path's gates nearly shut.

    Drawn after seeding, so that every process begins with the same.
    """
    torch.manual_seed(seed)
    for module in network.modules():
        if module is not network and hasattr(module, "reset_parameters"):
            module.reset_parameters()  # pyright: ignore[reportCallIssue]
    size = network.codebook.num_embeddings
    nn.init.uniform_(network.codebook.weight, -1 / size, 1 / size)
    if isinstance(network, CodeFormer):
        nn.init.zeros_(network.position.weight)
        for fusion in network.fusions.values():
            for layer in (fusion.scale_out, fusion.shift_out):
                zero(layer)
        if network.pixel_path is not None:
            zero(network.pixel_path.gate_out, GATE_BIAS)


def zero(layer: nn.Conv2d, bias: float = 0.0) -> None:
    """Weights of 0, and this bias."""
    assert layer.bias is not None
    nn.init.zeros_(layer.weight)
    nn.init.constant_(layer.bias, bias)
