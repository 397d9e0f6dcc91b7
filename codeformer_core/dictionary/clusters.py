"""K atoms of one part at one scale, by k-means in small batches.

The paper's own way: raw features, clustered; the network takes each atom's style away when it is loaded. Begun with K
of the faces, drawn by the seed; every cluster has one face at least, its own.

Shape legend: N faces, B faces at a time, K atoms, D numbers of an atom.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..runtime import memory
from .options import DictionaryOptions

# Of features in float32 at a time, besides the atoms.
BATCH_BYTES = 2**27
# Atoms as k-means begins, as it continues, and a copy while it checks them.
COPIES_OF_ATOMS = 3


def require_scikit_learn() -> Any:
    """MiniBatchKMeans. Raises ImportError with the fix where scikit-learn is missing or broken."""
    try:
        from sklearn.cluster import MiniBatchKMeans
    except ImportError as error:
        raise ImportError(
            f"building a dictionary needs scikit-learn, which can't be imported here ({error}). "
            "Run pip install scikit-learn"
        ) from error
    return MiniBatchKMeans


def bytes_needed(atoms: int, numbers: int) -> int:
    """Main memory that `cluster` takes at most."""
    return COPIES_OF_ATOMS * atoms * numbers * 4 + 3 * BATCH_BYTES


def cluster(
    features_ND: np.ndarray, options: DictionaryOptions, piece: int, on_pass: Callable[[int], None]
) -> tuple[np.ndarray, np.ndarray]:
    """atoms_KD float32; nearest_K int64, of each atom the face most like it.

    The same numbers for the same seed on the same machine with as many threads.

    features_ND: floats, may lie on the disk.
    piece: number of the dictionary, so that each draws for itself.
    on_pass: called before every batch with how many passes are done, of options.passes and one more; may raise to
    cancel.
    """
    kmeans_class = require_scikit_learn()
    count, numbers = map(int, features_ND.shape)
    memory.require(bytes_needed(options.atoms, numbers), "cpu", f"clustering {options.atoms} atoms")
    random = np.random.default_rng([options.seed, piece])
    first_KD = _rows(features_ND, random.choice(count, options.atoms, replace=False))
    kmeans = kmeans_class(
        n_clusters=options.atoms, init=first_KD, n_init=1, reassignment_ratio=0, random_state=options.seed
    )
    # The faces it begins with: the first batch may not be smaller than K, and so the others may.
    kmeans.partial_fit(first_KD)
    del first_KD
    size = max(1, BATCH_BYTES // (numbers * 4))
    for done in range(options.passes):
        for indices_B in _batches(random.permutation(count), size):
            on_pass(done)
            kmeans.partial_fit(_rows(features_ND, indices_B))
    nearest_K, least_K = np.zeros(options.atoms, np.int64), np.full(options.atoms, np.inf)
    for indices_B in _batches(np.arange(count), size):
        on_pass(options.passes)
        distances_BK = kmeans.transform(_rows(features_ND, indices_B))
        best_K = distances_BK.argmin(0)
        distance_K = distances_BK[best_K, np.arange(options.atoms)]
        nearest_K = np.where(distance_K < least_K, indices_B[best_K], nearest_K)
        least_K = np.minimum(distance_K, least_K)
    return np.ascontiguousarray(kmeans.cluster_centers_, np.float32), nearest_K


def _batches(indices_N: np.ndarray, size: int) -> Iterator[np.ndarray]:
    return (indices_N[begin : begin + size] for begin in range(0, len(indices_N), size))


def _rows(features_ND: np.ndarray, indices_B: np.ndarray) -> np.ndarray:
    """In ascending order, as they lie on the disk; for k-means their order within a batch doesn't matter."""
    return features_ND[np.sort(indices_B)].astype(np.float32)
