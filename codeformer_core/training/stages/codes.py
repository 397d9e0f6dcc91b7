"""Stage II: encoder and transformer learn to see the clean face's codes in a degraded one.

The codebook and the generator are the teacher's and stay as they are; no image is made. Colorization is this stage
with another degradation.
Shape legend: B faces, H W their side, T tokens, D channels of a code, K codes.
"""

from __future__ import annotations

from torch import Tensor

from ...networks.codeformer import CodeFormer
from ..losses.codes import code_loss, feature_loss
from .stage import Faces, Output, Stage, Teacher


class CodesStage(Stage):
    network: CodeFormer

    def __init__(self, network: CodeFormer, teacher: Teacher | None) -> None:
        super().__init__()
        self.network = network  # pyright: ignore[reportIncompatibleVariableOverride] - set once, here
        self.teacher = teacher

    def forward(self, faces: Faces) -> Output:
        assert faces.degraded_B3HW is not None
        latent_BDHW, _ = self.network.encode_with_skips(faces.degraded_B3HW, fidelity=0)
        return self.compare(faces, latent_BDHW)

    def compare(self, faces: Faces, latent_BDHW: Tensor) -> Output:
        """The two losses of this stage; stage III has them too."""
        assert self.teacher is not None
        codes_BT = self.teacher.codes(faces.clean_B3HW) if faces.codes_BT is None else faces.codes_BT
        logits_BTK = self.network.predict_logits(latent_BDHW)
        terms = {
            "features": feature_loss(latent_BDHW, self.network.embed_codes(codes_BT)),
            "codes": code_loss(logits_BTK, codes_BT),
        }
        return Output(terms, None, logits_BTK.argmax(-1), codes_BT, latent_BDHW.detach())
