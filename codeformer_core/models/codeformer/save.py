"""A network as a file that comes back as exactly this network: sizes, heads, task and every bit of its weights.

Before anything is written it is read back in thought: keys and shapes are compared with the config, and what
`detect.identify` would make of the file with what was given.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ...networks.codeformer import CodeFormerConfig
from ...runtime.atomic import replaced
from ...weights.metadata import Said
from ...weights.reading import WeightsError
from ...weights.safetensors_cache import separate, write_safetensors
from .convert import NetworkConfig, to_published
from .identify import ASSUMED_HEADS, TASKS, Layout, empty_network, identify

log = logging.getLogger(__name__)

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
# Windows knows no quota of its own.
_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


def save_network(
    path: str | os.PathLike[str],
    network: nn.Module | Mapping[str, Tensor],
    config: NetworkConfig,
    task: str,
    *,
    layout: Layout = "ours",
    dtype: torch.dtype | None = None,
    trained: Mapping[str, str] | None = None,
    fidelity: float | None = None,
    also: tuple[str, ...] = (),
) -> None:
    """Write `network`, a module or its state dict (our keys, any device), to `path`: whole, or not at all.

    path: X.safetensors; with layout "published" also X.pth, a pickle as the official code reads it, which can't say
    heads and task. Its folder is made; an older file is replaced. config, task: what the network is ("restoration",
    "colorization", "inpainting"; "autoencoder" for a VQAutoencoder). dtype: float32, bfloat16 or float16; None keeps
    the tensors' own. trained: free text about the training, kept in the header. fidelity: recommended for this network,
    0..1, in the header too; None: nothing is said. also: further tasks that it learned; a published file or a pickle
    can't say so.

    Raises ValueError when state, config and task don't fit together, and for weights that are NaN, infinite or too
    large for dtype; OSError when the disk is full or the folder can't be written.
    """
    path = Path(path)
    as_pickle = is_pickle(path, layout)
    state = dict(network) if isinstance(network, Mapping) else network.state_dict()
    _check_state(path, state, config)
    if layout == "published" and isinstance(config, CodeFormerConfig) and config.pixel_path is not None:
        raise ValueError(
            f"{path}: the published layout has no place for this network's pixel path, and other programs would ignore "
            "it; save in our layout"
        )
    said = replace(_said(config, task, trained or {}), fidelity=fidelity, also=_checked_others(config, task, also))
    header = said.to_header()
    given = {key: plain(path, key, tensor, dtype) for key, tensor in state.items()}
    written = to_published(given, config) if layout == "published" else given
    _check_comes_back(path, written, config, said)
    for remark in _remarks(path, written, config, said, layout, as_pickle):
        log.warning("%s: %s", path, remark)
    write(path, written, None if as_pickle else header)


def is_pickle(path: Path, layout: Layout) -> bool:
    """Whether `save_network` would write a pickle; ValueError for a name that doesn't go with the layout."""
    suffix = path.suffix.lower()
    if suffix == ".safetensors":
        return False
    if suffix == ".pth" and layout == "published":
        return True
    endings = ".safetensors or .pth" if layout == "published" else ".safetensors"
    raise ValueError(f"{path}: the layout {layout!r} is written as {endings}; choose a name that ends so")


def _check_state(path: Path, state: Mapping[str, Tensor], config: NetworkConfig) -> None:
    expected = empty_network(config, device="meta").state_dict()
    missing, unexpected = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    wrong = [key for key in expected.keys() & state.keys() if expected[key].shape != state[key].shape]
    problem = ""
    if missing or unexpected:
        listed = [
            f"{len(keys)} {kind} ({', '.join(keys[:3])})"
            for kind, keys in (("missing", missing), ("unexpected", unexpected))
            if keys
        ]
        problem = f"keys: {', '.join(listed)}"
    elif wrong:
        key = min(wrong)
        problem = f"{key} {tuple(state[key].shape)} instead of {tuple(expected[key].shape)}"
    if problem:
        raise ValueError(
            f"{path}: the weights to be saved don't fit their config: {problem}. Give the config that the network was "
            "built with, and the state dict of the bare network, without wrappers"
        )


