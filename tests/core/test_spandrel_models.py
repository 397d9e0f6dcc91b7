"""GFPGAN and RestoreFormer: what spandrel gives when it is called directly, through this package's sockets."""

from __future__ import annotations

import sys

import pytest
import torch
from spandrel import ImageModelDescriptor, ModelLoader
from spandrel.architectures.GFPGAN import GFPGAN
from spandrel.architectures.RestoreFormer import RestoreFormer
from torch import Tensor, nn

import codeformer_core as cf
from codeformer_core.models.restorer import Restorer, restored_by
from codeformer_core.weights.reading import WeightsError

from .facts import kinds

# Narrow where the architecture lets it; spandrel reads RestoreFormer's sizes from its shapes.
SMALL_RESTOREFORMER = {"ch": 32, "z_channels": 256}


def filled(network: nn.Module) -> dict[str, Tensor]:
    """Its weights, small and the same at every run; what is drawn at building would differ."""
    generator = torch.Generator().manual_seed(4)
    return {
        key: torch.randn(tensor.shape, generator=generator) * 0.03 if tensor.is_floating_point() else tensor
        for key, tensor in network.state_dict().items()
    }


@pytest.fixture(scope="module")
def faces_B3HW() -> Tensor:
    return torch.rand((2, 3, 512, 512), generator=torch.Generator().manual_seed(2)) * 2 - 1


@pytest.fixture(scope="module")
def gfpgan_state() -> dict[str, Tensor]:
    return filled(GFPGAN())


@pytest.fixture(scope="module")
def restoreformer_state() -> dict[str, Tensor]:
    return filled(RestoreFormer(**SMALL_RESTOREFORMER))


def opened_directly(state: dict[str, Tensor]) -> ImageModelDescriptor:
    found = ModelLoader("cpu").load_from_state_dict(dict(state))
    assert isinstance(found, ImageModelDescriptor)
    found.model.eval()
    return found


def check_is_a_restorer(restorer: Restorer, architecture: str, faces_B3HW: Tensor, restored_B3HW: Tensor) -> None:
    assert (restorer.architecture, restorer.task, restorer.face_size) == (architecture, "restoration", 512)
    assert not restorer.uses_fidelity and kinds(restored_by(restorer, 0.5)) == {"restored_by"}
    # Whatever the fidelity and whoever comes along.
    assert (restorer.restore(faces_B3HW[-1:], 0.0) - restored_B3HW[-1:]).abs().max() < 1e-4
    assert not restorer.module.training and not any(each.requires_grad for each in restorer.module.parameters())
    assert 0 < restorer.bytes_per_face < 4 * 2**30


@pytest.mark.slow
@torch.no_grad()
def test_gfpgan_is_spandrels_with_the_published_range_and_the_noise_of_its_file(gfpgan_state, faces_B3HW):
    """One face: its architecture has no small sizes."""
    restorer, face_13HW = cf.load_restorer(gfpgan_state), faces_B3HW[:1]
    restored_13HW = restorer.restore(face_13HW, 1.0)
    # The published program feeds and reads [-1, 1]; spandrel's own call leaves that to its caller.
    expected_13HW = opened_directly(gfpgan_state).model(face_13HW, randomize_noise=False)[0].clamp(-1, 1)
    assert torch.equal(restored_13HW, expected_13HW) and restored_13HW.std() > 0.01
    check_is_a_restorer(restorer, "gfpgan", face_13HW, restored_13HW)


@pytest.mark.slow
@torch.no_grad()
def test_restoreformer_is_spandrels(restoreformer_state, faces_B3HW):
    restorer = cf.load_restorer(restoreformer_state)
    restored_B3HW = restorer.restore(faces_B3HW, 1.0)
    expected_B3HW = opened_directly(restoreformer_state)((faces_B3HW + 1) / 2) * 2 - 1
    assert (restored_B3HW - expected_B3HW).abs().max() < 1e-5 and restored_B3HW.std() > 0.005
    check_is_a_restorer(restorer, "restoreformer", faces_B3HW, restored_B3HW)


def test_a_training_checkpoint_of_restoreformer_is_opened_too(restoreformer_state):
    wrapped = {f"vqvae.{key}": tensor for key, tensor in restoreformer_state.items()}
    wrapped["loss.discriminator.weight"] = torch.zeros(1)
    assert cf.load_restorer(wrapped).architecture == "restoreformer"


@pytest.mark.slow
def test_bfloat16_stays_near(restoreformer_state, faces_B3HW):
    exact = cf.load_restorer(restoreformer_state).restore(faces_B3HW[:1], 0.5)
    rounded = cf.load_restorer(restoreformer_state, dtype=torch.bfloat16).restore(faces_B3HW[:1], 0.5)
    assert rounded.dtype == torch.float32
    assert (rounded - exact).std() < 0.1 * exact.std()


def test_half_a_file_is_said_to_be_incomplete(gfpgan_state):
    half = {key: tensor for key, tensor in gfpgan_state.items() if not key.startswith("conv_body")}
    with pytest.raises(
        WeightsError,
        match=r"looks like a GFPGAN checkpoint, but can't be used: spandrel refuses it: .*Missing key.*\. The file .* "
        r"download it again",
    ):
        cf.load_restorer(half)


def test_whole_numbers_are_refused(restoreformer_state):
    """torch would load them without a word."""
    key = "decoder.conv_in.weight"
    spoiled = {**restoreformer_state, key: restoreformer_state[key].int()}
    with pytest.raises(
        WeightsError,
        match=r"1 tensors of another kind of number, the first: decoder\.conv_in\.weight torch\.int32\. .* again",
    ):
        cf.load_restorer(spoiled)


def test_without_spandrel_the_cure_is_said(restoreformer_state, monkeypatch):
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(WeightsError, match=r"is a RestoreFormer.*pip install spandrel"):
        cf.load_restorer(restoreformer_state)
