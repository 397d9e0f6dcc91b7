"""A state dict written to a file: safetensors or a pickle, whole or not at all, with the causes of a failure."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..runtime.atomic import replaced
from .safetensors_cache import separate, write_safetensors

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
# Windows knows no quota of its own.
_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


def plain(path: Path, key: str, tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    """`tensor` as it is written: on the CPU, contiguous, of the dtype asked for.

    path, key: for messages.
    dtype: float32, bfloat16 or float16; None keeps the tensor's own, which must be one of these.
    Raises ValueError for numbers that get lost.
    """
    wanted = dtype or tensor.dtype
    if wanted not in DTYPES or not tensor.is_floating_point():
        found = f"{key} is of {tensor.dtype}" if dtype in (None, *DTYPES) else f"dtype is {dtype}"
        raise ValueError(f"{path}: {found}; save as torch.float32, torch.bfloat16 or torch.float16 (dtype=...)")
    if tensor.is_meta:
        raise ValueError(f"{path}: {key} has a size and no numbers (device meta); give weights that were loaded")
    if not torch.isfinite(tensor).all():
        count = int((~torch.isfinite(tensor)).sum())
        raise ValueError(
            f"{path}: {count} of {tensor.numel()} numbers in {key} are NaN or infinite: the training has failed. "
            "Nothing was written; take the last good checkpoint"
        )
    converted = tensor.detach().to("cpu", wanted)
    if not torch.isfinite(converted).all():
        raise ValueError(
            f"{path}: {key} reaches {float(tensor.abs().max()):.4g}, {wanted} ends at {torch.finfo(wanted).max:.4g}; "
            "save as bfloat16 or float32"
        )
    # The networks keep their convolutions channels_last; a file holds plain rows.
    return converted.contiguous()


def write_state_dict(state: Mapping[str, Tensor], path: Path, header: dict[str, str] | None) -> None:
    """Write `state` to `path`, whole or not at all; its folder is made, an older file is replaced.

    header: the metadata of a safetensors file; None writes a pickle, as the official code reads it.
    Raises OSError with the path, the cause and the fix.
    """
    needed = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(path.parent).free < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if header is not None:
            write_safetensors(state, path, header)
        else:
            _write_pickle(state, path)
    except OSError as error:
        raise _explained(error, path, needed) from error


def _write_pickle(state: Mapping[str, Tensor], path: Path) -> None:
    with replaced(path) as temporary, temporary.open("wb") as file:
        try:
            torch.save({"params_ema": separate(state)}, file)
        except RuntimeError as error:
            # torch's own word for a write that failed.
            raise OSError(f"{path} could not be written as a pickle: {error}") from error


def _explained(error: OSError, path: Path, needed: int) -> OSError:
    if error.errno in _FULL:
        cause = f"the disk is full: {needed:,} bytes are needed in {path.parent}; free some, or choose another folder"
        return OSError(error.errno, cause, str(path))
    reason = error.strerror or str(error)
    return OSError(
        error.errno or errno.EIO,
        f"can't be written ({reason}); check the folder's permissions and the disk, or choose another folder",
        str(path),
    )
