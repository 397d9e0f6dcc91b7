"""What the averaged network does with faces it doesn't learn from: numbers and an image grid.

Shape legend: B N faces, H W their side, T tokens, K codes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...degradation import Degradation, degrade_on_cpu, draw
from ...metrics.similarity import psnr
from ...networks.codeformer import CodeFormer, uses_adain
from ...networks.vqgan import VQNetwork
from ..data.files import FaceSource
from ..losses.codes import code_accuracy, count_codes, perplexity
from ..stages.stage import Teacher
from .grids import from_levels, image_grid

logger = logging.getLogger(__name__)

FIDELITIES = (0.0, 0.5, 1.0)
# For equal faces, whose PSNR is infinite: means stay numbers.
MAX_PSNR = 100.0
# Any fixed number: the same faces are degraded alike at every validation, whatever the run's seed.
_SEED = 1_000_003


@dataclass(frozen=True)
class Examples:
    """Faces to validate with.

    clean_N3HW: uint8.
    degraded: name of the degradation -> the same faces degraded.
    tasks: name -> what these faces are for.
    """

    clean_N3HW: Tensor
    degraded: Mapping[str, Tensor]
    tasks: Mapping[str, str]


def gather_examples(
    source: FaceSource, count: int, degradations: Mapping[str, Degradation], tasks: Mapping[str, str]
) -> Examples:
    """`count` faces evenly spread over the source. Faces that can't be read are logged and left out."""
    faces: list[np.ndarray] = []
    for index in np.unique(np.linspace(0, len(source) - 1, min(count, len(source))).round().astype(int)):
        try:
            faces.append(source.read(int(index)))
        except (OSError, ValueError) as error:
            logger.warning("validation face left out: %s", error)
    if not faces:
        raise ValueError("none of the validation faces can be read; the lines above say why")
    degraded: dict[str, Tensor] = {}
    for name, degradation in degradations.items():
        changed: list[np.ndarray] = []
        for number, face_HW3 in enumerate(faces):
            drawn = draw(degradation, face_HW3.shape[0], torch.Generator().manual_seed(_SEED + number))
            changed.append(degrade_on_cpu(face_HW3, drawn))
        degraded[name] = _stacked(changed)
    return Examples(_stacked(faces), degraded, tasks)


def _stacked(faces: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(faces)).permute(0, 3, 1, 2)


@torch.no_grad()
def validate(
    network: VQNetwork,
    teacher: Teacher | None,
    examples: Examples,
    *,
    fuses: bool,
    device: torch.device,
    batch_size: int,
) -> dict[str, float]:
    """PSNR in dB, code accuracy where there is a teacher, codebook use.

    fuses: also at fidelities above 0.
    """
    if not isinstance(network, CodeFormer):
        return _validate_autoencoder(network, examples, device, batch_size)
    values: dict[str, list[Tensor]] = {}
    for name, degraded_N3HW in examples.degraded.items():
        for clean_B3HW, degraded_B3HW in _batches(device, batch_size, examples.clean_N3HW, degraded_N3HW):
            if teacher is not None:
                latent_BDHW, _ = network.encode_with_skips(degraded_B3HW, fidelity=0)
                codes_BT = teacher.codes(clean_B3HW)
                for key, found_BT in (
                    ("code_accuracy", network.predict_codes(latent_BDHW)),
                    ("nearest_accuracy", network.quantize(latent_BDHW)),
                ):
                    _add(values, f"{name}/{key}", code_accuracy(found_BT, codes_BT), clean_B3HW)
            _add(values, f"{name}/psnr_degraded", face_psnr(degraded_B3HW, clean_B3HW).mean(), clean_B3HW)
            for fidelity in FIDELITIES if fuses else FIDELITIES[:1]:
                restored_B3HW = network.restore(degraded_B3HW, fidelity, uses_adain(examples.tasks[name]))
                _add(values, f"{name}/psnr_w{fidelity:g}", face_psnr(restored_B3HW, clean_B3HW).mean(), clean_B3HW)
    return _means(values)


def _validate_autoencoder(
    network: VQNetwork, examples: Examples, device: torch.device, batch_size: int
) -> dict[str, float]:
    values: dict[str, list[Tensor]] = {}
    size = network.codebook.num_embeddings
    uses_K = torch.zeros(size, dtype=torch.int64, device=device)
    for (clean_B3HW,) in _batches(device, batch_size, examples.clean_N3HW):
        codes_BT = network.quantize(network.encode(clean_B3HW))
        uses_K += count_codes(codes_BT, size)
        _add(values, "psnr", face_psnr(network.decode(codes_BT), clean_B3HW).mean(), codes_BT)
    return {**_means(values), "codes_used": float((uses_K > 0).float().mean()), "perplexity": perplexity(uses_K)}


@torch.no_grad()
def show(
    network: VQNetwork,
    teacher: Teacher | None,
    examples: Examples,
    *,
    fuses: bool,
    device: torch.device,
    rows: int,
) -> Iterator[tuple[str, np.ndarray]]:
    """Image grids by name: clean, degraded, the teacher's reconstruction, restored at w = 0, 0.5, 1."""
    clean_B3HW = from_levels(examples.clean_N3HW[:rows].to(device))
    if not isinstance(network, CodeFormer):
        yield "faces", image_grid({"clean": clean_B3HW, "reconstruction": network.reconstruct(clean_B3HW)})
        return
    for name, degraded_N3HW in examples.degraded.items():
        degraded_B3HW = from_levels(degraded_N3HW[:rows].to(device))
        columns = {"clean": clean_B3HW, f"degraded: {name}": degraded_B3HW}
        if teacher is not None:
            columns["reconstruction"] = teacher.network.reconstruct(clean_B3HW)
        for fidelity in FIDELITIES if fuses else FIDELITIES[:1]:
            columns[f"w = {fidelity:g}"] = network.restore(degraded_B3HW, fidelity, uses_adain(examples.tasks[name]))
        yield name, image_grid(columns)


def face_psnr(made_B3HW: Tensor, clean_B3HW: Tensor) -> Tensor:
    """PSNR in dB of faces in [-1, 1] -> values_B; the made ones clamped, no rounding, at most MAX_PSNR."""
    made_B3HW, clean_B3HW = ((faces.float().clamp(-1, 1) + 1) / 2 for faces in (made_B3HW, clean_B3HW))
    return psnr(made_B3HW, clean_B3HW).clamp(max=MAX_PSNR)


def _batches(device: torch.device, size: int, *faces_N3HW: Tensor) -> Iterator[tuple[Tensor, ...]]:
    for parts in zip(*(torch.split(faces, size) for faces in faces_N3HW), strict=True):
        yield tuple(from_levels(part.to(device)) for part in parts)


def _add(values: dict[str, list[Tensor]], name: str, mean: Tensor, batch: Tensor) -> None:
    """Weighed by the batch's size, the last one being smaller."""
    weight = torch.tensor(float(len(batch)))
    values.setdefault(name, []).append(torch.stack((mean.cpu().float() * weight, weight)))


def _means(values: Mapping[str, list[Tensor]]) -> dict[str, float]:
    sums = {name: torch.stack(parts).sum(0) for name, parts in values.items()}
    return {name: float(total[0] / total[1]) for name, total in sums.items()}
