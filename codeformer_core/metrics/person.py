"""Whether a restored face is still the same person: a share, from a distance that another metric measures.

Shape legend: B faces.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..faces.identity import SAME_PERSON
from .descriptors import DlibIdentity
from .kinds import Better


class SamePerson:
    """1 for faces whose distance is below dlib's threshold, else 0; the mean over faces is a share."""

    name = "same person"
    better: Better = "higher"
    source = DlibIdentity.name

    def derive(self, values_B: Tensor) -> Tensor:
        return torch.where(values_B.isnan(), torch.nan, (values_B < SAME_PERSON).double())
