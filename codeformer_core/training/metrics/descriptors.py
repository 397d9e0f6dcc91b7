"""Identity by dlib's face recognition network, which comes with the pack.

Shape legend: B faces, H W height and width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...faces.identity import distance, load_identity
from .kinds import Better, check_pair


class DlibIdentity:
    """Euclidean distance between the descriptors of the restored and the clean face; below 0.6: the same person."""

    name = "dlib distance"
    better: Better = "lower"

    def __init__(self, device: torch.device | str = "cpu") -> None:
        """Raises WeightsError where the network's file is missing or damaged."""
        self._device = torch.device(device)
        self._identity = load_identity(self._device)

    @torch.no_grad()
    def measure(self, restored_B3HW: Tensor, clean_B3HW: Tensor) -> Tensor:
        """As `FaceMetric` says; faces are square and aligned to the 512 template."""
        check_pair(restored_B3HW, clean_B3HW)
        restored_BD, clean_BD = (
            self._identity.descriptors(faces.to(self._device)) for faces in (restored_B3HW, clean_B3HW)
        )
        return distance(restored_BD, clean_BD).cpu().double()
