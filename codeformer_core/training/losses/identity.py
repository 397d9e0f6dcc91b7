"""How far a restored face is from being the same person: dlib's descriptors, which come with the pack.

Shape legend: B faces, H W height and width, D numbers of a descriptor; RGB in [-1, 1].
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...faces.identity import FaceIdentity, load_identity

# Keeps the gradient of the plain distance finite for equal faces.
EPSILON = 1e-8


@dataclass(frozen=True, eq=False)
class IdentityLoss:
    """`loss(restored_B3HW, clean_B3HW)` -> one number; gradients reach the restored faces only.

    identity: the frozen network.
    squared: the mean squared distance. False: the mean distance, whose gradient is as large for a face that is almost
        right as for a wrong one.
    """

    identity: FaceIdentity
    squared: bool = True

    def __call__(self, restored_B3HW: Tensor, clean_B3HW: Tensor) -> Tensor:
        return self.to_descriptors(restored_B3HW, self.clean_descriptors(clean_B3HW))

    @torch.no_grad()
    def clean_descriptors(self, clean_B3HW: Tensor) -> Tensor:
        """descriptors_BD, which may be kept from step to step."""
        return self.identity.descriptors((clean_B3HW.float() + 1) / 2)

    def to_descriptors(self, restored_B3HW: Tensor, clean_BD: Tensor) -> Tensor:
        """As calling it, with the clean faces' descriptors."""
        restored_BD = self.identity.descriptors((restored_B3HW.float() + 1) / 2)
        squares_B = (restored_BD - clean_BD.detach()).square().sum(1)
        return squares_B.mean() if self.squared else (squares_B + EPSILON).sqrt().mean()


def load_identity_loss(device: torch.device | str = "cpu", squared: bool = True) -> IdentityLoss:
    """Raises WeightsError where the network's file is missing or damaged."""
    return IdentityLoss(load_identity(device), squared)
