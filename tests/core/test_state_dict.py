"""A state dict compared with what a network expects: what is told, in which order, and how much of it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from codeformer_core.weights.state_dict import count_and_first, difference, key_difference

EXPECTED = {
    "a.weight": torch.empty(4, 3, device="meta"),
    "b.weight": torch.empty(2, device="meta"),
    "b.seen": torch.empty((), dtype=torch.int64, device="meta"),
}


def state(**changes: Tensor) -> dict[str, Tensor]:
    given = {key: torch.zeros(tensor.shape, dtype=tensor.dtype) for key, tensor in EXPECTED.items()}
    return given | {key.replace("_", "."): tensor for key, tensor in changes.items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_nothing_is_said_of_what_fits(dtype):
    given = {key: tensor.to(dtype) if tensor.is_floating_point() else tensor for key, tensor in state().items()}
    assert difference(given, EXPECTED) == ""
    assert key_difference(given, list(EXPECTED)) == ""


def test_missing_and_unexpected_keys_are_counted_and_the_first_named():
    given = state(z_1=torch.zeros(1), z_3=torch.zeros(1), z_2=torch.zeros(1), z_4=torch.zeros(1))
    del given["a.weight"]
    text = "1 missing keys, the first: a.weight; 4 unexpected keys, the first: z.1, z.2, z.3"
    assert difference(given, EXPECTED) == text
    assert key_difference(given, EXPECTED) == text


def test_shapes_are_compared_only_where_every_key_is_there():
    given = state(a_weight=torch.zeros(4, 2))
    assert difference(given, EXPECTED) == "1 tensors of another shape, the first: a.weight (4, 2) instead of (4, 3)"
    del given["b.weight"]
    assert difference(given, EXPECTED) == "1 missing keys, the first: b.weight"


@pytest.mark.parametrize("dtype", [torch.int32, torch.bool, torch.complex64])
def test_numbers_that_are_not_floats_are_named_with_their_kind(dtype):
    given = state(b_weight=torch.zeros(2, dtype=dtype))
    assert difference(given, EXPECTED) == f"1 tensors of another kind of number, the first: b.weight {dtype}"


def test_a_kind_and_a_shape_are_told_together():
    given = state(b_weight=torch.zeros(2, dtype=torch.int8), a_weight=torch.zeros(()))
    assert difference(given, EXPECTED) == (
        "1 tensors of another kind of number, the first: b.weight torch.int8; "
        "1 tensors of another shape, the first: a.weight () instead of (4, 3)"
    )


def test_counters_may_be_floats():
    """torch rounds them when it loads them, and no face depends on them."""
    assert difference(state(b_seen=torch.zeros(())), EXPECTED) == ""


def test_none_is_nothing_to_say():
    assert count_and_first([], "things") == "" and count_and_first({"b", "a"}, "things") == "2 things, the first: a, b"
