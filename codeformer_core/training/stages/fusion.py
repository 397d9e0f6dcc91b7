"""Stage III: the controllable fusion learns to bring the input's own features back, while stage II's losses go on.

Codes and taps are cut off from the image losses, which therefore reach the fusion blocks only. Inpainting is this
stage with another degradation and other parts trained.
Shape legend: B faces, H W their side, T tokens, D channels of a code.
"""

from __future__ import annotations

import dataclasses

from torch import Tensor
from torch.nn import functional as F

from ...networks.codeformer import CodeFormer
from ..losses.perceptual import Perceptual
from .codes import CodesStage
from .stage import Faces, Output, Teacher


class FusionStage(CodesStage):
    def __init__(self, network: CodeFormer, teacher: Teacher, perceptual: Perceptual) -> None:
        super().__init__(network, teacher)
        self.perceptual = perceptual

    def forward(self, faces: Faces) -> Output:
        assert faces.degraded_B3HW is not None
        latent_BDHW, taps = self.network.encode_with_taps(faces.degraded_B3HW, faces.fidelity or 0)
        output = self.compare(faces, latent_BDHW)
        if faces.fidelity is None:
            return output
        quantised_BDHW = self.network.look_up(output.predicted_BT).detach()
        detached = {size: features_BCHW.detach() for size, features_BCHW in taps.items()}
        made_B3HW = self.network.generate(quantised_BDHW, detached, faces.fidelity)
        terms = {
            **output.terms,
            "pixel": F.l1_loss(made_B3HW.float(), faces.clean_B3HW),
            "perceptual": self.perceptual.measure(made_B3HW, faces.clean_B3HW),
        }
        return dataclasses.replace(output, terms=terms, made_B3HW=made_B3HW)

    @property
    def last_layer(self) -> Tensor:
        """The last shift convolution of the fusion nearest to the picture."""
        largest = max(self.network.codeformer_config.fuse_sizes)
        return self.network.fusions[str(largest)].shift_out.weight  # pyright: ignore[reportAttributeAccessIssue, reportReturnType]
