"""Identity by dlib's face recognition network, which comes with the pack.

Shape legend: B faces, H W height and width, D numbers of a descriptor.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..faces.identity import distance, load_identity
from .kinds import Better, ReferenceMetric


class DlibIdentity(ReferenceMetric):
    """Euclidean distance between the descriptors of the restored and the clean face; below 0.6: the same person.

    Faces are aligned to the 512 template. NaN for those that aren't square.
    """

    name = "dlib distance"
    better: Better = "lower"

    def __init__(self, device: torch.device | str = "cpu") -> None:
        """Raises WeightsError where the network's file is missing or damaged."""
        self._device = torch.device(device)
        self._identity = load_identity(self._device)

    @torch.no_grad()
    def reference(self, clean_B3HW: Tensor) -> Tensor | None:
        """descriptors_BD, or None for faces that aren't square.

        clean_B3HW: RGB float in [0, 1].
        """
        if clean_B3HW.shape[2] != clean_B3HW.shape[3]:
            return None
        return self._identity.descriptors(clean_B3HW.to(self._device))

    @torch.no_grad()
    def measure_to(self, restored_B3HW: Tensor, reference: Tensor | None) -> Tensor:
        if reference is None:
            return torch.full((len(restored_B3HW),), torch.nan, dtype=torch.float64)
        return distance(self._identity.descriptors(restored_B3HW.to(self._device)), reference).cpu().double()
