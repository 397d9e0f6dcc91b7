"""Aligned crops of any size through a face network, in batches.

Shape legend: N crops, H W their height and width, S = 512.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..faces.geometry import CROP_SIZE
from ..imaging import tensors as imaging
from ..runtime import memory
from ..runtime.progress import OnProgress

# (faces_n3SS in [-1, 1], the part of all faces that they are) -> faces_n3SS
RunFaces = Callable[[Tensor, slice], Tensor]


def through_network(
    crops_NHW3: Tensor, run_faces: RunFaces, faces_at_once: Callable[[], int], stage: str, report: OnProgress
) -> Tensor:
    """What the network makes of the crops (RGB [0, 1]), of their own size; resized to 512 for it and back."""
    count, height, width = crops_NHW3.shape[:3]
    made_NHW3 = torch.empty_like(crops_NHW3, memory_format=torch.contiguous_format)

    def run(part: slice) -> Tensor:
        squares_NSS3 = imaging.resize(crops_NHW3[part], CROP_SIZE, CROP_SIZE)
        return run_faces(imaging.to_network(squares_NSS3), part)

    if count == 0:
        return made_NHW3
    report(stage, 0, count)
    # Asked only now: a host makes room for the network when it is.
    for part, faces_N3SS in memory.in_batches(count, faces_at_once(), run):
        made_NHW3[part] = imaging.resize(imaging.from_network(faces_N3SS), height, width)
        report(stage, part.stop, count)
    return made_NHW3
