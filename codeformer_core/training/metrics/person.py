"""Whether a restored face is still the same person: a share, from a distance that another metric measures.

Shape legend: B faces.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .kinds import Better

# King 2017: pairs of dlib's descriptors nearer than this are taken for one person (99.38 % right on LFW).
SAME_PERSON_DISTANCE = 0.6


class SamePerson:
    """1 for faces whose distance is below dlib's threshold, else 0; the mean over faces is a share."""

    name = "same person"
    better: Better = "higher"
    source = "dlib distance"

    def derive(self, values_B: Tensor) -> Tensor:
        return torch.where(values_B.isnan(), torch.nan, (values_B < SAME_PERSON_DISTANCE).double())
