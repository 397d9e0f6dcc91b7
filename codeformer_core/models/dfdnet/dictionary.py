"""DFDNet's dictionaries, K atoms of four parts at four scales: published as 16 .npy files, built here as one file.

Code in a file is never run: plain arrays hold none, and the pickles that numpy makes of arrays of objects pass only
through a reader with stand-ins for arrays: numpy's own trusts the sizes in a pickle, and reads beyond its memory.
"""

from __future__ import annotations

import os
import pickle
import struct
import tokenize
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...weights.reading import WeightsError, read_state_dict
from .names import DICTIONARIES

_FLOATS = (np.float16, np.float32, np.float64)
# What a malformed header, array or pickle can raise, besides errors of its own.
_MALFORMED = (
    ValueError,
    EOFError,
    TypeError,
    AttributeError,
    IndexError,
    KeyError,
    OverflowError,
    RecursionError,
    SyntaxError,
    struct.error,
    tokenize.TokenError,
)


def read_dictionary(place: str | os.PathLike[str]) -> dict[str, Tensor]:
    """{"dictionary.256.left_eye": atoms, ...}, floats with K first, for `weights.join` and `weights.with_dictionary`.

    Files are mapped where possible, not read: don't write into the tensors.

    place: a folder with the files left_eye_256_center.npy ... mouth_32_center.npy, or one file with all of it.
    Raises WeightsError that names the missing or unusable file or tensor.
    """
    path = Path(place)
    return _read_one_file(path) if path.is_file() else _read_folder(path)


def _read_one_file(path: Path) -> dict[str, Tensor]:
    state = read_state_dict(path)
    names = [piece.published for piece in DICTIONARIES]
    if missing := [name for name in names if name not in state]:
        raise WeightsError(
            f"{path} lacks {len(missing)} of the {len(names)} dictionaries, the first: {', '.join(missing[:3])}. "
            "Give a file that `python -m codeformer_core dictionary build` has written, or the published folder"
        )
    for name in names:
        atoms = state[name]
        if not atoms.is_floating_point() or atoms.dim() < 2 or 0 in atoms.shape:
            raise WeightsError(
                f"{path}: {name} holds {atoms.dtype} of the shape {tuple(atoms.shape)}, where atoms are floats, K of "
                "them. Build it again"
            )
        if not torch.isfinite(atoms).all():
            raise WeightsError(f"{path}: {name} holds numbers that are NaN or infinite. Build it again")
    return {name: state[name] for name in names}


def _read_folder(folder: Path) -> dict[str, Tensor]:
    if not folder.is_dir():
        raise WeightsError(
            f"{folder} is not there. Name a file that `python -m codeformer_core dictionary build` has written, "
            "or the published folder"
        )
    missing = [piece.filename for piece in DICTIONARIES if not (folder / piece.filename).is_file()]
    if missing:
        raise WeightsError(
            f"{folder} lacks {len(missing)} of the {len(DICTIONARIES)} dictionaries, the first: "
            f"{', '.join(missing[:3])}. Give the folder DictionaryCenter512, downloaded whole"
        )
    return {piece.published: read_atoms(folder / piece.filename) for piece in DICTIONARIES}


def read_atoms(path: str | os.PathLike[str]) -> Tensor:
    """One .npy file as float32 with K first.

    Raises WeightsError for what is not an array of floats, without running code in it.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            array = _read_pickled(file) if _holds_objects(file) else np.load(path, mmap_mode="c", allow_pickle=False)
    except OSError as error:
        raise WeightsError(
            f"{path} can't be read: {error.strerror or error}. Check it, and download it again"
        ) from error
    except pickle.UnpicklingError as error:
        raise WeightsError(f"{path} is refused: {error}. Download it again, from where its authors keep it") from error
    except (*_MALFORMED, MemoryError) as error:
        raise WeightsError(f"{path} is not a readable array ({error}). Download it again") from error
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
    stored = _ArraysOnly(file, encoding="latin1").load()
    if not isinstance(stored, _Stored):
        raise pickle.UnpicklingError(f"it holds a {type(stored).__name__}, no array")
    if not stored.is_of_objects:
        return stored.plain()
    # One array for every atom.
    atoms = [atom.plain() if isinstance(atom, _Stored) else _no_array(atom) for atom in stored.data]
    # A pickle can name the same numbers again and again, and so ask for more memory than there is.
    if sum(atom.nbytes for atom in atoms) > os.fstat(file.fileno()).st_size:
        raise pickle.UnpicklingError("its arrays are larger than the file")
    return np.stack(atoms)


def _no_array(found: object) -> np.ndarray:
    raise pickle.UnpicklingError(f"it holds a {type(found).__name__} among its arrays")


class _Kind:
    """Stands for a numpy dtype: of floats, or of objects."""

    def __init__(self, name: str, *_: object) -> None:
        self.name, self.order = name, "<"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]


class _Stored:
    """Stands for a numpy array: what the pickle says of it, unchecked until it is asked for."""

    def __init__(self, *_: object) -> None:
        # Whatever the pickle says.
        self.shape: Any = ()
        self.kind: Any = None
        self.is_fortran: Any = False
        self.data: Any = b""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, self.shape, self.kind, self.is_fortran, self.data = state

    @property
    def is_of_objects(self) -> bool:
        return isinstance(self.data, list)

    def plain(self) -> np.ndarray:
        """Raises ValueError and others for sizes that don't fit, and for what is not floats."""
        if not isinstance(self.kind, _Kind) or self.kind.name not in ("f2", "f4", "f8") or self.is_of_objects:
            raise pickle.UnpicklingError(f"it holds an array of {getattr(self.kind, 'name', 'nothing')}, not of floats")
        # Strings are bytes that Python 2 wrote.
        data = self.data.encode("latin1") if isinstance(self.data, str) else self.data
        array = np.frombuffer(data, np.dtype(self.kind.order + self.kind.name))
        return array.reshape(self.shape, order="F" if self.is_fortran else "C")


# All that a pickled array imports, under the names before and since numpy 2.
_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): _Stored,
    ("numpy._core.multiarray", "_reconstruct"): _Stored,
    ("numpy", "ndarray"): _Stored,
    ("numpy", "dtype"): _Kind,
}


class _ArraysOnly(pickle._Unpickler):  # pyright: ignore[reportPrivateUsage] - see below
    """The one in Python: the one in C makes room for as many objects as a pickle claims to remember."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):
            # Bytes as Python 2 wrote them. A new function each time: a pickle can write into what it is given.
            def encode(text: str, encoding: str) -> bytes:
                return _latin1_bytes(text, encoding)

            return encode
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it wants to run code ({module}.{name}); nothing was run")
        return _ALLOWED[module, name]


def _latin1_bytes(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it holds bytes written as {encoding}")
    return text.encode("latin1")
