"""What tells a file or loaded weights from others of the same name."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch

from ..models.managed import ManagedRestorer
from ..models.restorer import FaceRestorer, Restorer

_MIB = 1 << 20
# Values of each weight that are looked at.
_SAMPLES = 4096


def digest_of_ends(path: Path) -> str:
    """The sha256 of a file's first and last MiB, in hex: quick, whatever its size. Raises OSError."""
    with path.open("rb") as stream:
        digest = hashlib.sha256(stream.read(_MIB))
        stream.seek(max(0, path.stat().st_size - _MIB))
        digest.update(stream.read(_MIB))
    return digest.hexdigest()


@torch.no_grad()
def digest_of_weights(restorer: FaceRestorer) -> str | None:
    """The sha256 of samples of a network's weights, in hex; None for a restorer that is not one of ours."""
    owner = restorer.restorer if isinstance(restorer, ManagedRestorer) else restorer
    if not isinstance(owner, Restorer):
        return None
    digest = hashlib.sha256()
    for name, weight in owner.module.state_dict().items():
        step = max(1, weight.numel() // _SAMPLES)
        digest.update(f"{name} {tuple(weight.shape)}".encode())
        digest.update(weight.detach().flatten()[::step].float().cpu().numpy().tobytes())
    return digest.hexdigest()
