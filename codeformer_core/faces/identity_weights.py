"""The face recognition network that comes with the pack: eight-bit weights, made into float32 when they are loaded.

A tensor in the file is float, or uint8 with `NAME.range` beside it: (scale, minimum), value = uint8 * scale + minimum.
A convolution has `weight`, `bias`, and `factor` and `offset` per channel, applied to what it gives.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from ..networks.face_recognition import FaceRecognition
from ..weights.folders import ASSETS_FOLDER
from ..weights.reading import WeightsError, read_state_dict

FILENAME = "face_recognition.safetensors"
_RANGE = ".range"


def load_face_recognition(path: str | os.PathLike[str] = ASSETS_FOLDER / FILENAME) -> FaceRecognition:
    """The network, frozen, float32, on the CPU.

    path: the file that comes with the pack, or one made like it.
    Raises WeightsError for any other file.
    """
    path = Path(path)
    network = FaceRecognition()
    state = read_state_dict(path)
    try:
        folded = fold_channel_scales(dequantized(state))
    except KeyError as error:
        raise _not_the_network(path, f"{error.args[0]} is missing") from error
    for key, wanted in network.state_dict().items():
        if key not in folded:
            raise _not_the_network(path, f"{key} is missing")
        if folded[key].shape != wanted.shape:
            raise _not_the_network(path, f"{key} is {tuple(folded[key].shape)}, expected {tuple(wanted.shape)}")
    network.load_state_dict(folded)
    return network.requires_grad_(False).eval()


def _not_the_network(path: Path, why: str) -> WeightsError:
    return WeightsError(
        f"{path} does not hold the face recognition network: {why}. Reinstall this package, which contains the file"
    )


def dequantized(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All tensors in float32.

    Raises KeyError for a uint8 tensor without its range.
    """
    values: dict[str, Tensor] = {}
    for key, tensor in state.items():
        if key.endswith(_RANGE):
            continue
        values[key] = tensor.float()
        if not tensor.is_floating_point():
            scale, minimum = state[key + _RANGE]
            values[key] = values[key] * scale + minimum
    return values


def fold_channel_scales(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """(w * x + bias) * factor + offset as one convolution: the keys of `FaceRecognition`."""
    folded = {"head.weight": state["head.weight"]}
    for key in state:
        layer, _, what = key.rpartition(".")
        if what == "factor":
            factor_C = state[key]
            folded[f"{layer}.weight"] = state[f"{layer}.weight"] * factor_C[:, None, None, None]
            folded[f"{layer}.bias"] = state[f"{layer}.bias"] * factor_C + state[f"{layer}.offset"]
    return folded
