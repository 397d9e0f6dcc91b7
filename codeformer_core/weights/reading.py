"""A weight file as key -> tensor, however it was saved; or an error that says what the file is instead.

Code in a file is never run: safetensors hold none, and pickles pass only through torch's `weights_only` reader. Whoever
has use for a pickle's tensors keeps them as safetensors beside it, see `WeightFile.keep_copy`.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from ..runtime.foreign import is_mapping
from .catalog import CatalogEntry, find_entry
from .errors import WeightsError
from .file_format import Kind, damaged_record, is_stored_plainly, sniff, truncated, unusual_imports
from .metadata import CheckpointMetadata
from .safetensors_cache import copy_path, is_current, keep_copy
from .wrappers import state_dicts_in

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WeightFile:
    """The contents of a weight file.

    state_dicts: where in the file ("" for its top) -> the tensors there by name, on the CPU; see `state_dicts_in`. They
    may be backed by the file: don't write into them.
    pickle: the file's status, when it was read, of a pickle that has no safetensors copy yet.
    """

    path: Path
    state_dicts: Mapping[str, dict[str, Tensor]]
    pickle: os.stat_result | None = None

    @property
    def state_dict(self) -> dict[str, Tensor]:
        """The likeliest weights."""
        return next(iter(self.state_dicts.values()))

    def keep_copy(self, state: Mapping[str, Tensor]) -> None:
        """Write `state`, which a network was loaded from, as safetensors beside a pickle where the folder allows.

        Only for tensors that have proved to be of use: nothing stays behind of a refused file.
        """
        if self.pickle is not None:
            keep_copy(state, self.path, self.pickle)


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The likeliest weights in a safetensors file or pickle, see `read_weights`.

    Raises WeightsError naming the file, what was found, and the fix.
    """
    return read_weights(path).state_dict


def read_weights(path: str | os.PathLike[str]) -> WeightFile:
    """The tensors in a safetensors file or pickle. Nothing is written.

    A pickle is read from its own up-to-date safetensors copy where there is one.

    Raises WeightsError naming the file, what was found, and the fix.
    """
    path = Path(path)
    try:
        status = path.stat()
        if path.is_dir():
            _refuse(path, "a folder")
        kind = sniff(path, _expected_size(path))
    except FileNotFoundError as error:
        raise WeightsError(f"{path} is not there. {_where_from(path)}") from error
    except OSError as error:
        raise WeightsError(
            f"{path} can't be read: {error.strerror or error}. Check its permissions and the disk."
        ) from error
    if kind.kind == "none":
        _refuse(path, kind.found)
    if kind.kind == "safetensors":
        return WeightFile(path, _state_dicts(path, _read_safetensors(path)))
    if (kept := _read_copy(path)) is not None:
        return WeightFile(path, kept)
    return WeightFile(path, _state_dicts(path, _read_pickle(path, kind.kind)), status)


def read_metadata(path: str | os.PathLike[str]) -> CheckpointMetadata | None:
    """The metadata of a safetensors file, for `detect_architecture`; None for pickles and for files without.

    Never an error: whether the file can be read at all is for `read_state_dict` to say.
    """
    return CheckpointMetadata.read(Path(path))


def _read_copy(path: Path) -> dict[str, dict[str, Tensor]] | None:
    copy = copy_path(path)
    if not is_current(copy, path):
        return None
    try:
        if (kind := sniff(copy)).kind != "safetensors":
            raise WeightsError(f"{copy} is {kind.found}")
        return _state_dicts(copy, _read_safetensors(copy))
    except (WeightsError, OSError) as error:
        log.warning("the copy of %s can't be used and is written again: %s", path.name, error)
        return None


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    import safetensors.torch

    try:
        return safetensors.torch.load_file(path, device="cpu")
    except (safetensors.SafetensorError, OSError) as error:
        _refuse(path, f"a damaged safetensors file ({error})", cause=error)


