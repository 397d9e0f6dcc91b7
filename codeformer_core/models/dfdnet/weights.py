"""DFDNet's weights: the published three pieces -> one state dict -> our network.

Published are the network (latest_net_G.pth), a VGG19 (vgg19.pth) and 16 dictionaries, see `dictionary`. `join`
makes one state dict of them, in the published names. `from_published` turns that into ours, with all that is the same
for every face done once: spectral norms divided out, atoms brought to mean 0 and deviation 1, ImageNet's mean and
deviation as a layer. That can't be undone, so state dicts in our own names are read too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ...networks.dfdnet import PUBLISHED_DFDNET, STRIDES, DFDNet, DFDNetConfig
from ...networks.dfdnet_parts import VARIANCE_EPSILON
from ...weights.reading import WeightsError
from ...weights.state_dict import difference, key_difference
from .names import (
    ASSUMED_IMAGE_SIZE,
    DICTIONARIES,
    RGB_KEYS,
    UNUSED,
    Dictionary,
    links,
    our_keys,
    published_keys,
    sources,
    vgg_names,
)

# torchvision's mean and deviation of ImageNet, for networks saved without them.
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
FIX = (
    "Join the published network, vgg19.pth and all 16 dictionaries again (`python -m codeformer_core dictionary "
    "join`), from files downloaded whole; or take the joined file again from where it came"
)


def is_published(state: Mapping[str, object]) -> bool:
    """Whether a DFDNet's state dict is in the published layout, not in ours."""
    return not any(key.startswith("transfers.") for key in state)


def read_config(state: Mapping[str, Tensor]) -> DFDNetConfig:
    """The sizes of a joined published state dict, or of one in our names.

    Raises WeightsError that names the first missing, unexpected or misshapen tensors: what passes can be loaded.
    """
    published = is_published(state)
    _refuse(key_difference(state, published_keys() if published else our_keys()))
    keys = _published_dictionaries() if published else {piece: piece.ours for piece in DICTIONARIES}
    config = _read_sizes(state, [names[1 if published else 0] for names in vgg_names()], keys)
    _refuse(difference(state, _expected(state, config, published)))
    return config


