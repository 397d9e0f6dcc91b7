"""A loaded restorer: what goes in, what comes out, and what happens when the network answers with no numbers."""

from __future__ import annotations

import logging
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import codeformer_core as cf
from codeformer_core.models.codeformer.architecture import CODEFORMER
from codeformer_core.models.codeformer.convert import to_published
from codeformer_core.models.restorer import Restorer, check_fidelity
from codeformer_core.networks.vqgan import AutoencoderConfig
from codeformer_core.runtime import memory

from .conftest import SMALL_CONFIG, seeded_network

CPU = torch.device("cpu")
INPAINTING = replace(
    SMALL_CONFIG,
    autoencoder=replace(
        SMALL_CONFIG.autoencoder, image_size=128, channel_multipliers=(1, 1, 1), attention_sizes=(), codebook_size=512
    ),
    fuse_sizes=(32, 64, 128),
)


@pytest.fixture(scope="module")
def restorer() -> Restorer:
    return cf.load_restorer(seeded_network(SMALL_CONFIG).state_dict())


@pytest.fixture(scope="module")
def inpainter() -> Restorer:
    return cf.load_restorer(seeded_network(INPAINTING).state_dict())


@pytest.fixture(scope="module")
def faces_B3HW() -> Tensor:
    return torch.rand((2, 3, 64, 64), generator=torch.Generator().manual_seed(5)) * 2 - 1


class Fragile(nn.Module):
    """Stands for a network whose activations overflow below `safe` precision."""

    def __init__(self, safe: torch.dtype | None = torch.float32) -> None:
        super().__init__()
        self.config = AutoencoderConfig(64, 32, (1, 1), 1, (), 8, 32)
        self.weight = nn.Parameter(torch.ones(()))
        self.safe = safe
        self.seen: list[torch.dtype] = []

    def restore(self, faces_B3HW: Tensor, fidelity: float, adain: bool) -> Tensor:
        self.seen.append(faces_B3HW.dtype)
        return faces_B3HW * (self.weight if faces_B3HW.dtype == self.safe else torch.nan)


def fragile(dtype: torch.dtype, safe: torch.dtype | None = torch.float32, **options) -> Restorer:
    module = Fragile(safe).to(dtype)
    return Restorer(CODEFORMER, "restoration", "some file.pth", module, CPU, dtype, **options)


# --- restoring -------------------------------------------------------------------------------------------------------


def test_faces_come_back_clamped_and_in_float32(restorer, faces_B3HW):
    restored_B3HW = restorer.restore(faces_B3HW, 0.5)
    assert restored_B3HW.shape == faces_B3HW.shape and restored_B3HW.dtype == torch.float32
    assert restored_B3HW.abs().max() <= 1
    exact_B3HW = restorer.module.restore(faces_B3HW, 0.5, adain=True)
    assert torch.equal(restored_B3HW, exact_B3HW.clamp(-1, 1))
    assert not torch.equal(restored_B3HW, exact_B3HW)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_faces_of_another_precision(restorer, faces_B3HW, dtype):
    restored_B3HW = restorer.restore(faces_B3HW.to(dtype), 0.5)
    assert restored_B3HW.dtype == torch.float32
    assert torch.equal(restored_B3HW, restorer.restore(faces_B3HW.to(dtype).float(), 0.5))


def test_no_gradients_are_kept(restorer, faces_B3HW):
    assert not restorer.restore(faces_B3HW.clone().requires_grad_(), 0.5).requires_grad


def test_the_faces_are_not_written_to(restorer, inpainter, faces_B3HW):
    before = faces_B3HW.clone()
    restorer.restore(faces_B3HW, 0.5)
    assert torch.equal(faces_B3HW, before)


def test_adain_is_off_for_inpainting_models_only(restorer, inpainter):
    faces_B3HW = torch.rand(1, 3, 128, 128) * 2 - 1
    assert (restorer.task, inpainter.task) == ("restoration", "inpainting")
    with torch.no_grad():
        expected_B3HW = inpainter.module.restore(faces_B3HW, 1.0, adain=False).clamp(-1, 1)
    assert torch.equal(inpainter.restore(faces_B3HW, 1.0), expected_B3HW)


def test_a_model_of_several_tasks_inpaints_too(restorer, faces_B3HW):
    """What it is asked for decides, not what it was made for first."""
    holes_B1HW = torch.zeros(len(faces_B3HW), 1, *faces_B3HW.shape[2:])
    holes_B1HW[..., 10:20, 10:20] = 1
    filled_B3HW = replace(restorer, also=("inpainting",)).inpaint(faces_B3HW, holes_B1HW)
    white_B3HW = torch.where(holes_B1HW > 0.5, 1.0, faces_B3HW)
    without_B3HW = restorer.module.restore(white_B3HW, 1.0, adain=False).clamp(-1, 1)
    assert torch.equal(filled_B3HW, torch.where(holes_B1HW > 0.5, without_B3HW, faces_B3HW))


@pytest.mark.parametrize("fidelity", [-0.1, 1.1, math.nan, math.inf, -math.inf])
def test_fidelity_outside_0_to_1(restorer, faces_B3HW, fidelity):
    for refuses in (lambda: restorer.restore(faces_B3HW, fidelity), lambda: check_fidelity(fidelity)):
        with pytest.raises(ValueError, match=r"fidelity must be from 0 .* to 1 .*, got"):
            refuses()


