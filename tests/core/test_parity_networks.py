"""Our networks against recorded outputs of the published ones, and against an independent implementation."""

from __future__ import annotations

from functools import lru_cache

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import codeformer_core as cf
from codeformer_core.models.architectures import detect_architecture

# checkpoint -> its golden outputs: key, fidelity, adain
RESTORATIONS = {
    "codeformer": [
        ("output_w0_adain1", 0.0, True),
        ("output_w0.5_adain1", 0.5, True),
        ("output_w0.5_adain0", 0.5, False),
        ("output_w1_adain1", 1.0, True),
    ],
    "codeformer_colorization": [("output_w0_adain1", 0.0, True)],
    "codeformer_inpainting": [("output_w1_adain0", 1.0, False)],
}
TASKS = {
    "codeformer": "restoration",
    "codeformer_colorization": "colorization",
    "codeformer_inpainting": "inpainting",
}


def assert_equal_enough(ours: Tensor, published: Tensor) -> None:
    assert ours.shape == published.shape
    rms = (ours - published).square().mean().sqrt()
    assert rms < 1e-3 * published.std()
    assert (ours.clamp(-1, 1) - published.clamp(-1, 1)).abs().max() < 0.01


@pytest.fixture(scope="module")
def face_B3HW(astronaut) -> Tensor:
    return astronaut.permute(2, 0, 1)[None] * 2 - 1


@pytest.fixture(scope="module")
def restorer(published_state):
    @lru_cache(maxsize=1)
    def get(name: str) -> cf.Restorer:
        return cf.load_restorer(published_state(name))

    return get


def test_every_golden_output_is_compared(golden):
    for name in TASKS:
        keys = {key for key in load_file(golden / "networks" / f"{name}.safetensors") if key.startswith("output")}
        assert keys == {key for key, _, _ in RESTORATIONS[name]}


@torch.no_grad()
def test_autoencoder(restorer, golden, face_B3HW):
    published = load_file(golden / "networks" / "vqgan.safetensors")
    assert (restorer("vqgan").architecture, restorer("vqgan").task) == ("vqgan", "autoencoder")
    autoencoder = restorer("vqgan").module
    latent_BDHW = autoencoder.encode(face_B3HW)
    codes_BT = autoencoder.quantize(latent_BDHW)
    assert_equal_enough(latent_BDHW, published["latent"])
    assert torch.equal(codes_BT.flatten(), published["indices"].flatten())
    assert_equal_enough(autoencoder.decode(codes_BT)[:, :, ::4, ::4], published["output"])


@pytest.mark.parametrize(
    "name", [name if name == "codeformer" else pytest.param(name, marks=pytest.mark.slow) for name in TASKS]
)
@torch.no_grad()
def test_codes_and_outputs(restorer, golden, face_B3HW, name):
    """One test per checkpoint, so that its weights are made once."""
    published = load_file(golden / "networks" / f"{name}.safetensors")
    assert (restorer(name).architecture, restorer(name).task) == ("codeformer", TASKS[name])
    codeformer = restorer(name).module
    latent_BDHW = codeformer.encode(face_B3HW)
    logits_BTK = codeformer.predict_logits(latent_BDHW)
    assert_equal_enough(latent_BDHW, published["latent"])
    assert_equal_enough(logits_BTK[:, ::16], published["logits"])
    assert torch.equal(logits_BTK.argmax(-1).flatten(), published["indices"].flatten())
    for key, fidelity, adain in RESTORATIONS[name]:
        restored_B3HW = codeformer.restore(face_B3HW, fidelity, adain=adain)
        assert_equal_enough(restored_B3HW[:, :, ::4, ::4], published[key])


@pytest.mark.slow
@torch.no_grad()
def test_inpainting_is_the_official_recipe(restorer, face_B3HW):
    """White where the mask is, fidelity 1, no adain, and outside the mask the input to the last bit."""
    inpainter = restorer("codeformer_inpainting")
    mask_B1HW = torch.zeros(1, 1, 512, 512)
    mask_B1HW[:, :, 200:300, 150:260] = 1
    filled_B3HW = inpainter.inpaint(face_B3HW, mask_B1HW)
    white_B3HW = torch.where(mask_B1HW > 0.5, torch.ones(()), face_B3HW)
    expected_B3HW = inpainter.module.restore(white_B3HW, 1.0, adain=False).clamp(-1, 1)
    hole = (mask_B1HW > 0.5).expand(-1, 3, -1, -1)
    assert torch.equal(filled_B3HW[~hole], face_B3HW[~hole])
    assert torch.equal(filled_B3HW[hole], expected_B3HW[hole])


@pytest.mark.slow
@torch.no_grad()
def test_agrees_with_spandrel_on_random_weights(published_state, face_B3HW):
    from spandrel_extra_arches.architectures.CodeFormer import CodeFormerArch

    generator = torch.Generator().manual_seed(3)
    state = {
        key: tensor + 0.02 * tensor.std().nan_to_num(0) * torch.randn(tensor.shape, generator=generator)
        for key, tensor in published_state("codeformer").items()
    }
    theirs = CodeFormerArch().load(dict(state)).model.eval()
    ours = detect_architecture(state, "random").build(state)
    expected_B3HW = theirs(face_B3HW, weight=0.7, adain=True)
    expected_B3HW = expected_B3HW[0] if isinstance(expected_B3HW, tuple) else expected_B3HW
    assert_equal_enough(ours.restore(face_B3HW, 0.7), expected_B3HW)
