"""FID: the Fréchet distance between two sets of faces as Inception v3 sees them.

Source: Heusel et al. 2017, arXiv 1706.08500. The network is torch-fidelity's, a port of the one that published FIDs are
made with; its weights are a file the user names. Shape legend: N faces, B faces of a batch, F features of one face.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from ..weights.reading import WeightsError, read_state_dict
from .kinds import Better, check_faces

FEATURES = 2048
# Eigenvalues below this share of the largest are rounding.
MIN_EXTENT = 1e-12
FIX_PACKAGE = "pip install torch-fidelity"
FIX_FILE = "give torch-fidelity's weights-inception-2015-12-05-6726825d.pth"
FIX_REFERENCE = "give a .npz or .safetensors file that holds mu (F,) and sigma (F, F)"
# A few of the network's tensors; with them a file that is something else is recognised before the network is built.
_SIGNATURE = {
    "Conv2d_1a_3x3.conv.weight": (32, 3, 3, 3),
    "Mixed_5b.branch1x1.conv.weight": (64, 192, 1, 1),
    "Mixed_7c.branch1x1.conv.weight": (320, 2048, 1, 1),
    "fc.weight": (1008, FEATURES),
}


@dataclass(frozen=True)
class Statistics:
    """Mean (F,) and covariance (F, F) of a set's features, float64."""

    mean_F: np.ndarray
    covariance_FF: np.ndarray

    def __post_init__(self) -> None:
        size = self.mean_F.size
        if self.mean_F.shape != (size,) or self.covariance_FF.shape != (size, size):
            raise ValueError(
                "statistics must be a mean (F,) and a covariance (F, F), "
                f"got {self.mean_F.shape} and {self.covariance_FF.shape}"
            )
        if not (np.isfinite(self.mean_F).all() and np.isfinite(self.covariance_FF).all()):
            raise ValueError("statistics hold values that are NaN or infinite")


def statistics_of(features_NF: np.ndarray) -> Statistics:
    """Of at least two faces; the covariance is the unbiased one."""
    if len(features_NF) < 2:
        raise ValueError(f"a covariance needs at least 2 faces, got {len(features_NF)}")
    features_NF = features_NF.astype(np.float64)
    return Statistics(features_NF.mean(axis=0), np.atleast_2d(np.cov(features_NF, rowvar=False)))


def frechet_distance(a: Statistics, b: Statistics) -> float:
    """|mean_a - mean_b|^2 + trace(A + B - 2 (A B)^1/2), at least 0.

    trace (A B)^1/2 = trace (A^1/2 B A^1/2)^1/2, whose matrix is symmetric: so its root is real even where sets smaller
    than F make the covariances singular.
    """
    if a.mean_F.shape != b.mean_F.shape:
        raise ValueError(f"the two sets have {a.mean_F.size} and {b.mean_F.size} features; take one network for both")
    import scipy.linalg

    values_F, vectors_FF = cast("tuple[np.ndarray, np.ndarray]", scipy.linalg.eigh(a.covariance_FF))
    # R of A = R R^T, without the directions in which A has no extent: R^T B R has A^1/2 B A^1/2's other eigenvalues.
    wide = values_F > values_F.max(initial=0) * MIN_EXTENT
    root_FR = vectors_FF[:, wide] * np.sqrt(values_F[wide])
    product_RR = root_FR.T @ b.covariance_FF @ root_FR
    trace_of_root = 0.0
    if wide.any():
        squares_R = cast(np.ndarray, scipy.linalg.eigh((product_RR + product_RR.T) / 2, eigvals_only=True))
        trace_of_root = float(np.sqrt(np.clip(squares_R, 0, None)).sum())
    apart = float(np.square(a.mean_F - b.mean_F).sum())
    return max(apart + float(np.trace(a.covariance_FF) + np.trace(b.covariance_FF) - 2 * trace_of_root), 0.0)


