"""The `LandmarkDetector` protocol (68 landmarks in aligned faces) and facexlib's alignment network as one.

Shape legend: B faces, H W height and width, N landmarks of the network (98), S side of its heatmaps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..runtime import memory
from ..runtime.packages import fill_network, import_for_faces, place_of

# Pixels per side at which the network was trained, and the landmarks of its data set, WFLW.
SEEN_SIZE = 256
POINTS = 98
# The published network stacks four hourglasses.
HOURGLASSES = 4
# Activations of one face in float32, with some room.
BYTES_PER_FACE = 300 * 1024**2
MAX_PER_PASS = 4


class LandmarkDetector(Protocol):
    """Finds the usual 68 landmarks in aligned faces."""

    @property
    def name(self) -> str: ...

    @property
    def module(self) -> nn.Module:
        """What a host's memory manager moves."""
        ...

    def bytes_for(self, faces_B3HW: Tensor) -> int:
        """Estimate of the memory that `find` takes on the module's device, besides the weights."""
        ...

    def find(self, faces_B3HW: Tensor) -> np.ndarray:
        """landmarks_B682, float64, pixels of the faces; NaN where nothing was found.

        faces_B3HW: RGB in [-1, 1], aligned to the 512 template.
        """
        ...


@dataclass(frozen=True)
class HourglassLandmarkDetector:
    """A `LandmarkDetector`. The module may be moved by its owner between calls."""

    module: nn.Module
    name: str = "facexlib_alignment"

    def bytes_for(self, faces_B3HW: Tensor) -> int:
        return BYTES_PER_FACE * min(len(faces_B3HW), MAX_PER_PASS)

    @torch.no_grad()
    def find(self, faces_B3HW: Tensor) -> np.ndarray:
        """See `LandmarkDetector.find`."""
        height, width = faces_B3HW.shape[2:]
        to_68 = import_for_faces("facexlib.alignment").landmark_98_to_68
        device, dtype = place_of(self.module)
        most = memory.batch_size(BYTES_PER_FACE, device, MAX_PER_PASS)
        found: list[np.ndarray] = []
        for _, points_BN2 in memory.in_batches(
            len(faces_B3HW), most, lambda part: self._points(faces_B3HW[part].to(device, dtype))
        ):
            # Middles of the heatmap's cells, in parts of the image -> pixels whose centres are whole numbers.
            places_BN2 = points_BN2.double().cpu().numpy() * (width, height) - 0.5
            found += [to_68(points_N2) for points_N2 in places_BN2]
        return np.array(found, dtype=np.float64).reshape(-1, 68, 2)

    def _points(self, faces_B3HW: Tensor) -> Tensor:
        """-> points_BN2 from 0 to 1, left to right and top to bottom."""
        seen_B3SS = F.interpolate(faces_B3HW, (SEEN_SIZE, SEEN_SIZE), mode="bilinear", antialias=True)
        heatmaps, _ = self.module((seen_B3SS + 1) / 2)
        # The last map of all is that of the face's outline.
        return peaks(heatmaps[-1][:, :-1].float())


def peaks(heatmaps_BNSS: Tensor) -> Tensor:
    """The middle of each map's highest cell, a quarter of a cell towards its higher neighbours: points_BN2, 0..1.

    NaN where a map holds NaN.
    """
    side = heatmaps_BNSS.shape[-1]
    place_BN = heatmaps_BNSS.flatten(2).argmax(-1)
    column_BN, row_BN = place_BN % side, place_BN // side
    padded = F.pad(heatmaps_BNSS, (1, 1, 1, 1), mode="replicate").flatten(2)

    def value(rows: int, columns: int) -> Tensor:
        index_BN = (row_BN + 1 + rows) * (side + 2) + column_BN + 1 + columns
        return padded.gather(2, index_BN[..., None])[..., 0]

    x_BN = column_BN + 0.5 + 0.25 * torch.sign(value(0, 1) - value(0, -1))
    y_BN = row_BN + 0.5 + 0.25 * torch.sign(value(1, 0) - value(-1, 0))
    points_BN2 = torch.stack((x_BN, y_BN), dim=-1) / side
    return points_BN2.where(heatmaps_BNSS.isfinite().all(-1).all(-1)[..., None], torch.nan)


def build_landmark_detector(
    state_dict: Mapping[str, Tensor], device: str | torch.device = "cpu"
) -> HourglassLandmarkDetector:
    """The landmark detector with the published weights (alignment_WFLW_4HG.pth) on `device`.

    Raises ValueError naming the first keys that do not fit, ImportError when facexlib is missing or broken.
    """
    network = import_for_faces("facexlib.alignment.awing_arch")
    module = network.FAN(num_modules=HOURGLASSES, num_landmarks=POINTS, device="cpu")
    fill_network(module, state_dict, "facexlib_alignment")
    return HourglassLandmarkDetector(module.eval().requires_grad_(False).to(device))