def _read_pickle(path: Path, kind: Kind) -> Any:
    is_zip = kind == "torch zip"
    if is_zip and (record := damaged_record(path)) is not None:
        _refuse(path, f"damaged: {record} in it doesn't fit its checksum")
    try:
        with warnings.catch_warnings():
            # torch's remarks about old or rare ways of saving, for its own developers
            warnings.simplefilter("ignore")
            # Not torch.load: A1111 and Forge put a function of their own there, which refuses newer files.
            return torch.serialization.load(
                str(path),
                map_location="cpu",
                weights_only=True,
                # A compressed record can't be used as it lies on the disk.
                mmap=is_zip and is_stored_plainly(path),
            )
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001
        # A malformed pickle can raise anything; all of it means that this file can't be used.
        _refuse_pickle(path, kind, error)


def _refuse_pickle(path: Path, kind: Kind, error: Exception) -> NoReturn:
    if names := unusual_imports(path, kind):
        listed = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        raise WeightsError(
            f"{path} is a pickle that wants to run code ({listed}): refused, nothing was run. "
            + _expectation(path)
            + "Don't open it with other programs unless you trust its author; take the weights "
            "as safetensors or from their official address."
        ) from error
    reason = str(error).strip().partition("\n")[0][:200]
    # torch's own advice at this place is to read the file without its guard; that stays in the chained error.
    if not reason or reason.startswith("Weights only load failed"):
        reason = type(error).__name__
    expected, size = _expected_size(path), path.stat().st_size
    if isinstance(error, EOFError) or "EOF" in reason or (expected is not None and size < expected):
        _refuse(path, truncated(size, expected), cause=error)
    _refuse(path, f"no readable torch checkpoint ({reason})", cause=error)


def _state_dicts(path: Path, loaded: object) -> dict[str, dict[str, Tensor]]:
    """What was loaded, as `state_dicts_in` gives it; without those that hold other things than plain numbers."""
    if isinstance(loaded, Tensor):
        _refuse(path, "a single tensor without a name, not a checkpoint")
    if not is_mapping(loaded):
        _refuse(path, f"a pickled {type(loaded).__name__}, not a checkpoint")
    found = state_dicts_in(loaded)
    if not found:
        keys = ", ".join(str(key) for key in list(loaded)[:5]) or "nothing at all"
        _refuse(path, f"a checkpoint without weights (in it: {keys})")
    problems = {place: problem for place, state in found.items() if (problem := _problem_of(state)) is not None}
    if len(problems) == len(found):
        _refuse(path, f"a checkpoint whose {next(iter(problems.values()))}")
    return {place: state for place, state in found.items() if place not in problems}


def _problem_of(state: Mapping[str, Tensor]) -> str | None:
    return next(
        (f"{key} {problem}" for key, tensor in state.items() if (problem := _no_plain_numbers(tensor)) is not None),
        None,
    )


def _no_plain_numbers(tensor: Tensor) -> str | None:
    """Why `tensor` can't be a network's weight, or None."""
    if tensor.is_meta:
        return "is a name and a size without numbers"
    if tensor.layout != torch.strided or tensor.is_quantized:
        return "is sparse or quantized; save it dense, as floats"
    claimed = tensor.numel() * tensor.element_size()
    if claimed > tensor.untyped_storage().nbytes():
        # Numbers used again and again, by which a small file asks for more memory than there is.
        return f"claims {claimed:,} bytes where {tensor.untyped_storage().nbytes():,} are stored"
    return None


def _refuse(path: Path, found: str, cause: BaseException | None = None) -> NoReturn:
    fix = "Choose another file, or get this one again from its source."
    if (entry := _known(path)) is not None:
        fix = f"Delete it and fetch it again: {entry.how_to_get}."
    raise WeightsError(f"{path} is {found}. {_expectation(path)}{fix}") from cause


def _where_from(path: Path) -> str:
    entry = find_entry(path.name)
    if entry is None:
        return "Check the name, or choose one that `python -m codeformer_core weights list` shows."
    return f"Fetch it: {entry.how_to_get}."


def _expectation(path: Path) -> str:
    entry = _known(path)
    return "" if entry is None else f"{path.name} should be: {entry.expectation}. "


def _expected_size(path: Path) -> int | None:
    entry = _known(path)
    return None if entry is None else entry.size


def _known(path: Path) -> CatalogEntry | None:
    """The catalog's entry for exactly this file, not for a safetensors copy of it."""
    entry = find_entry(path.name)
    return entry if entry is not None and path.name in (entry.filename, *entry.aliases) else None
