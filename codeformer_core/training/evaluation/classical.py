"""Baselines that learned nothing: what classical filters make of the same degraded face.

Shape legend: B faces, H W their side, 3 colours RGB.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np

from ...degradation import Degradation
from ...degradation.ranges import REFERENCE_SIZE
from .faces import CleanBatch, degraded

# Of 255. Of 3, 5, 7, 10 and 15 the one with the best mean PSNR over the presets small and large, by
# benchmarks/baseline.py on 24 faces that no network is evaluated on.
STRENGTH = 5.0
# The usual unsharp mask of image editors: a Gaussian of 2 pixels on a 512 face, its difference added once.
UNSHARP_SIGMA, UNSHARP_AMOUNT = 2.0, 1.0


@dataclass(frozen=True)
class Baseline:
    """A filter to compare with.

    name: the row's method.
    make: (clean batch, degradation's name, degradation, seed) -> faces_BHW3 uint8.
    """

    name: str
    make: Callable[[CleanBatch, str, Degradation, int], np.ndarray]


def bicubic_denoised(
    batch: CleanBatch, name: str, degradation: Degradation, seed: int, strength: float = STRENGTH
) -> np.ndarray:
    """faces_BHW3 uint8: as `degraded` makes them, but enlarged bicubically, then OpenCV's non-local means.

    Networks are given bilinearly enlarged faces, which are worse by 0.1 dB. Denoising before enlarging is worse too, at
    every strength.

    strength: for brightness and colours alike; windows of 7 and 21 pixels, OpenCV's own.
    """
    return denoised(degraded(batch, name, degradation, seed, bicubic=True), strength)


def denoised(faces_BHW3: np.ndarray, strength: float) -> np.ndarray:
    """uint8 RGB to the same."""
    import cv2

    return np.stack(
        [
            cv2.fastNlMeansDenoisingColored(np.ascontiguousarray(face_HW3[..., ::-1]), None, strength, strength)[
                ..., ::-1
            ]
            for face_HW3 in faces_BHW3
        ]
    )


def unsharp_masked(batch: CleanBatch, name: str, degradation: Degradation, seed: int) -> np.ndarray:
    """faces_BHW3 uint8: x + amount (x - blur(x)) of each degraded face x, as `degraded` makes it."""
    return sharpened(degraded(batch, name, degradation, seed))


def sharpened(faces_BHW3: np.ndarray, sigma: float = UNSHARP_SIGMA, amount: float = UNSHARP_AMOUNT) -> np.ndarray:
    """uint8 RGB to the same.

    sigma: in pixels of a 512 face, scaled for other sizes.
    """
    import cv2

    scaled = sigma * faces_BHW3.shape[2] / REFERENCE_SIZE
    made: list[np.ndarray] = []
    for face_HW3 in faces_BHW3.astype(np.float32):
        smooth_HW3 = cast(np.ndarray, cv2.GaussianBlur(face_HW3, (0, 0), scaled))
        sharp_HW3 = face_HW3 + amount * (face_HW3 - smooth_HW3)
        made.append(np.rint(sharp_HW3.clip(0, 255)).astype(np.uint8))
    return np.stack(made)


BICUBIC_NLM = Baseline("bicubic + NLM", bicubic_denoised)
UNSHARP = Baseline("unsharp mask", unsharp_masked)
BASELINES = (BICUBIC_NLM, UNSHARP)
