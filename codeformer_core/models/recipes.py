"""How faces go through the networks of each architecture, and what a face costs there.

Shape legend: B faces, S side of an aligned crop; RGB in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..faces.components import boxes_from_five
from ..faces.geometry import CROP_SIZE, TEMPLATE_XY
from ..networks.codeformer import uses_adain

# A network of any architecture; their verbs differ.
Network = Any


@dataclass(frozen=True)
class Wish:
    """task: of the model, "restoration", ... fidelity: 0 best quality .. 1 closest to the input. parts_B44: the boxes
    of each face's parts (see `faces.parts`), or None where nobody looked; then those of the template, which the crops
    are aligned to."""

    task: str
    fidelity: float
    parts_B44: Tensor | None = None


@dataclass(frozen=True)
class Recipe:
    """uses_fidelity: whether fidelity changes anything. takes_parts: whether the boxes of the faces' parts do.

    face_size: side of its faces. floats_per_face: estimate of the activations at the widest point, in numbers;
    benchmarks/restorers.py holds it against what is taken. restore: faces_B3SS -> restored_B3SS.
    """

    uses_fidelity: Callable[[Network], bool]
    takes_parts: bool
    face_size: Callable[[Network], int]
    floats_per_face: Callable[[Network], int]
    restore: Callable[[Network, Tensor, Wish], Tensor]


def recipe_of(architecture: str) -> Recipe | None:
    """None for what can't restore faces: stage I's autoencoder."""
    return _RECIPES.get(architecture)


def _always(_network: Network) -> bool:
    return True


def _never(_network: Network) -> bool:
    return False


def _configured_size(network: Network) -> int:
    return network.config.image_size


def _usual_size(_network: Network) -> int:
    return CROP_SIZE


def _codeformer(network: Network, faces_B3SS: Tensor, wish: Wish) -> Tensor:
    return network.restore(faces_B3SS, wish.fidelity, uses_adain(wish.task))


def _vqfr(network: Network, faces_B3SS: Tensor, wish: Wish) -> Tensor:
    return network.restore(faces_B3SS, wish.fidelity)


def _dfdnet(network: Network, faces_B3SS: Tensor, wish: Wish) -> Tensor:
    parts_B44 = wish.parts_B44
    if parts_B44 is None:
        side = faces_B3SS.shape[-1]
        boxes_44 = boxes_from_five(TEMPLATE_XY * (side / CROP_SIZE), side)
        parts_B44 = torch.from_numpy(boxes_44).expand(len(faces_B3SS), -1, -1)
    return network.restore(faces_B3SS, parts_B44)


def _gfpgan(network: Network, faces_B3SS: Tensor, _wish: Wish) -> Tensor:
    # The published program draws new noise at every run; with the noise in the file the same picture gives the same
    # face.
    return network(faces_B3SS, return_rgb=False, randomize_noise=False)[0]


def _restoreformer(network: Network, faces_B3SS: Tensor, _wish: Wish) -> Tensor:
    return network(faces_B3SS)[0]


def _pixels(network: Network) -> int:
    return _configured_size(network) ** 2


_RECIPES = {
    # The published network takes 7 numbers per pixel and base channel on a CPU (460 MiB in float32); the rest is room
    # for a GPU's workspaces.
    "codeformer": Recipe(
        uses_fidelity=_always,
        takes_parts=False,
        face_size=_configured_size,
        floats_per_face=lambda network: _pixels(network) * network.config.base_channels * 12,
        restore=_codeformer,
    ),
    "vqfr": Recipe(
        uses_fidelity=lambda network: network.uses_fidelity,
        takes_parts=False,
        face_size=_configured_size,
        # Its deformable convolution unfolds the features nine times: on a CPU 22 numbers in version 1, 28 in version 2.
        floats_per_face=lambda network: _pixels(network) * network.config.base_channels * 32,
        restore=_vqfr,
    ),
    "dfdnet": Recipe(
        uses_fidelity=_never,
        takes_parts=True,
        face_size=_configured_size,
        floats_per_face=lambda network: _pixels(network) * network.config.widths[0] * 16,
        restore=_dfdnet,
    ),
    "gfpgan": Recipe(
        uses_fidelity=_never,
        takes_parts=False,
        face_size=_usual_size,
        floats_per_face=lambda _network: CROP_SIZE**2 * 1000,
        restore=_gfpgan,
    ),
    "restoreformer": Recipe(
        uses_fidelity=_never,
        takes_parts=False,
        face_size=_usual_size,
        floats_per_face=lambda _network: CROP_SIZE**2 * 1000,
        restore=_restoreformer,
    ),
}
