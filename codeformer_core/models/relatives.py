"""Restorers that are no CodeFormer, told from their keys: VQFR and DFDNet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..networks.blocks import Operations
from ..networks.dfdnet import DFDNetConfig
from ..weights.reading import WeightsError
from . import vqfr
from .codeformer.identify import Layout
from .dfdnet import weights as dfdnet

RelativeConfig = Any


@dataclass(frozen=True)
class Relative:
    """architecture: "vqfr" or "dfdnet"; published: in the names of those who published it, not in ours."""

    architecture: str
    published: bool
    config: RelativeConfig


def find_relative(state: Mapping[str, Tensor], source: str) -> Relative | None:
    """None for what none of them claims. Raises WeightsError for one that is not whole; `source` names it."""
    if vqfr.claims(state):
        return Relative("vqfr", vqfr.is_published(state), vqfr.read_config(state, source))
    if dfdnet.claims(state):
        try:
            return Relative("dfdnet", dfdnet.is_published(state), dfdnet.read_config(state))
        except WeightsError as error:
            raise WeightsError(f"{source}: {error}") from error
    return None


def in_layout(state: Mapping[str, Tensor], relative: Relative, layout: Layout) -> dict[str, Tensor]:
    """`state` in the published names or in ours. Raises WeightsError where there is no way back."""
    if relative.published == (layout == "published"):
        return dict(state)
    config = relative.config
    if not isinstance(config, DFDNetConfig):
        return (vqfr.from_published if relative.published else vqfr.to_published)(state, config)
    if relative.published:
        return dfdnet.from_published(state, config)
    raise WeightsError("a DFDNet in our names has no way back to the published ones: take the file it was made of")


def build_relative(
    state: Mapping[str, Tensor], relative: Relative, *, device=None, dtype=None, operations: Operations = torch.nn
) -> nn.Module:
    """The network with the weights of `state`, in eval mode, gradients off."""
    place = {"device": device, "dtype": dtype, "operations": operations}
    if isinstance(relative.config, DFDNetConfig):
        return dfdnet.build(state, relative.config, **place)
    return vqfr.build(state, relative.config, **place)
