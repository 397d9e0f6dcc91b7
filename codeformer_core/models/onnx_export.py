"""A CodeFormer as an ONNX file, for programs without torch.

The graph's inputs are `faces` (batch, 3, S, S), RGB in [-1, 1], aligned, any batch size, and `fidelity` (1,), 0 to 1;
its output `restored` has the shape of `faces` and lies in [-1, 1]. All are float32.

Shape legend: B faces, S side of a face.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from ..networks.codeformer import CodeFormer, match_statistics, uses_adain
from ..runtime.atomic import replaced
from ..runtime.packages import import_package
from .restorer import Restorer

# The oldest that torch's exporter writes without converting; every runtime of the last three years reads it.
OPSET = 18
_TASK = "exporting to ONNX"


class ExportedCodeFormer(nn.Module):
    """`Restorer.restore` with fidelity as a tensor: the fusion is always computed, also at fidelity 0."""

    def __init__(self, network: CodeFormer, adain: bool) -> None:
        super().__init__()
        self.network = network
        self.adain = adain

    def forward(self, faces_B3SS: Tensor, fidelity_1: Tensor) -> Tensor:
        network = self.network
        latent_BDHW, skips = network.encode_with_skips(faces_B3SS, fidelity=1.0)
        quantised_BDHW = network.embed_codes(network.predict_codes(latent_BDHW))
        if self.adain:
            quantised_BDHW = match_statistics(quantised_BDHW, latent_BDHW)
        return network.generate(quantised_BDHW, skips, fidelity_1, faces_B3SS).output_B3HW.clamp(-1, 1)


def export_onnx(restorer: Restorer, path: Path) -> None:
    """Write the network of `restorer` to `path`: whole, or not at all.

    restorer: a CodeFormer in float32 on the CPU.
    Raises ValueError for another architecture or precision, ImportError naming a missing package, OSError where the
    file can't be written.
    """
    if not isinstance(restorer.module, CodeFormer):
        raise ValueError(
            f"{restorer.name} is of the architecture {restorer.architecture}; only codeformer can be exported to ONNX"
        )
    if restorer.dtype != torch.float32 or restorer.device.type != "cpu":
        raise ValueError(
            f"{restorer.name} is loaded in {restorer.dtype} on {restorer.device}; load it in float32 on the CPU"
        )
    import_package("onnxscript", _TASK)
    size = restorer.face_size
    # Two faces: a batch of one would be taken for a constant.
    example = torch.zeros(2, 3, size, size), torch.tensor([0.5])
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            ExportedCodeFormer(restorer.module, uses_adain(restorer.task)).eval(),
            example,
            input_names=["faces", "fidelity"],
            output_names=["restored"],
            opset_version=OPSET,
            dynamo=True,
            dynamic_shapes={"faces_B3SS": {0: torch.export.Dim("batch")}, "fidelity_1": None},
            verbose=False,
        )
    assert program is not None
    with replaced(path) as temporary:
        program.save(temporary, external_data=False)


@contextmanager
def _quiet() -> Generator[None]:
    """torch's exporter writes of its own insides, which a user can do nothing about."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
