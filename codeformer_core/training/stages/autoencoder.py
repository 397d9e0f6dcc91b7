"""Stage I: encoder, codebook and generator learn to describe clean faces by codes.

Shape legend: B faces, H W their side, T tokens, D channels of a code.
"""

from __future__ import annotations

from torch import Tensor

from ...networks.vqgan import VQAutoencoder
from ..losses.codes import codebook_loss, straight_through
from ..losses.image import ImageLosses
from .stage import Faces, Output, Stage


class AutoencoderStage(Stage):
    def __init__(self, network: VQAutoencoder, losses: ImageLosses, beta: float) -> None:
        super().__init__()
        self.network = network
        self.teacher = None
        self.losses = losses
        self.beta = beta

    def forward(self, faces: Faces) -> Output:
        latent_BDHW = self.network.encode(faces.clean_B3HW)
        codes_BT = self.network.quantize(latent_BDHW)
        quantised_BDHW = self.network.embed_codes(codes_BT)
        made_B3HW = self.network.generator(straight_through(latent_BDHW.float(), quantised_BDHW))
        terms = {
            **self.losses.terms(made_B3HW, faces.clean_B3HW),
            "codebook": codebook_loss(latent_BDHW, quantised_BDHW, self.beta),
        }
        return Output(terms, made_B3HW, codes_BT, codes_BT, latent_BDHW.detach())

    @property
    def last_layer(self) -> Tensor:
        return self.network.generator.conv_out.weight
