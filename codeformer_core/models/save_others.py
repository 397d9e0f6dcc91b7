"""A restorer that is no CodeFormer as a file that comes back as the same one."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from ..weights.metadata import Said
from ..weights.reading import WeightsError
from . import spandrel_models as borrowed
from .codeformer.save import plain, write
from .relatives import find_relative


def save_other(path: Path, network: nn.Module, architecture: str, image_size: int, *, dtype: torch.dtype) -> None:
    """Write `network` to `path`, X.safetensors: whole, or not at all; an older file is replaced.

    architecture: "vqfr" and "dfdnet" are written in our names, "gfpgan" and "restoreformer" in the published ones,
    which are those of their modules. image_size: side of its faces. dtype: float32, bfloat16 or float16. Raises
    ValueError for weights that are NaN, infinite, too large for dtype, or that would not be read again; OSError when
    the disk is full or can't be written.
    """
    state = {key: plain(path, key, tensor, dtype) for key, tensor in network.state_dict().items()}
    _check_comes_back(path, state, network, architecture)
    write(path, state, Said(architecture, "restoration", image_size).to_header())


def _check_comes_back(path: Path, state: dict[str, Tensor], network: nn.Module, architecture: str) -> None:
    if borrowed.claims(state) == architecture:
        return
    try:
        found = find_relative(state, str(path))
    except WeightsError as error:
        raise ValueError(f"this network could not be read again: {error}") from error
    if found is None or found.architecture != architecture or found.config != network.config:
        raise ValueError(f"{path}: a {architecture} of these sizes could not be read again: {network.config}")
