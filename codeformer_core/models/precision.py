"""The precision that is chosen for a restorer where the user leaves it open.

A CodeFormer on a CPU with instructions for bfloat16 finds its codes in float32 and generates in bfloat16. All of it in
bfloat16 would be faster still, but then 2 % of the starter's codes are others (docs/speed.md).
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import torch

from ..networks.codeformer import CodeFormer
from ..runtime.processor import has_fast_bfloat16
from .restorer import Restorer

# A precision, or one that fits model and processor.
Precision = torch.dtype | Literal["auto"]


def choose_precision(restorer: Restorer) -> Restorer:
    """`restorer`, a fresh one in float32, or the same whose network generates in bfloat16."""
    network = restorer.module
    if not isinstance(network, CodeFormer) or restorer.casts_weights or restorer.device.type != "cpu":
        return restorer
    if not has_fast_bfloat16():
        return restorer
    network.generate_in(torch.bfloat16)
    return dataclasses.replace(restorer, generator_dtype=torch.bfloat16)
