"""The face mesh network that comes with the pack: 468 points in an aligned face, and 68 of them as landmarks.

Shape legend: B faces, H W height and width, N = 468 points, S = 192 side of what the network sees.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..networks.face_mesh import SEEN_SIDE, FaceMesh
from ..runtime import memory
from ..runtime.packages import fill_network, place_of
from ..weights.catalog import FACE_MESH
from .geometry import CROP_SIZE
from .mesh_topology import MESH_POINTS, POINTS_OF_68

NAME = FACE_MESH
# What the network looks at of the 512 crop, in pixels: left, top, right, bottom. A square around the mesh, half as wide
# again as it, which is what the network was trained on, as far as the crop has it.
VIEW_LTRB = (30, 60, 482, 512)
# The network's own answer whether this is a face, above which its points are used. On 221 aligned faces the least is
# 5.8, half have 32 or more; crops without a face stay below -1.
MIN_LOGIT = 3.0
# Activations of one face in float32, with some room.
BYTES_PER_FACE = 8 * 1024**2
MAX_PER_PASS = 16
_TELLING_KEY = "points.output.weight"


@dataclass(frozen=True, eq=False)
class MeshPoints:
    """points_BN2: float64, x and y in pixels of the faces, pixel centres at whole numbers.
    is_face_B: bool, where the network is sure enough to see a face; elsewhere its points mean nothing.
    """

    points_BN2: np.ndarray
    is_face_B: np.ndarray


@dataclass(frozen=True)
class MeshLandmarkDetector:
    """A `LandmarkDetector`. The module may be moved or cast by its owner between calls."""

    module: nn.Module
    name: str = NAME

    def bytes_for(self, faces_B3HW: Tensor) -> int:
        return BYTES_PER_FACE * min(len(faces_B3HW), MAX_PER_PASS)

    def find(self, faces_B3HW: Tensor) -> np.ndarray:
        """See `LandmarkDetector.find`; NaN where the network sees no face."""
        found = find_mesh(self.module, faces_B3HW)
        landmarks_B682 = found.points_BN2[:, list(POINTS_OF_68)]
        return np.where(found.is_face_B[:, None, None], landmarks_B682, np.nan)


@torch.no_grad()
def find_mesh(module: nn.Module, faces_B3HW: Tensor) -> MeshPoints:
    """The mesh in aligned faces.

    module: a `FaceMesh`.
    faces_B3HW: RGB in [-1, 1], aligned to the 512 template, any size.
    Raises ValueError for another shape, RuntimeError when the network answers with non-finite numbers.
    """
    if faces_B3HW.ndim != 4 or faces_B3HW.shape[1] != 3 or 0 in faces_B3HW.shape[2:]:
        raise ValueError(
            "a face mesh is looked for in (batch, 3, height, width), got a tensor of shape "
            f"{tuple(faces_B3HW.shape)}. Give RGB, channels before height and width"
        )
    most = memory.batch_size(BYTES_PER_FACE, place_of(module)[0], MAX_PER_PASS)
    points = [np.zeros((0, MESH_POINTS, 2))]
    is_face = [np.zeros(0, bool)]
    for _, (points_BN2, logits_B) in memory.in_batches(
        len(faces_B3HW), most, lambda part: _look(module, faces_B3HW[part])
    ):
        points.append(points_BN2)
        is_face.append(logits_B > MIN_LOGIT)
    return MeshPoints(np.concatenate(points), np.concatenate(is_face))


def _look(module: nn.Module, faces_B3HW: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """-> points_BN2 in pixels of the faces, logits_B."""
    device, dtype = place_of(module)
    height, width = faces_B3HW.shape[2:]
    left, right = (round(place * width / CROP_SIZE) for place in VIEW_LTRB[::2])
    top, bottom = (round(place * height / CROP_SIZE) for place in VIEW_LTRB[1::2])
    view_B3hw = faces_B3HW[:, :, top:bottom, left:right].to(device).float()
    seen_B3SS = F.interpolate(view_B3hw, (SEEN_SIDE, SEEN_SIDE), mode="bilinear", antialias=True)
    points_BN3, logits_B = module(((seen_B3SS + 1) / 2).clamp(0, 1).to(dtype))
    if not bool(points_BN3.isfinite().all() and logits_B.isfinite().all()):
        raise RuntimeError(
            f"the face mesh network answered with non-finite numbers ({dtype} on {device}). "
            "Run it in float32; where it does, the file is damaged, so install this package again"
        )
    seen_BN2 = points_BN3[..., :2].double().cpu().numpy()
    scale_2 = np.array((right - left, bottom - top)) / SEEN_SIDE
    # The network measures from the edges of what it sees.
    return seen_BN2 * scale_2 + (left, top) - 0.5, logits_B.double().cpu().numpy()


def is_face_mesh(state_dict: Mapping[str, Tensor]) -> bool:
    """Whether these weights are, by their keys, those of the face mesh network."""
    return _TELLING_KEY in state_dict


def build_face_mesh(state_dict: Mapping[str, Tensor], device: str | torch.device = "cpu") -> FaceMesh:
    """The network with these weights on `device`, in float32.

    Raises ValueError naming the keys that do not fit.
    """
    network = FaceMesh()
    fill_network(network, state_dict, NAME)
    return network.eval().requires_grad_(False).to(device)
