"""Comparison of a state dict with the tensors that a network expects."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from torch import Tensor

# Names that a message lists of each fault.
NAMES_SHOWN = 3


def difference(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    """Why `state` can't be loaded in place of `expected`, in words; empty where it can.

    Keys come first: shapes and kinds of number are compared only where every key is there.

    state: key -> tensor, as read from a file.
    expected: key -> tensor of a network of the same sizes; on the meta device, numbers are not compared.
    """
    if problem := key_difference(state, expected):
        return problem
    # torch would load whole numbers without an error, and they would make garbage of every face.
    kinds = [
        f"{key} {state[key].dtype}"
        for key, tensor in expected.items()
        if tensor.is_floating_point() and not state[key].is_floating_point()
    ]
    shapes = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(tensor.shape)}"
        for key, tensor in expected.items()
        if state[key].shape != tensor.shape
    ]
    return _joined(
        count_and_first(kinds, "tensors of another kind of number"), count_and_first(shapes, "tensors of another shape")
    )


def key_difference(keys: Collection[str], expected: Collection[str]) -> str:
    """Missing and unexpected keys, counted, with the first of each; empty where there are none."""
    keys, expected = set(keys), set(expected)
    return _joined(
        count_and_first(expected - keys, "missing keys"), count_and_first(keys - expected, "unexpected keys")
    )


def count_and_first(found: Collection[str], what: str) -> str:
    """ "3 missing keys, the first: a, b, c"; empty for none.

    found: keys, or texts that begin with one.
    what: what they are, in the plural.
    """
    return f"{len(found)} {what}, the first: {', '.join(sorted(found)[:NAMES_SHOWN])}" if found else ""


def _joined(*problems: str) -> str:
    return "; ".join(filter(None, problems))
