"""Small restorers of every kind but CodeFormer, for faces of 512 pixels, with random weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from codeformer_core.models.vqfr.architecture import VQFR
from codeformer_core.networks.dfdnet import DFDNet, DFDNetConfig
from codeformer_core.networks.painter import PainterConfig
from codeformer_core.networks.vqfr_v1 import VQFRv1Config
from codeformer_core.networks.vqfr_v2 import VQFRv2Config

# Those that restore, and the painter, which has other tasks.
KINDS = ("vqfr_v1", "vqfr_v2", "dfdnet", "restoreformer")
SMALL_PAINTER = PainterConfig(patch=4, widths=(8, 12))
SMALL_DFDNET = DFDNetConfig(image_size=512, widths=(4, 8, 8, 8, 8), atoms=3, part_sizes=(80, 80, 50, 110))
_VQFR_SIZES = {
    "image_size": 512,
    "level_channels": (32, 32, 32, 32, 32, 32),
    "encoder_blocks": 1,
    "decoder_blocks": 1,
    "codebook_size": 24,
    "code_channels": 16,
    "guide_channels": 3,
    "deformable_groups": 1,
}


def small_state(kind: str) -> dict[str, Tensor]:
    """In the published layout; a DFDNet, whose three pieces are published apart, in ours."""
    if kind == "vqfr_v1":
        return _vqfr(VQFRv1Config(**_VQFR_SIZES))
    if kind == "vqfr_v2":
        return _vqfr(VQFRv2Config(**_VQFR_SIZES))
    if kind == "dfdnet":
        return filled(DFDNet(SMALL_DFDNET))
    from spandrel.architectures.RestoreFormer import RestoreFormer

    # Narrow where the architecture lets it.
    return filled(RestoreFormer(ch=32, z_channels=256, ch_mult=(1, 1, 1, 1, 1, 2), num_res_blocks=1))


def filled(network: nn.Module) -> dict[str, Tensor]:
    """Its weights, random and the same at every run."""
    generator = torch.Generator().manual_seed(4)
    return {
        key: torch.randn(tensor.shape, generator=generator) / max(tensor[0].numel(), 16) ** 0.5
        if tensor.is_floating_point()
        else tensor
        for key, tensor in network.state_dict().items()
    }


def _vqfr(config: VQFRv1Config | VQFRv2Config) -> dict[str, Tensor]:
    return VQFR.to_published(filled(VQFR.empty_network(config)), config)
