"""Codes of the training faces, computed once by the teacher: stage II and III then need not encode clean faces.

Shape legend: N faces, 2 plain and mirrored, T tokens, B faces of a batch.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..networks.vqgan import VQAutoencoder
from .data.files import BrokenFace, FaceSource
from .engine.grids import from_levels
from .networks import fingerprint
from .stages.stage import Teacher

logger = logging.getLogger(__name__)

_TEACHER, _FACES = "teacher", "faces"


def compute_codes(
    teacher: VQAutoencoder,
    source: FaceSource,
    device: torch.device,
    batch_size: int,
    on_progress: Callable[[int, int], None],
) -> Tensor:
    """codes_N2T int32 on the CPU. A face that can't be read is logged; its codes are those of a gray face and
    never used, because training puts another face in its place."""
    guide = Teacher(teacher).to(device)
    side = teacher.config.image_size
    parts: list[Tensor] = []
    for begin in range(0, len(source), batch_size):
        indices = range(begin, min(begin + batch_size, len(source)))
        faces_B3HW = torch.full((len(indices), 3, side, side), 128, dtype=torch.uint8)
        for row, index in enumerate(indices):
            try:
                faces_B3HW[row] = torch.from_numpy(source.read(index)).permute(2, 0, 1)
            except BrokenFace as error:
                logger.warning("%s", error)
        plain_B3HW = from_levels(faces_B3HW.to(device))
        parts.append(torch.stack((guide.codes(plain_B3HW), guide.codes(plain_B3HW.flip(-1))), dim=1).int().cpu())
        on_progress(indices.stop, len(source))
    return torch.cat(parts)


def write_codes(path: Path, codes_N2T: Tensor, teacher: VQAutoencoder, source: FaceSource) -> None:
    """A safetensors file that says which teacher and which faces it is of; whole or not at all."""
    from ..weights.safetensors_cache import write_safetensors

    metadata = {_TEACHER: fingerprint(teacher), _FACES: source.fingerprint}
    write_safetensors({"codes": codes_N2T}, path, metadata)


def _opened(path: Path) -> AbstractContextManager[Any]:
    """A safetensors file; the package has no types for it."""
    from safetensors import safe_open

    return safe_open(str(path), framework="pt")


def holds_codes(path: Path) -> bool:
    """Whether the file is one of ours, which may be replaced."""
    from safetensors import SafetensorError

    try:
        with _opened(path) as stream:
            return list(stream.keys()) == ["codes"]
    except (OSError, SafetensorError):
        return False


def read_codes(path: Path, teacher: VQAutoencoder, source: FaceSource) -> Tensor:
    """codes_N2T int32.

    Raises ValueError for codes of another teacher or of other faces (both fingerprints), and for a file that is
    something else.
    """
    from safetensors import SafetensorError

    try:
        with _opened(path) as stream:
            metadata: dict[str, str] = stream.metadata() or {}
            codes_N2T: Tensor = stream.get_tensor("codes")
    except (OSError, SafetensorError) as error:
        raise ValueError(f"--codes {path}: no file of codes ({error}); make one with `train codes`") from error
    expected = {_TEACHER: fingerprint(teacher), _FACES: source.fingerprint}
    for key, value in expected.items():
        if metadata.get(key) != value:
            raise ValueError(
                f"--codes {path}: made with other {key} ({metadata.get(key)}) than this run's ({value}); "
                "make them again with `train codes`"
            )
    shape, size = (len(source), 2, teacher.config.latent_size**2), teacher.config.codebook_size
    fits = codes_N2T.dtype == torch.int32 and codes_N2T.shape == shape
    if not fits or int(codes_N2T.min()) < 0 or int(codes_N2T.max()) >= size:
        raise ValueError(
            f"--codes {path}: {codes_N2T.dtype} {tuple(codes_N2T.shape)}, expected int32 {shape} from 0 to below "
            f"{size}; make them again with `train codes`"
        )
    return codes_N2T
