"""The parts of a face drawn from its mesh: a `FaceParser` that needs no download, and knows no hair, ears or neck.

Shape legend: B faces, H W height and width, S side of an aligned crop, N = 468 points, P points of a polygon.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ..runtime.packages import import_for_faces
from . import mesh_topology as mesh
from .contour import contour_masks
from .face_mesh import BYTES_PER_FACE, MAX_PER_PASS, NAME, find_mesh
from .masks import face_shape_mask
from .parsing import FaceParser
from .yaw import yaw_of_landmarks

# The regions of `choices.REGIONS` that it tells apart.
MESH_REGIONS = ("skin", "eyes", "brows", "nose", "mouth")
# The mesh ends on the upper forehead. By so much of its height, from the chin to there, the middle of the forehead goes
# on; less towards the temples, where it ends at the hair. By eye: the mask's soft edge lies along the hairline.
FOREHEAD_RISE = 0.12
# Degrees. Turned further, the mesh often reaches past the far cheek; by eye, on 60 faces turned by 20 degrees and more.
MAX_YAW = 45.0
# ParseNet's classes (CelebAMask-HQ), drawn in this order, one over the other.
_SKIN = 1
_PARTS: tuple[tuple[int, tuple[int, ...]], ...] = (
    (2, mesh.NOSE_CONTOUR),
    (4, mesh.LEFT_EYE_CONTOUR),
    (5, mesh.RIGHT_EYE_CONTOUR),
    (6, mesh.LEFT_BROW_CONTOUR),
    (7, mesh.RIGHT_BROW_CONTOUR),
    (10, (*mesh.UPPER_LIP_BELOW, *mesh.LOWER_LIP_ABOVE[::-1])),
    (11, (*mesh.UPPER_LIP_ABOVE, *mesh.UPPER_LIP_BELOW[::-1])),
    (12, (*mesh.LOWER_LIP_ABOVE, *mesh.LOWER_LIP_BELOW[::-1])),
)
# Vertices are drawn to a 16th of a pixel.
_SHIFT = 4


@dataclass(frozen=True)
class MeshParser:
    """A `FaceParser`. The module, a `FaceMesh`, may be moved or cast by its owner between calls."""

    module: nn.Module
    name: str = NAME

    def bytes_for(self, faces_B3HW: Tensor) -> int:
        return BYTES_PER_FACE * min(len(faces_B3HW), MAX_PER_PASS)

    def parse(self, faces_B3HW: Tensor) -> Tensor:
        """See `FaceParser.parse`; all background where the network sees no face. Eyeglasses are skin and eyes."""
        found = find_mesh(self.module, faces_B3HW)
        size_hw = (faces_B3HW.shape[2], faces_B3HW.shape[3])
        labels_BHW = np.zeros((len(faces_B3HW), *size_hw), np.uint8)
        for index in np.flatnonzero(found.is_face_B):
            labels_BHW[index] = draw_labels(found.points_BN2[index], size_hw)
        return torch.from_numpy(labels_BHW).to(faces_B3HW.device)


def mesh_shape_masks(parser: FaceParser, faces_B3SS: Tensor, landmarks_B52: np.ndarray) -> Tensor:
    """The faces' shapes as a `MeshParser` sees them: masks_BSS float32 [0, 1], soft.

    Where it sees no face or the face is turned too far for it, the contour of the five landmarks.

    faces_B3SS: aligned crops, RGB in [-1, 1].
    landmarks_B52: in pixels of the crops.
    """
    labels_BSS = parser.parse(faces_B3SS)
    masks_BSS = face_shape_mask(labels_BSS)
    for index, landmarks_52 in enumerate(landmarks_B52):
        if yaw_of_landmarks(landmarks_52) > MAX_YAW or not bool(labels_BSS[index].any()):
            masks_BSS[index] = contour_masks(landmarks_52[None], faces_B3SS.shape[-1])[0].to(masks_BSS)
    return masks_BSS


def draw_labels(points_N2: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """labels_HW, uint8, classes of `FaceParser.parse`.

    points_N2: a face's mesh in pixels of the image.
    size_hw: of the image, in pixels.
    """
    labels_HW = np.zeros(size_hw, np.uint8)
    _fill(labels_HW, face_contour(points_N2), _SKIN)
    for label, indices in _PARTS:
        _fill(labels_HW, points_N2[list(indices)], label)
    return labels_HW


def face_contour(points_N2: np.ndarray) -> np.ndarray:
    """The face from the hairline to the chin and from ear to ear, (P, 2), convex: turned, the oval crosses itself."""
    above_P2 = points_N2[list(mesh.OVAL_ABOVE)]
    # 0 at the temples, 1 in the middle.
    rise_P = np.sin(np.linspace(0, np.pi, len(above_P2)))
    above_P2 = above_P2 + FOREHEAD_RISE * rise_P[:, None] * (points_N2[mesh.FOREHEAD] - points_N2[mesh.CHIN])
    around_P2 = np.concatenate((above_P2, points_N2[list(mesh.OVAL_BELOW)]))
    hull_P12 = import_for_faces("cv2").convexHull(around_P2.astype(np.float32))
    return hull_P12[:, 0].astype(np.float64)


def _fill(labels_HW: np.ndarray, polygon_P2: np.ndarray, label: int) -> None:
    """In place."""
    corners_P2 = np.round(polygon_P2 * 2**_SHIFT).astype(np.int32)
    import_for_faces("cv2").fillPoly(labels_HW, [corners_P2], label, shift=_SHIFT)
