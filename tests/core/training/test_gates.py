"""When the pixel path's gates should be open."""

from __future__ import annotations

import pytest
import torch

from codeformer_core.networks.pixel_path import gaussian_blur
from codeformer_core.training.losses.gates import gate_loss, gates_wanted

SIGMAS = (1.5, 5.0)


@pytest.fixture(scope="module")
def clean_B3HW():
    """Texture in all bands."""
    noise = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    bands = [noise, gaussian_blur(noise, 3.0) * 5, gaussian_blur(noise, 8.0) * 12]
    return (sum(bands) * 0.15).clamp(-1, 1)


def wanted(input_B3HW, clean_B3HW) -> list[float]:
    found = gates_wanted(input_B3HW, clean_B3HW, SIGMAS)
    assert found.shape == (2, 3, 4, 4) and found.min() >= 0 and found.max() <= 1
    return found.mean((0, 2, 3)).tolist()


def test_a_clean_face_opens_all(clean_B3HW):
    assert wanted(clean_B3HW, clean_B3HW) == pytest.approx([1, 1, 1])


def test_blur_shuts_the_bands_it_took(clean_B3HW):
    fine, middle, coarse = wanted(gaussian_blur(clean_B3HW, 2.5), clean_B3HW)
    assert fine < 0.15 and fine < middle < coarse and coarse > 0.9


def test_noise_shuts_the_finest_band(clean_B3HW):
    noise = torch.randn(clean_B3HW.shape, generator=torch.Generator().manual_seed(1)) * 0.6
    fine, _, coarse = wanted(clean_B3HW + noise, clean_B3HW)
    assert fine < 0.2 and coarse > 0.85


def test_flat_faces_open_all_and_noise_on_them_shuts():
    flat = torch.full((2, 3, 64, 64), 0.3)
    assert wanted(flat, flat) == pytest.approx([1, 1, 1])
    noise = torch.randn(flat.shape, generator=torch.Generator().manual_seed(2)) * 0.1
    assert wanted(flat + noise, flat)[0] < 0.02


def test_the_loss_is_the_cross_entropy_of_the_window_above_each_gate():
    logits_BNhw = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    wanted_BNhw = torch.rand(1, 3, 2, 2, generator=torch.Generator().manual_seed(4))
    gates = torch.sigmoid(logits_BNhw)
    terms = []
    for row in range(8):
        for column in range(8):
            gate, goal = gates[0, :, row, column], wanted_BNhw[0, :, row // 4, column // 4]
            terms.append(-(goal * gate.log() + (1 - goal) * (1 - gate).log()))
    assert float(gate_loss(logits_BNhw, wanted_BNhw)) == pytest.approx(float(torch.stack(terms).mean()), rel=1e-5)
