"""NIQE: how far an image's local statistics are from those of good photographs; needs no clean image.

Source: Mittal, Soundararajan, Bovik 2013, "Making a completely blind image quality analyzer"; its AGGD fits by matching
moments are those of Lasmar et al. 2009. Computed on the luma Y in 16..235, in blocks of 96 pixels at full and of 48 at
half size.
Shape legend: N blocks, H W height and width, F = 36 features, B faces.
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..weights.folders import ASSETS_FOLDER
from ..weights.reading import WeightsError
from .kinds import Better, check_pair

# BasicSR's, which comes with this package; see assets/README.md.
PARAMETERS_FILE = ASSETS_FOLDER / "niqe_pris_params.npz"
BLOCK = 96
FEATURES = 36
# Window of the local mean and deviation, and the constant that keeps flat places from dividing by zero (paper, eq. 1).
WINDOW, WINDOW_SIGMA, FLAT = 7, 7 / 6, 1.0
ROUNDING = 1e-9
# Neighbours (down, right) whose products are fitted (paper, eq. 5 to 8).
NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))
# BT.601 of RGB in [0, 1] to 16..235
LUMA, LUMA_OFFSET = (65.481, 128.553, 24.966), 16.0
# The shapes that a fit may find, and for each its ratio E|x|^2 / E x^2.
SHAPES = np.arange(0.2, 10.0005, 0.001)


@dataclass(frozen=True)
class PristineModel:
    """Mean (36,) and covariance (36, 36) of the features of good photographs, float64."""

    mean_F: np.ndarray
    covariance_FF: np.ndarray

    def __post_init__(self) -> None:
        if self.mean_F.shape != (FEATURES,) or self.covariance_FF.shape != (FEATURES, FEATURES):
            raise ValueError(
                f"NIQE's pristine model must have a mean of {FEATURES} numbers and a covariance of "
                f"{FEATURES}x{FEATURES}, got {self.mean_F.shape} and {self.covariance_FF.shape}"
            )
        if not (np.isfinite(self.mean_F).all() and np.isfinite(self.covariance_FF).all()):
            raise ValueError("NIQE's pristine model holds values that are NaN or infinite")


def read_pristine_model(path: str | os.PathLike[str] = PARAMETERS_FILE) -> PristineModel:
    """The model in a file like BasicSR's niqe_pris_params.npz (mu_pris_param, cov_pris_param).

    path: .npz; default: the file that comes with this package.
    Raises WeightsError naming the file.
    """
    path = Path(path)
    keys = ("mu_pris_param", "cov_pris_param")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            missing = [key for key in keys if key not in arrays]
            if missing:
                raise WeightsError(
                    f"{path} is not a NIQE model: it lacks {', '.join(missing)}; in it: {', '.join(arrays.files[:5])}. "
                    "Give basicsr's niqe_pris_params.npz"
                )
            mean_F, covariance_FF = (np.asarray(arrays[key], dtype=np.float64) for key in keys)
        return PristineModel(mean_F.reshape(-1), covariance_FF)
    except WeightsError:
        raise
    except FileNotFoundError as error:
        raise WeightsError(f"{path} is not there; give basicsr's niqe_pris_params.npz") from error
    except Exception as error:
        # A damaged archive can raise anything; all of it means it can't be used
        raise WeightsError(f"{path} is not a NIQE model ({error}). Give basicsr's niqe_pris_params.npz") from error


class Niqe:
    """NIQE of the restored face; lower is better. The clean one is ignored.

    NaN for a face with fewer than two blocks of 96x96 pixels that aren't flat.
    """

    name = "NIQE"
    better: Better = "lower"

    def __init__(self, pristine: PristineModel) -> None:
        self._pristine = pristine

    def measure(self, restored_B3HW: Tensor, clean_B3HW: Tensor) -> Tensor:
        check_pair(restored_B3HW, clean_B3HW)
        faces_BHW3 = restored_B3HW.permute(0, 2, 3, 1).cpu().double().numpy()
        return torch.tensor([niqe(luma(face_HW3), self._pristine) for face_HW3 in faces_BHW3], dtype=torch.float64)


def luma(face_HW3: np.ndarray) -> np.ndarray:
    """Y_HW, whole numbers 16..235 as float64.

    face_HW3: RGB in [0, 1].
    """
    return np.rint(face_HW3 @ np.asarray(LUMA) + LUMA_OFFSET)


def niqe(luma_HW: np.ndarray, pristine: PristineModel) -> float:
    """The distance of an image's statistics to the pristine ones (paper, eq. 10).

    luma_HW: 16..235.
    """
    features_NF = image_features(luma_HW)
    whole_NF = features_NF[np.isfinite(features_NF).all(axis=1)]
    if len(whole_NF) < 2:
        return float("nan")
    apart_F = pristine.mean_F - whole_NF.mean(axis=0)
    covariance_FF = (pristine.covariance_FF + np.cov(whole_NF, rowvar=False)) / 2
    return float(np.sqrt(max(apart_F @ np.linalg.pinv(covariance_FF) @ apart_F, 0.0)))


def image_features(luma_HW: np.ndarray) -> np.ndarray:
    """features_NF of the whole blocks, 18 at full size and 18 at half; NaN where a block is flat.

    luma_HW: 16..235.
    """
    rows, columns = (side // BLOCK for side in luma_HW.shape)
    if not rows * columns:
        return np.empty((0, FEATURES))
    luma_HW = luma_HW[: rows * BLOCK, : columns * BLOCK]
    return np.hstack(
        [
            block_features(in_blocks(normalised(luma_HW), BLOCK)),
            block_features(in_blocks(normalised(half_size(luma_HW)), BLOCK // 2)),
        ]
    )


def normalised(luma_HW: np.ndarray) -> np.ndarray:
    """Mean subtracted, contrast normalised (MSCN, paper eq. 1): (Y - local mean) / (local deviation + 1)."""
    import scipy.ndimage

    offsets = np.arange(WINDOW) - WINDOW // 2
    weights = np.exp(-0.5 * (offsets / WINDOW_SIGMA) ** 2)
    weights /= weights.sum()

    def smooth(values_HW: np.ndarray) -> np.ndarray:
        smooth_HW = cast(np.ndarray, scipy.ndimage.correlate1d(values_HW, weights, 0, mode="nearest"))
        return cast(np.ndarray, scipy.ndimage.correlate1d(smooth_HW, weights, 1, mode="nearest"))

    mean_HW = smooth(luma_HW)
    deviation_HW = np.sqrt(np.abs(smooth(luma_HW**2) - mean_HW**2))
    difference_HW = luma_HW - mean_HW
    # Where the window is flat the difference is zero but for rounding, whose sign would be taken for a side.
    difference_HW[np.abs(difference_HW) < ROUNDING] = 0
    return difference_HW / (deviation_HW + FLAT)


def half_size(luma_HW: np.ndarray) -> np.ndarray:
    """Bicubic (a = -0.5) with the kernel widened against aliasing, the border mirrored, as the authors resize."""
    margin = 8
    padded_HW = torch.from_numpy(np.pad(luma_HW, margin, mode="symmetric"))[None, None]
    size = (padded_HW.shape[2] // 2, padded_HW.shape[3] // 2)
    half_HW = F.interpolate(padded_HW, size=size, mode="bicubic", align_corners=False, antialias=True)[0, 0]
    return half_HW[margin // 2 : -margin // 2, margin // 2 : -margin // 2].numpy()


def in_blocks(values_HW: np.ndarray, side: int) -> np.ndarray:
    """blocks_NSS.

    values_HW: both sides are multiples of `side`.
    """
    rows, columns = values_HW.shape[0] // side, values_HW.shape[1] // side
    return values_HW.reshape(rows, side, columns, side).swapaxes(1, 2).reshape(-1, side, side)


def block_features(blocks_NSS: np.ndarray) -> np.ndarray:
    """(N, 18): shape and mean width of the values; shape, mean, left and right width of four neighbours' products.

    A block's right neighbour at its border is the block's other border, as in the authors' program.
    """
    shape_N, left_N, right_N = fit_asymmetric(blocks_NSS)
    features = [shape_N, (left_N + right_N) / 2]
    for down, right in NEIGHBOURS:
        products_NSS = blocks_NSS * np.roll(blocks_NSS, (down, right), axis=(1, 2))
        shape_N, left_N, right_N = fit_asymmetric(products_NSS)
        features += [shape_N, (right_N - left_N) * _mean_over_width(shape_N), left_N, right_N]
    return np.stack(features, axis=1)


def fit_asymmetric(blocks_NSS: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An asymmetric generalised Gaussian for every block by its moments: shape_N, left and right width beta_N.

    NaN for blocks without values on both sides of zero.
    """
    values_NM = blocks_NSS.reshape(len(blocks_NSS), -1)
    left_N, right_N = (_deviation(values_NM, values_NM < 0), _deviation(values_NM, values_NM > 0))
    with np.errstate(invalid="ignore", divide="ignore"):
        skew_N = left_N / right_N
        ratio_N = np.abs(values_NM).mean(1) ** 2 / (values_NM**2).mean(1)
        ratio_N = ratio_N * (skew_N**3 + 1) * (skew_N + 1) / (skew_N**2 + 1) ** 2
    shape_N = np.where(np.isfinite(ratio_N), _nearest_shape(ratio_N), np.nan)
    return shape_N, left_N * _width_over_deviation(shape_N), right_N * _width_over_deviation(shape_N)


