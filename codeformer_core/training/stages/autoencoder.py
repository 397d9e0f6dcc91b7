"""Stage I: encoder, codebook and generator learn to describe clean faces by codes.

Shape legend: B faces, H W their side, T tokens, D channels of a code, K codes, N vectors.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ...networks.vqgan import VQAutoencoder
from ..engine.processes import Processes
from ..losses.codes import codebook_loss, count_codes, straight_through
from ..losses.perceptual import Perceptual
from .stage import Faces, Output, Stage


class AutoencoderStage(Stage):
    def __init__(self, network: VQAutoencoder, perceptual: Perceptual, beta: float) -> None:
        super().__init__()
        self.network = network
        self.perceptual = perceptual
        self.beta = beta

    def forward(self, faces: Faces) -> Output:
        latent_BDHW = self.network.encode(faces.clean_B3HW)
        codes_BT = self.network.nearest_codes(latent_BDHW)
        quantised_BDHW = self.network.look_up(codes_BT)
        made_B3HW = self.network.generator(straight_through(latent_BDHW.float(), quantised_BDHW))
        terms = {
            "pixel": F.l1_loss(made_B3HW.float(), faces.clean_B3HW),
            "perceptual": self.perceptual.measure(made_B3HW, faces.clean_B3HW),
            "codebook": codebook_loss(latent_BDHW, quantised_BDHW, self.beta),
        }
        return Output(terms, made_B3HW, codes_BT, codes_BT, latent_BDHW.detach())

    @property
    def last_layer(self) -> Tensor:
        return self.network.generator.conv_out.weight


class CodeRevival:
    """Gives codes that nobody used for `every` steps a latent of the current faces.

    Without it a short training ends with a handful of codes. Not part of the published recipe; the presets that use
    it say so. What it does depends on the faces and the step alone, however many processes there are.
    """

    def __init__(self, codebook_size: int, every: int, seed: int, processes: Processes) -> None:
        self.every = every
        self.seed = seed
        self.processes = processes
        self.uses_K = torch.zeros(codebook_size, dtype=torch.int64, device=processes.device)

    @torch.no_grad()
    def after_step(self, step: int, codebook: Tensor, output: Output) -> int:
        """Count, and at every `every`-th step revive; returns how many codes were revived."""
        if not self.every:
            return 0
        self.uses_K += self.processes.sum(count_codes(output.codes_BT, len(codebook)))
        if (step + 1) % self.every:
            return 0
        dead_N = (self.uses_K == 0).nonzero().flatten()
        self.uses_K.zero_()
        if len(dead_N) == 0:
            return 0
        vectors_ND = self.processes.gather(output.latent_BDHW.float()).flatten(2).transpose(1, 2).flatten(0, 1)
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        chosen_N = torch.randint(len(vectors_ND), (len(dead_N),), generator=generator)
        codebook[dead_N] = vectors_ND[chosen_N.to(vectors_ND.device)].to(codebook)
        return len(dead_N)
