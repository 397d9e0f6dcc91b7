"""A baseline that learned nothing: what classical filters make of the same degraded face.

Shape legend: B faces, H W their side, 3 colours RGB.
"""

from __future__ import annotations

import numpy as np

from ..degradation import Degradation
from .faces import CleanBatch, degraded

# Of 255. Of 3, 5, 7, 10 and 15 the one with the best mean PSNR over the presets small and large, by
# benchmarks/baseline.py on 24 faces that no network is evaluated on.
STRENGTH = 5.0


def bicubic_denoised(
    batch: CleanBatch, name: str, degradation: Degradation, seed: int, strength: float = STRENGTH
) -> np.ndarray:
    """-> faces_BHW3 uint8: as `degraded` makes them, but enlarged bicubically, then OpenCV's non-local means.

    Networks are given bilinearly enlarged faces, which are worse by 0.1 dB. Denoising before enlarging is worse too, at
    every strength. strength: for brightness and colours alike; windows of 7 and 21 pixels, OpenCV's own.
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
