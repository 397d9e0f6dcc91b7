"""Stage III: the controllable fusion, and the pixel path where there is one, learn to bring the input's own features
back, while stage II's losses continue.

Codes and skip features are cut off from the image losses, which therefore reach the fusion blocks, the pixel path and,
where a configuration lets it learn, the generator. Inpainting is this stage with another degradation and other parts
trained.
Shape legend: B faces, H W their side, T tokens, D channels of a code.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ...networks.codeformer import CodeFormer, match_statistics, uses_adain
from ..losses.gates import gate_loss, gates_wanted
from ..losses.image import ImageLosses
from .codes import CodesStage
from .stage import Faces, Output, Teacher


class FusionStage(CodesStage):
    """Stage III.

    teacher: None for no code losses; the codes then stay as they are.
    adain: as restoring does it.
    """

    teacher: Teacher | None

    def __init__(self, network: CodeFormer, teacher: Teacher | None, losses: ImageLosses, adain: bool) -> None:
        super().__init__(network, teacher)
        self.losses = losses
        self.adain = adain

    def forward(self, faces: Faces) -> Output:
        assert faces.degraded_B3HW is not None
        fidelity = faces.fidelity
        latent_BDHW, skips = self.network.encode_with_skips(faces.degraded_B3HW, fidelity or 0)
        terms: dict[str, Tensor] = {}
        codes_BT: Tensor | None = None
        if self.teacher is not None:
            coded = self.compare(faces, latent_BDHW)
            predicted_BT, codes_BT, terms = coded.predicted_BT, coded.codes_BT, coded.terms
        else:
            predicted_BT = self.network.predict_codes(latent_BDHW)
        latent_BDHW = latent_BDHW.detach()
        if fidelity is None:
            return Output(terms, None, predicted_BT, codes_BT, latent_BDHW)
        quantised_BDHW = self.network.embed_codes(predicted_BT).detach()
        if self.adain and uses_adain(faces.task):
            quantised_BDHW = match_statistics(quantised_BDHW.float(), latent_BDHW.float())
        detached = {size: features_BCHW.detach() for size, features_BCHW in skips.items()}
        fidelity_1 = torch.full((), fidelity, device=latent_BDHW.device)
        generated = self.network.generate(quantised_BDHW, detached, fidelity_1, faces.degraded_B3HW)
        terms = terms | self.losses.terms(generated.output_B3HW, faces.clean_B3HW)
        if self.network.pixel_path is not None:
            terms["pixel_before_path"] = F.l1_loss(generated.made_B3HW.float(), faces.clean_B3HW)
            assert generated.gate_logits_BNhw is not None
            wanted_BNhw = gates_wanted(faces.degraded_B3HW, faces.clean_B3HW, self.network.pixel_path.config.sigmas)
            terms["gates"] = gate_loss(generated.gate_logits_BNhw, wanted_BNhw)
        return Output(terms, generated.output_B3HW, predicted_BT, codes_BT, latent_BDHW)

    @property
    def last_layer(self) -> Tensor:
        """The last shift convolution of the fusion nearest to the image."""
        largest = max(self.network.config.fuse_sizes)
        return self.network.fusions[str(largest)].shift_out.weight
