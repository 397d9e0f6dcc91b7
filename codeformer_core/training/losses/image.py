"""What is asked of an image a network made: pixels, looks, identity.

Shape legend: B faces, H W height and width, RGB in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

# (restored_B3HW, clean_B3HW) -> one number
Measure = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class ImageLosses:
    """The losses of an image.

    perceptual: see `losses.perceptual`.
    identity: see `losses.identity`. None: not wanted, and not computed.
    """

    perceptual: Measure | None
    identity: Measure | None

    def terms(self, made_B3HW: Tensor, clean_B3HW: Tensor) -> dict[str, Tensor]:
        """Losses by the names of `LossWeights`, not yet weighed."""
        terms = {"pixel": F.l1_loss(made_B3HW.float(), clean_B3HW)}
        if self.perceptual is not None:
            terms["perceptual"] = self.perceptual(made_B3HW, clean_B3HW)
        if self.identity is not None:
            terms["identity"] = self.identity(made_B3HW, clean_B3HW)
        return terms