@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 3, 32, 32), (1, 1, 64, 64), (1, 64, 64, 3)])
def test_faces_of_another_shape(restorer, shape):
    with pytest.raises(ValueError, match=r"must have the shape \(n, 3, 64, 64\), got"):
        restorer.restore(torch.zeros(shape))


def test_an_autoencoder_restores_nothing(faces_B3HW):
    config = replace(SMALL_CONFIG.autoencoder, image_size=512, attention_sizes=())
    autoencoder = cf.load_restorer(to_published(seeded_network(config).state_dict(), config))
    for verb in (lambda: autoencoder.restore(faces_B3HW), lambda: autoencoder.inpaint(faces_B3HW, faces_B3HW[:, :1])):
        with pytest.raises(ValueError, match=r"the given state dict is an? .*autoencoder.*choose codeformer"):
            verb()


def test_faces_are_measured_for_the_batch_size(restorer):
    assert restorer.face_size == 64
    assert restorer.bytes_per_face == 2 * replace(restorer, dtype=torch.bfloat16).bytes_per_face > 64 * 64 * 32 * 4


def test_a_gpu_gets_as_many_faces_as_fit_and_a_cpu_one(restorer, monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda device: 5 * restorer.bytes_per_face)
    assert restorer.faces_at_once() == 1
    assert restorer.on("cuda").faces_at_once() == 4


def test_faces_that_are_no_numbers_are_not_blamed_on_the_file(restorer):
    faces_B3HW = torch.full((1, 3, 64, 64), float("nan"))
    with pytest.raises(ValueError, match="the faces hold values that are NaN"):
        restorer.restore(faces_B3HW)


def test_the_same_module_on_another_device(restorer):
    moved = restorer.on("meta")
    assert moved.device == torch.device("meta") and moved.module is restorer.module
    assert restorer.device == CPU


# --- inpainting ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_not_masked_keeps_every_bit(inpainter, dtype):
    """Also where the network computes in bfloat16, which rounds its own copy of the faces."""
    faces_B3HW = torch.rand((2, 3, 128, 128), generator=torch.Generator().manual_seed(6)) * 2 - 1
    mask_B1HW = torch.zeros(2, 1, 128, 128)
    mask_B1HW[0, :, 20:50, 30:90] = 1
    mask_B1HW[0, :, 60:70] = 0.5
    rough = replace(inpainter, module=seeded_network(INPAINTING).to(dtype), dtype=dtype)
    filled_B3HW = rough.inpaint(faces_B3HW, mask_B1HW)
    hole = (mask_B1HW > 0.5).expand(-1, 3, -1, -1)
    assert filled_B3HW.dtype == torch.float32
    assert torch.equal(filled_B3HW[~hole], faces_B3HW[~hole])
    assert (filled_B3HW[hole] != faces_B3HW[hole]).float().mean() > 0.9


def test_only_inpainting_models_inpaint(restorer, faces_B3HW):
    with pytest.raises(
        ValueError,
        match=r"for restoration .*; inpainting faces needs one for inpainting: choose codeformer_inpainting\.pth",
    ):
        restorer.inpaint(faces_B3HW, faces_B3HW[:, :1])


@pytest.mark.parametrize("shape", [(1, 128, 128), (1, 3, 128, 128), (2, 1, 128, 128), (1, 1, 64, 64)])
def test_masks_of_another_shape(inpainter, shape):
    with pytest.raises(ValueError, match=r"the mask must have the shape .*\(1, 3, 128, 128\), got"):
        inpainter.inpaint(torch.zeros(1, 3, 128, 128), torch.zeros(shape))


# --- answers that are no numbers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_is_retried_in_float32_with_a_warning(faces_B3HW, caplog, dtype):
    restorer = fragile(dtype)
    with caplog.at_level(logging.WARNING):
        restored_B3HW = restorer.restore(faces_B3HW)
    assert torch.equal(restored_B3HW, faces_B3HW)
    assert [record.getMessage() for record in caplog.records] == [
        f"some file.pth gave values that are not numbers in {dtype}; trying again in float32"
    ]
    # The module itself stays as it was; a copy of it was cast.
    assert restorer.module.weight.dtype == dtype and restorer.module.seen == [dtype]


def test_layers_that_cast_by_themselves_are_not_copied(faces_B3HW):
    restorer = fragile(torch.bfloat16, casts_weights=True)
    assert torch.equal(restorer.restore(faces_B3HW), faces_B3HW)
    assert restorer.module.seen == [torch.bfloat16, torch.float32]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_numbers_even_in_float32_are_an_error(faces_B3HW, dtype):
    with pytest.raises(RuntimeError, match=r"some file\.pth gave values .* even in float32. .*weights verify"):
        fragile(dtype, safe=None).restore(faces_B3HW)


def test_no_numbers_in_one_face_of_a_batch_are_noticed(faces_B3HW):
    spoiled_B3HW = faces_B3HW.clone()
    spoiled_B3HW[1, 2, 63, 63] = torch.nan
    with pytest.raises(ValueError, match="the faces hold values that are NaN"):
        fragile(torch.float32).restore(spoiled_B3HW)
