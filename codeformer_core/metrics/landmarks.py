"""Landmark distance: whether eyes, nose and mouth are where they were in the clean face.

Shape legend: B faces, H W height and width.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ..faces.detection import FaceDetector
from ..faces.types import Face
from .kinds import Better, check_pair


class LandmarkDistance:
    """Mean distance of a detector's five points, in percent of the clean face's eye distance; 0 for equal faces.

    NaN where the detector finds no face in one of the two.
    """

    name = "landmarks"
    better: Better = "lower"

    def __init__(self, detector: FaceDetector) -> None:
        self._detector = detector

    @torch.no_grad()
    def measure(self, restored_B3HW: Tensor, clean_B3HW: Tensor) -> Tensor:
        check_pair(restored_B3HW, clean_B3HW)
        pairs = zip(self._middle_faces(restored_B3HW), self._middle_faces(clean_B3HW), strict=True)
        return torch.tensor([landmark_distance(restored, clean) for restored, clean in pairs], dtype=torch.float64)

    def _middle_faces(self, faces_B3HW: Tensor) -> list[Face | None]:
        """Of each image the face nearest to its middle; a passer-by may have the better score."""
        height, width = faces_B3HW.shape[2:]
        middle = ((width - 1) / 2, (height - 1) / 2)
        found = self._detector.detect(faces_B3HW.float().permute(0, 2, 3, 1).contiguous())
        return [min(faces, key=lambda face: math.dist(face.center_xy, middle), default=None) for faces in found]


def landmark_distance(restored: Face | None, clean: Face | None) -> float:
    """In percent of the clean face's eye distance; NaN without both faces."""
    if restored is None or clean is None or clean.eye_distance == 0:
        return math.nan
    apart = np.linalg.norm(restored.landmarks_array() - clean.landmarks_array(), axis=1).mean()
    return float(100 * apart / clean.eye_distance)