def _deviation(values_NM: np.ndarray, wanted_NM: np.ndarray) -> np.ndarray:
    """Root mean square of the wanted values of every row; NaN where there are none."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.sqrt((values_NM**2 * wanted_NM).sum(1) / wanted_NM.sum(1))


def _nearest_shape(ratio_N: np.ndarray) -> np.ndarray:
    """The one of SHAPES whose ratio E|x|^2 / E x^2 is nearest; the ratio grows with the shape."""
    ratios = _ratios()
    above_N = np.clip(np.searchsorted(ratios, np.nan_to_num(ratio_N)), 1, len(SHAPES) - 1)
    nearer_below_N = ratio_N - ratios[above_N - 1] <= ratios[above_N] - ratio_N
    return SHAPES[above_N - nearer_below_N]


@functools.cache
def _ratios() -> np.ndarray:
    """E|x|^2 / E x^2 of every one of SHAPES."""
    from scipy.special import gamma

    ratios = gamma(2 / SHAPES) ** 2 / (gamma(1 / SHAPES) * gamma(3 / SHAPES))
    ratios.setflags(write=False)
    return ratios


def _width_over_deviation(shape_N: np.ndarray) -> np.ndarray:
    from scipy.special import gamma

    return np.sqrt(gamma(1 / shape_N) / gamma(3 / shape_N))


def _mean_over_width(shape_N: np.ndarray) -> np.ndarray:
    from scipy.special import gamma

    return gamma(2 / shape_N) / gamma(1 / shape_N)
