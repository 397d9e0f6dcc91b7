"""What a painter learns restoring from: faces as photos, scans and small pictures leave them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from codeformer_core.degradation import PRESETS, degrade_on_cpu, draw

# Preset -> its share of the faces. "photo" leaves some of its own faces clean.
SHARES = {"clean": 0.05, "photo": 0.35, "small": 0.3, "large": 0.3}


def damaged(faces_B3SS: Tensor, generator: torch.Generator) -> Tensor:
    """Each face under a damage of its own.

    faces_B3SS: RGB [-1, 1], steps of a level.
    """
    names = list(SHARES)
    shares = torch.tensor([SHARES[name] for name in names])
    drawn = torch.multinomial(shares, len(faces_B3SS), replacement=True, generator=generator)
    levels_BSS3 = ((faces_B3SS + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
    made = [
        degrade_on_cpu(levels_SS3, draw(PRESETS[names[int(which)]], levels_SS3.shape[0], generator))
        for levels_SS3, which in zip(levels_BSS3, drawn, strict=True)
    ]
    return torch.from_numpy(np.stack(made)).permute(0, 3, 1, 2).float() / 127.5 - 1
