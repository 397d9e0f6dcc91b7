"""The identity loss and the metric of the same network."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from codeformer_core.faces.identity import FaceIdentity, load_identity
from codeformer_core.metrics.descriptors import DlibIdentity
from codeformer_core.training.losses.identity import IdentityLoss, load_identity_loss


@pytest.fixture(scope="module")
def identity() -> FaceIdentity:
    return load_identity()


@pytest.fixture
def pair():
    """Two batches, RGB in [0, 1]."""
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.rand(2, 3, 64, 64, generator=generator) for _ in range(2))


@pytest.mark.parametrize("squared", [True, False])
def test_formula(identity, pair, squared):
    a_BD, b_BD = (identity.descriptors(faces).numpy().astype(float) for faces in pair)
    distances = np.sqrt(((a_BD - b_BD) ** 2).sum(axis=1))
    assert distances.min() > 0.05
    restored, clean = (faces * 2 - 1 for faces in pair)
    found = IdentityLoss(identity, squared)(restored, clean)
    assert float(found) == pytest.approx(((distances**2) if squared else distances).mean(), rel=1e-3)


@pytest.mark.parametrize("squared", [True, False])
def test_equal_faces(identity, pair, squared):
    restored = (pair[0] * 2 - 1).requires_grad_()
    loss = IdentityLoss(identity, squared)(restored, restored.detach().clone())
    loss.backward()
    assert float(loss.detach()) < 2e-4
    assert torch.equal(restored.grad, torch.zeros_like(restored))


def test_gradients_reach_the_restored_faces_only(pair):
    loss = load_identity_loss()
    restored, clean = ((faces * 2 - 1).requires_grad_() for faces in pair)
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(restored, clean)
    assert value.dtype == torch.float32
    value.backward()
    assert float(restored.grad.abs().sum()) > 0 and clean.grad is None
    assert all(parameter.grad is None for parameter in loss.identity.network.parameters())


def test_kept_descriptors_give_the_same(identity, pair):
    loss = IdentityLoss(identity)
    kept_BD = loss.clean_descriptors(pair[1].requires_grad_())
    assert not kept_BD.requires_grad
    assert torch.equal(loss.to_descriptors(pair[0], kept_BD), loss(*pair))


def test_metric(identity, pair):
    metric = DlibIdentity()
    assert metric.name == "dlib distance" and metric.better == "lower"
    found_B = metric.measure(*pair)
    assert found_B.dtype == torch.float64 and found_B.shape == (2,)
    expected_B = (identity.descriptors(pair[0]) - identity.descriptors(pair[1])).norm(dim=1)
    torch.testing.assert_close(found_B.float(), expected_B)
    assert metric.measure(pair[0], pair[0]).tolist() == [0.0, 0.0]
    with pytest.raises(ValueError, match="clean faces"):
        metric.measure(pair[0], pair[1] * 2)
