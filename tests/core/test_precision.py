"""Precision auto: codes in float32, generated in bfloat16, where the processor is fast at it; the report says so."""

from __future__ import annotations

import argparse
import logging

import pytest
import torch
from torch import Tensor

import codeformer_core as cf
from codeformer_core.commands.tools import _precision
from codeformer_core.models import precision
from codeformer_core.models.managed import ManagedRestorer
from codeformer_core.models.restorer import restored_by
from codeformer_core.models.saving import save_network
from codeformer_core.runtime.plain_host import PlainHost

from .conftest import SMALL_CONFIG, seeded_network


@pytest.fixture
def fast(monkeypatch) -> None:
    monkeypatch.setattr(precision, "has_fast_bfloat16", lambda: True)


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "small.safetensors"
    save_network(path, seeded_network(SMALL_CONFIG), SMALL_CONFIG, "restoration")
    return path


@pytest.fixture
def faces_B3HW() -> Tensor:
    return torch.rand((2, 3, 64, 64), generator=torch.Generator().manual_seed(7)) * 2 - 1


def load(path, dtype) -> ManagedRestorer:
    return cf.ModelLibrary(PlainHost()).load_restorer(path, dtype)


def test_the_codes_are_those_of_float32(fast, checkpoint, faces_B3HW, monkeypatch):
    automatic, exact = load(checkpoint, "auto"), load(checkpoint, torch.float32)
    networks = [each.restorer.module for each in (automatic, exact)]
    dtypes = {name.partition(".")[0]: tensor.dtype for name, tensor in networks[0].named_parameters()}
    assert {name for name, dtype in dtypes.items() if dtype == torch.bfloat16} == {"generator", "fusions"}
    assert torch.equal(*(network.predict_codes(network.encode(faces_B3HW)) for network in networks))
    for fidelity in (0.0, 0.5):
        rounded, expected = (each.restore(faces_B3HW, fidelity) for each in (automatic, exact))
        assert rounded.dtype == torch.float32 and not torch.equal(rounded, expected)
        assert (rounded - expected).square().mean().sqrt() < 0.02 * expected.std()


def test_the_report_names_it(fast, checkpoint):
    def precision_events(dtype) -> list[tuple[str, object]]:
        events = restored_by(load(checkpoint, dtype), 0.5)
        return [(event.kind, event.values["precision"]) for event in events if "precision" in event.values]

    assert precision_events("auto") == [("generated_in", "bfloat16")]
    assert precision_events(torch.bfloat16) == [("computed_in", "bfloat16")]
    assert precision_events(torch.float32) == []


def test_float32_where_bfloat16_is_slow_or_not_for_the_model(fast, checkpoint, monkeypatch):
    painter = load("starter_colorization", "auto")
    assert painter.dtype == torch.float32 and painter.generator_dtype is None
    monkeypatch.setattr(precision, "has_fast_bfloat16", lambda: False)
    plain = load(checkpoint, "auto")
    assert plain.generator_dtype is None
    assert {parameter.dtype for parameter in plain.restorer.module.parameters()} == {torch.float32}


def test_parity_and_the_users_word_come_first():
    def chosen(dtype: str, **options: bool) -> object:
        return _precision(argparse.Namespace(dtype=dtype, **options))

    assert chosen("auto") == chosen("auto", parity=False) == "auto"
    assert chosen("auto", parity=True) == chosen("float32") == torch.float32
    assert chosen("bfloat16", parity=True) == torch.bfloat16


def test_values_beyond_bfloat16_are_computed_again(fast, checkpoint, faces_B3HW, caplog, monkeypatch):
    automatic, exact = load(checkpoint, "auto"), load(checkpoint, torch.float32)
    network = automatic.restorer.module
    generate = type(network).generate

    def broken(self, *arguments):
        made = generate(self, *arguments)
        return made._replace(output_B3HW=made.output_B3HW / 0) if self.generator_dtype == torch.bfloat16 else made

    monkeypatch.setattr(type(network), "generate", broken)
    with caplog.at_level(logging.WARNING):
        again = automatic.restore(faces_B3HW, 0.5)
    assert "not numbers in torch.bfloat16" in caplog.text
    # Its weights stay rounded.
    assert (again - exact.restore(faces_B3HW, 0.5)).square().mean().sqrt() < 0.02