def _said(config: NetworkConfig, task: str, trained: Mapping[str, str]) -> Said:
    is_codeformer = isinstance(config, CodeFormerConfig)
    architecture = "codeformer" if is_codeformer else "vqgan"
    if task not in TASKS[architecture]:
        raise ValueError(f"task must be {' or '.join(TASKS[architecture])} for a {architecture}, got {task!r}")
    return Said(
        architecture=architecture,
        task=task,
        image_size=config.autoencoder.image_size if is_codeformer else config.image_size,
        heads=config.heads if is_codeformer else None,
        pixel_path=config.pixel_path.sigmas if is_codeformer and config.pixel_path is not None else None,
        trained=trained,
    )


def _checked_others(config: NetworkConfig, task: str, also: tuple[str, ...]) -> tuple[str, ...]:
    others = tuple(dict.fromkeys(other for other in also if other != task))
    for other in others:
        _said(config, other, {})
    return others


def plain(path: Path, key: str, tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    """`tensor` on the CPU, contiguous, of the dtype asked for. Raises ValueError for numbers that get lost."""
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


def _check_comes_back(path: Path, state: dict[str, Tensor], config: NetworkConfig, said: Said) -> None:
    try:
        found = identify(state, str(path), said)
    except WeightsError as error:
        raise ValueError(f"a network of these sizes could not be read again: {error}. Sizes: {config}") from error
    if _sorted_sizes(found.config) != _sorted_sizes(config) or (found.task, found.also) != (said.task, said.also):
        raise ValueError(f"{path}: a network of these sizes could not be read again. Given: {config}. Read: {found}")


def _sorted_sizes(config: NetworkConfig) -> NetworkConfig:
    """Sizes are sets: their order, and attention at sizes that no level has, make no difference to a network."""
    if isinstance(config, CodeFormerConfig):
        autoencoder = _sorted_sizes(config.autoencoder)
        assert not isinstance(autoencoder, CodeFormerConfig)
        return replace(config, autoencoder=autoencoder, fuse_sizes=tuple(sorted(set(config.fuse_sizes))))
    return replace(config, attention_sizes=tuple(sorted(set(config.attention_sizes) & set(config.level_sizes))))


def _remarks(
    path: Path, state: dict[str, Tensor], config: NetworkConfig, said: Said, layout: Layout, as_pickle: bool
) -> list[str]:
    """What other programs, and for a pickle this one too, will take the file for though it is something else."""
    heads = config.heads if isinstance(config, CodeFormerConfig) else ASSUMED_HEADS
    remarks: list[str] = []
    if layout == "published" and heads != ASSUMED_HEADS:
        remarks.append(
            f"the network has {heads} attention heads; other programs assume {ASSUMED_HEADS} and would restore other "
            "faces. The official code reads the number from its options file (n_head)"
        )
    if not as_pickle:
        return remarks
    try:
        bare = identify(state, str(path))
    except WeightsError:
        # Only the assumed number of heads can be what doesn't fit: with the header it was identified.
        return [*remarks, f"without a header it can't be loaded here again: {heads} heads; save as .safetensors"]
    there, here = _said(bare.config, bare.task, {}), said
    differences = [
        f"{name} {getattr(there, name)} instead of {getattr(here, name)}"
        for name in ("task", "image_size", "heads")
        if getattr(there, name) != getattr(here, name)
    ]
    if said.also:
        differences.append(f"without {' and '.join(said.also)}")
    if differences:
        remarks.append(
            f"a pickle can't say what it is: it will be loaded with {', '.join(differences)}. Save as .safetensors"
        )
    return remarks


def write(path: Path, state: dict[str, Tensor], header: dict[str, str] | None) -> None:
    """Write `state` to `path`, whole or not at all. header: its metadata, None for a pickle. Raises OSError."""
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


def _write_pickle(state: dict[str, Tensor], path: Path) -> None:
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
