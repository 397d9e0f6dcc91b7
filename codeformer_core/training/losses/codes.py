"""Losses and measures of the codebook and of the predicted codes.

Shape legend: B faces, D channels of a code, H W the latent map, T = H*W tokens, K codes.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F


def codebook_loss(latent_BDHW: Tensor, quantised_BDHW: Tensor, beta: float) -> Tensor:
    """mean((sg[zq] - z)^2) + beta * mean((zq - sg[z])^2): the first pulls the encoder to its codes, the second,
    with the weight beta (published 0.25), the codes to the encoder."""
    latent_BDHW, quantised_BDHW = latent_BDHW.float(), quantised_BDHW.float()
    to_codes = F.mse_loss(latent_BDHW, quantised_BDHW.detach())
    to_latents = F.mse_loss(quantised_BDHW, latent_BDHW.detach())
    return to_codes + beta * to_latents


def straight_through(latent_BDHW: Tensor, quantised_BDHW: Tensor) -> Tensor:
    """The quantised values, with gradients that pass to the latent as if nothing had been quantised."""
    return latent_BDHW + (quantised_BDHW - latent_BDHW).detach()


def feature_loss(latent_BDHW: Tensor, target_BDHW: Tensor) -> Tensor:
    """mean((target - z)^2), the target (the clean face's codes, looked up) detached."""
    return F.mse_loss(latent_BDHW.float(), target_BDHW.detach().float())


def code_loss(logits_BTK: Tensor, codes_BT: Tensor) -> Tensor:
    """Cross-entropy of the predicted codes, mean over all tokens."""
    return F.cross_entropy(logits_BTK.float().flatten(0, 1), codes_BT.flatten())


def code_accuracy(predicted_BT: Tensor, codes_BT: Tensor) -> Tensor:
    """Share of tokens, 0..1, whose code is the clean face's."""
    return (predicted_BT == codes_BT).float().mean()


def count_codes(codes_BT: Tensor, codebook_size: int) -> Tensor:
    """uses_K int64."""
    return torch.bincount(codes_BT.flatten(), minlength=codebook_size)


def perplexity(uses_K: Tensor) -> float:
    """exp(entropy) of the codes' use: 1 if one code does everything, K if all are used alike."""
    uses_K = uses_K.cpu()  # MPS has no float64
    share_K = uses_K.double() / uses_K.sum().clamp(min=1)
    return float(cast(Tensor, torch.special.entr(share_K)).sum().exp())