def join(
    network: Mapping[str, Tensor], vgg: Mapping[str, Tensor] | None, dictionary: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The published three pieces as one state dict in the published names, without what is of no use.

    network: of latest_net_G.pth.
    vgg: of vgg19.pth, in torchvision's names; used where the network has no VGG of its own.
    dictionary: as `dictionary.read_dictionary` gives it, atoms (K, C, n, n) or (K, C*n*n) of each part and size.
    Raises WeightsError for a piece that is missing, unknown, misshapen or holds NaN among its atoms.
    """
    pieces = {**_constants(), **(vgg or {}), **network, **dictionary}
    joined: dict[str, Tensor] = {}
    for key in published_keys():
        found = next((name for name in sources(key) if name in pieces), None)
        if found is not None:
            joined[key] = pieces[found]
    given = {*network, *dictionary}
    if unknown := sorted(key for key in given - joined.keys() if not UNUSED.fullmatch(key)):
        raise WeightsError(f"no DFDNet has these {len(unknown)} keys, the first: {', '.join(unknown[:3])}. {FIX}")
    read_config(joined)
    for piece in DICTIONARIES:
        if not torch.isfinite(joined[piece.published]).all():
            raise WeightsError(f"{piece.published} holds numbers that are NaN or infinite. {FIX}")
    return joined


def from_published(state: Mapping[str, Tensor], config: DFDNetConfig) -> dict[str, Tensor]:
    """A joined state dict -> our keys. Raises WeightsError where a spectral norm can't be divided out."""
    converted = _normalize(state)
    for link in links():
        tensors = [_without_norm(state, name) if link.spectral else state[name] for name in link.published]
        converted[link.ours] = torch.cat(tensors) if len(tensors) > 1 else tensors[0]
    return converted | _our_atoms(state, config)


def with_dictionary(state: Mapping[str, Tensor], dictionary: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A whole DFDNet in either layout, its atoms replaced -> our keys.

    dictionary: all 16, in the published names, atoms (K, C, n, n) or (K, C*n*n); K and n may differ from before.
    Raises WeightsError for a state that is not whole, and for atoms of other channels, counts or sides.
    """
    read_config(state)
    if not is_published(state):
        convolutions = [ours for ours, _ in vgg_names()]
        config = _read_sizes({**state, **dictionary}, convolutions, _published_dictionaries())
        return {**state, **_our_atoms(dictionary, config)}
    replaced = {**state, **dictionary}
    return from_published(replaced, read_config(replaced))


def features_of(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The VGG of a DFDNet, whole in either layout or a published network by itself -> `networks.dfdnet.Features`' keys.

    Raises WeightsError where it is missing.
    """
    prefix = "features."
    if not is_published(state):
        found = {key: state[key] for key in our_keys() if key.startswith(prefix) and key in state}
    else:
        given = {**_constants(), **state}
        found = _normalize(given)
        for link in links():
            name = next((name for name in sources(link.published[0]) if name in given), None)
            if link.ours.startswith(prefix) and name is not None:
                found[link.ours] = given[name]
    if missing := sorted(key for key in our_keys() if key.startswith(prefix) and key not in found):
        raise WeightsError(
            f"there is no whole VGG19 in it: {len(missing)} tensors are missing, the first: {missing[0]}. {FIX}"
        )
    return {key.removeprefix(prefix): tensor for key, tensor in found.items()}


def read_part_sizes(state: Mapping[str, Tensor]) -> tuple[int, ...]:
    """Sides of the atoms in pixels of the face.

    The published ones where a published network has no dictionary yet, because no other tensor's shape tells them.
    """
    if not is_published(state) or any(piece.published in state for piece in DICTIONARIES):
        return read_config(state).part_sizes
    return PUBLISHED_DFDNET.part_sizes


def _normalize(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """((x + 1) / 2 - mean) / deviation as a convolution."""
    mean_3, deviation_3 = (state[key].flatten() for key in RGB_KEYS)
    return {
        "features.normalize.weight": (0.5 / deviation_3).view(3, 1, 1, 1),
        "features.normalize.bias": (0.5 - mean_3) / deviation_3,
    }


def _constants() -> dict[str, Tensor]:
    return {key: torch.tensor(value).view(1, 3, 1, 1) for key, value in zip(RGB_KEYS, _IMAGENET, strict=True)}


def _our_atoms(dictionary: Mapping[str, Tensor], config: DFDNetConfig) -> dict[str, Tensor]:
    """Atoms by their published names -> by ours, in no style."""
    converted: dict[str, Tensor] = {}
    for piece in DICTIONARIES:
        side = config.atom_side(piece.part, piece.scale)
        shape = (config.atoms, config.widths[1 + piece.scale], side, side)
        converted[piece.ours] = _in_no_style(dictionary[piece.published].reshape(shape))
    return converted


def _without_norm(state: Mapping[str, Tensor], name: str) -> Tensor:
    """The weight over its largest singular value as the stored vectors tell it, without further power iteration."""
    weight, left, right = (state[f"{name}_{piece}"] for piece in ("orig", "u", "v"))
    sigma = left.float() @ (weight.float().flatten(1) @ right.float())
    if not (torch.isfinite(sigma) and sigma > 0):
        raise WeightsError(f"{name}_u and {name}_v give the norm {float(sigma)}; it must be above 0. {FIX}")
    return (weight.float() / sigma).to(weight.dtype)


def _in_no_style(atoms_KCnn: Tensor) -> Tensor:
    """Every channel of every atom with mean 0 and (unbiased) deviation 1."""
    variance_KC11, mean_KC11 = torch.var_mean(atoms_KCnn.float(), dim=(2, 3), keepdim=True)
    return ((atoms_KCnn - mean_KC11) * (variance_KC11 + VARIANCE_EPSILON).rsqrt()).to(atoms_KCnn.dtype)


def _refuse(problem: str) -> None:
    if problem:
        raise WeightsError(f"looks like a DFDNet, but can't be used: {problem}. {FIX}")


def _published_dictionaries() -> dict[Dictionary, str]:
    return {piece: piece.published for piece in DICTIONARIES}


def _read_sizes(
    state: Mapping[str, Tensor], convolutions: Sequence[str], keys: Mapping[Dictionary, str]
) -> DFDNetConfig:
    """Sizes from shapes.

    convolutions: keys of the first convolution of each of VGG's blocks.
    keys: of the atoms.
    """
    widths: list[int] = []
    for convolution in convolutions:
        key = f"{convolution}.weight"
        if state[key].dim() != 4:
            raise WeightsError(f"this DFDNet's {key} has the shape {tuple(state[key].shape)}, not 4 axes. {FIX}")
        widths.append(len(state[key]))
    found = {piece: _count_and_side(state, key, widths[1 + piece.scale]) for piece, key in keys.items()}
    first = DICTIONARIES[0]
    atoms = found[first][0]
    for piece, (count, _) in found.items():
        if count != atoms:
            raise WeightsError(
                f"{keys[first]} has {atoms} atoms and {keys[piece]} has {count}; all dictionaries need as many. {FIX}"
            )
    part_sizes = tuple(STRIDES[0] * side for piece, (_, side) in found.items() if piece.scale == 0)
    try:
        config = DFDNetConfig(ASSUMED_IMAGE_SIZE, tuple(widths), atoms, part_sizes)
    except ValueError as error:
        raise WeightsError(f"this DFDNet's sizes can't be: {error}. {FIX}") from error
    for piece, (_, side) in found.items():
        if side != (wanted := config.atom_side(piece.part, piece.scale)):
            raise WeightsError(
                f"{keys[piece]} has atoms of {side}x{side} pixels instead of {wanted}x{wanted}, as the finest scale of "
                f"this part asks for. {FIX}"
            )
    return config


def _count_and_side(state: Mapping[str, Tensor], key: str, channels: int) -> tuple[int, int]:
    """K and n of (K, C, n, n) or (K, C*n*n) atoms."""
    shape = tuple(state[key].shape)
    numbers = math.prod(shape[1:])
    side = math.isqrt(numbers // channels) if channels else 0
    if side == 0 or shape[1:] not in ((channels * side * side,), (channels, side, side)):
        raise WeightsError(f"{key} has the shape {shape}; its atoms must be squares in {channels} channels. {FIX}")
    return shape[0], side


def _expected(state: Mapping[str, Tensor], config: DFDNetConfig, published: bool) -> dict[str, Tensor]:
    """The shapes that `state` should have.

    Published dictionaries, whose atoms may have two axes or four, keep their own: the config was read from them.
    """
    ours = DFDNet(config, device="meta").state_dict()
    if not published:
        return ours
    shapes = {key: torch.Size((1, 3, 1, 1)) for key in RGB_KEYS}
    shapes |= {piece.published: state[piece.published].shape for piece in DICTIONARIES}
    for link in links():
        whole = ours[link.ours].shape
        shape = torch.Size((whole[0] // len(link.published), *whole[1:]))
        vectors = {"orig": shape, "u": shape[:1], "v": torch.Size((shape[1:].numel(),))}
        for name in link.published:
            shapes |= {f"{name}_{piece}": vectors[piece] for piece in vectors} if link.spectral else {name: shape}
    return {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
