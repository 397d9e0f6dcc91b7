"""DFDNet's dictionaries, K atoms of four parts at four scales: published as 16 .npy files, built here as one file.

Code in a file is never run: plain arrays hold none, and the pickles that numpy makes of arrays of objects pass only
through a reader that knows nothing but arrays.
"""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .dfdnet_names import DICTIONARIES
from .load import WeightsError, read_state_dict

# All that a pickled array imports, under the names before and since numpy 2, and its bytes as Python 2 wrote them.
_REBUILD: Any = np.empty(0).__reduce__()[0]
_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): _REBUILD,
    ("numpy._core.multiarray", "_reconstruct"): _REBUILD,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}
_FLOATS = (np.float16, np.float32, np.float64)


def read_dictionary(place: str | os.PathLike[str]) -> dict[str, Tensor]:
    """A folder with the files left_eye_256_center.npy ... mouth_32_center.npy, or one file with all of it ->
    {"dictionary.256.left_eye": atoms, ...}, floats with K first, for `dfdnet.join` and `dfdnet.with_dictionary`.

    Files are mapped where possible, not read: don't write into the tensors. Raises WeightsError that names the missing
    or unusable file or tensor.
    """
    path = Path(place)
    return _read_one_file(path) if path.is_file() else _read_folder(path)


def _read_one_file(path: Path) -> dict[str, Tensor]:
    state = read_state_dict(path, keep_safetensors=False)
    names = [piece.published for piece in DICTIONARIES]
    if missing := [name for name in names if name not in state]:
        raise WeightsError(
            f"{path} lacks {len(missing)} of the {len(names)} dictionaries, the first: {', '.join(missing[:3])}. Cure: "
            "give a file that `python -m codeformer_core dictionary build` has written, or the published folder"
        )
    for name in names:
        atoms = state[name]
        if not atoms.is_floating_point() or atoms.dim() < 2 or 0 in atoms.shape:
            raise WeightsError(
                f"{path}: {name} holds {atoms.dtype} of the shape {tuple(atoms.shape)}, where atoms are floats, K of "
                "them. Cure: build it again"
            )
        if not torch.isfinite(atoms).all():
            raise WeightsError(f"{path}: {name} holds numbers that are NaN or infinite. Cure: build it again")
    return {name: state[name] for name in names}


def _read_folder(folder: Path) -> dict[str, Tensor]:
    missing = [piece.filename for piece in DICTIONARIES if not (folder / piece.filename).is_file()]
    if missing:
        raise WeightsError(
            f"{folder} lacks {len(missing)} of the {len(DICTIONARIES)} dictionaries, the first: "
            f"{', '.join(missing[:3])}. Cure: give the folder DictionaryCenter512, downloaded whole"
        )
    return {piece.published: read_atoms(folder / piece.filename) for piece in DICTIONARIES}


def read_atoms(path: str | os.PathLike[str]) -> Tensor:
    """One .npy file as float32 with K first. Raises WeightsError for what is no array of floats, without running it."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            array = _read_pickled(file) if _holds_objects(file) else np.load(path, mmap_mode="c", allow_pickle=False)
        if array.dtype == object:
            # One array for every atom.
            array = np.stack([np.asarray(atom) for atom in array.flat])
    except OSError as error:
        raise WeightsError(
            f"{path} can't be read: {error.strerror or error}. Check it, and download it again"
        ) from error
    except pickle.UnpicklingError as error:
        raise WeightsError(f"{path} is refused: {error}. Download it again, from where its authors keep it") from error
    except (ValueError, EOFError, TypeError, AttributeError, IndexError, KeyError, MemoryError) as error:
        # A malformed array can raise any of these.
        raise WeightsError(f"{path} is no readable array ({error}). Download it again") from error
    if array.dtype not in _FLOATS or array.ndim < 2 or 0 in array.shape:
        raise WeightsError(
            f"{path} holds an array of {array.dtype} of the shape {array.shape}, where atoms are floats, K of them. "
            "Download it again"
        )
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))


def _holds_objects(file: Any) -> bool:
    """Looks at the header alone; the file then stands where its data begins."""
    version = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read_header(file)[2].hasobject


def _read_pickled(file: Any) -> np.ndarray:
    array = _ArraysOnly(file, encoding="latin1").load()
    if not isinstance(array, np.ndarray):
        raise pickle.UnpicklingError(f"it holds a {type(array).__name__}, no array")
    return array


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if (module_name, global_name) == ("_codecs", "encode"):
            return _latin1_bytes
        if (module_name, global_name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it wants to run code ({module_name}.{global_name}); nothing was run")
        return _ALLOWED[module_name, global_name]


def _latin1_bytes(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it holds bytes written as {encoding}")
    return text.encode("latin1")