def read_statistics(path: str | os.PathLike[str]) -> Statistics:
    """mu and sigma of a .npz or .safetensors file.

    Raises WeightsError naming the file.
    """
    path = Path(path)
    try:
        if path.suffix.lower() == ".safetensors":
            arrays: Mapping[str, np.ndarray] = {key: value.numpy() for key, value in read_state_dict(path).items()}
        else:
            with np.load(path, allow_pickle=False) as loaded:
                arrays = {key: loaded[key] for key in ("mu", "sigma") if key in loaded}
        missing = [key for key in ("mu", "sigma") if key not in arrays]
        if missing:
            raise WeightsError(f"{path} holds no statistics for FID: it lacks {' and '.join(missing)}; {FIX_REFERENCE}")
        return Statistics(arrays["mu"].astype(np.float64).reshape(-1), arrays["sigma"].astype(np.float64))
    except WeightsError:
        raise
    except FileNotFoundError as error:
        raise WeightsError(f"{path} is not there; {FIX_REFERENCE}") from error
    except Exception as error:
        # A damaged archive can raise anything; all of it means it can't be used
        raise WeightsError(f"{path} holds no statistics for FID ({error}); {FIX_REFERENCE}") from error


def load_inception(weights_file: str | os.PathLike[str], device: torch.device | str = "cpu") -> nn.Module:
    """torch-fidelity's Inception v3: faces uint8 (B, 3, H, W) of any size -> a tuple with features_BF float32.

    Nothing is downloaded.

    weights_file: torch-fidelity's own.
    Raises WeightsError naming the file; ImportError when torch-fidelity isn't installed.
    """
    import torch_fidelity.feature_extractor_inceptionv3 as inception

    path = Path(weights_file)
    state = read_state_dict(path)
    wrong = [key for key, shape in _SIGNATURE.items() if key not in state or tuple(state[key].shape) != shape]
    if wrong:
        raise WeightsError(
            f"{path} holds no Inception v3 for FID: it lacks {', '.join(wrong)} or has them in other shapes; its first "
            f"keys are {', '.join(list(state)[:3])}; {FIX_FILE}"
        )
    # The package opens a path without torch's guard against code, so it gets the tensors that were read with it.
    checked = io.BytesIO()
    torch.save({key: value.clone() for key, value in state.items()}, checked)
    checked.seek(0)
    try:
        # Its layers are drawn at random before they are filled; a run's own draws must not move.
        with torch.random.fork_rng(devices=[]):
            network = cast(
                nn.Module,
                inception.FeatureExtractorInceptionV3(
                    "inception-v3-compat", [str(FEATURES)], feature_extractor_weights_path=checked
                ),
            )
    except RuntimeError as error:  # load_state_dict's way of naming keys
        raise WeightsError(f"{path} holds no Inception v3 for FID ({str(error)[:300]}); {FIX_FILE}") from error
    return network.to(device).eval().requires_grad_(False)


class Fid:
    """Fréchet Inception distance of the restored set to the clean set, or to given statistics.

    Its value depends on the number of faces: compare models on the same faces only.

    network: uint8 faces -> a tuple whose first entry is features_BF.
    """

    name = "FID"
    better: Better = "lower"

    def __init__(
        self, network: nn.Module, device: torch.device | str = "cpu", reference: Statistics | None = None
    ) -> None:
        self._network = network
        self._device = torch.device(device)
        self._reference = reference

    @property
    def has_reference(self) -> bool:
        return self._reference is not None

    @torch.no_grad()
    def features(self, faces_B3HW: Tensor) -> np.ndarray:
        check_faces(faces_B3HW, "FID's")
        levels_B3HW = (faces_B3HW * 255).round().clamp(0, 255).to(torch.uint8).to(self._device)
        return self._network(levels_B3HW)[0].cpu().double().numpy()

    def distance(self, restored_NF: np.ndarray, clean_NF: np.ndarray | None) -> float:
        if len(restored_NF) < 2 or (self._reference is None and (clean_NF is None or len(clean_NF) < 2)):
            return math.nan
        if self._reference is None:
            assert clean_NF is not None
            return frechet_distance(statistics_of(restored_NF), statistics_of(clean_NF))
        return frechet_distance(statistics_of(restored_NF), self._reference)
