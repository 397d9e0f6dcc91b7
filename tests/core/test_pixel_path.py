"""The pixel path: what it adds, when it adds nothing, and how a file says that it has one."""

from __future__ import annotations

import dataclasses
import json

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import codeformer_core as cf
from codeformer_core.models.saving import save_network
from codeformer_core.networks.codeformer import CodeFormer
from codeformer_core.networks.pixel_path import PixelPath, PixelPathConfig, gaussian_blur, split_bands
from codeformer_core.weights.reading import WeightsError

from .conftest import SMALL_CONFIG, seeded_network

PATH = PixelPathConfig(sigmas=(1.5, 5.0), width=8)
CONFIG = dataclasses.replace(SMALL_CONFIG, pixel_path=PATH)


@pytest.fixture(scope="module")
def network() -> CodeFormer:
    network = seeded_network(CONFIG)
    assert isinstance(network, CodeFormer)
    return network


@pytest.fixture(scope="module")
def faces_B3HW():
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(5)) * 2 - 1


def with_gates(network: CodeFormer, bias: float) -> CodeFormer:
    """A copy whose gates are sigmoid(bias) everywhere."""
    copy = CodeFormer(CONFIG)
    copy.load_state_dict(network.state_dict())
    torch.nn.init.zeros_(copy.pixel_path.gate_out.weight)
    torch.nn.init.constant_(copy.pixel_path.gate_out.bias, bias)
    return copy.eval().requires_grad_(False)


def without_path(network: CodeFormer) -> CodeFormer:
    plain = CodeFormer(SMALL_CONFIG)
    plain.load_state_dict({k: v for k, v in network.state_dict().items() if not k.startswith("pixel_path.")})
    return plain.eval().requires_grad_(False)


@pytest.mark.parametrize("fidelity", [0.0, 0.5, 1.0])
def test_with_gates_at_zero_every_bit_is_the_old_networks(network, faces_B3HW, fidelity):
    shut = with_gates(network, -1000.0)  # sigmoid gives exactly 0 there
    assert torch.equal(shut.restore(faces_B3HW, fidelity), without_path(network).restore(faces_B3HW, fidelity))


def test_at_fidelity_0_there_is_no_path(network, faces_B3HW):
    assert torch.equal(network.restore(faces_B3HW, 0.0), without_path(network).restore(faces_B3HW, 0.0))


def test_with_gates_at_one_and_full_fidelity_the_input_comes_out(network, faces_B3HW):
    open_wide = with_gates(network, 1000.0)
    torch.testing.assert_close(open_wide.restore(faces_B3HW, 1.0), faces_B3HW, rtol=0, atol=1e-5)
    made = without_path(network).restore(faces_B3HW, 0.5)
    half = open_wide.restore(faces_B3HW, 0.5)
    torch.testing.assert_close(half, (made + faces_B3HW) / 2, rtol=0, atol=1e-5)


def test_bands_add_up_and_the_first_is_what_a_blur_takes_away(faces_B3HW):
    bands = split_bands(faces_B3HW, PATH.sigmas)
    assert len(bands) == PATH.bands == 3
    torch.testing.assert_close(sum(bands), faces_B3HW, rtol=0, atol=1e-5)
    plane_HW = faces_B3HW[0, 0].numpy()
    blurred_HW = cv2.GaussianBlur(plane_HW, (11, 11), 1.5, borderType=cv2.BORDER_REPLICATE)
    np.testing.assert_allclose(bands[0][0, 0].numpy(), plane_HW - blurred_HW, atol=1e-5)


def test_a_blur_under_autocast_stays_exact(faces_B3HW):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(gaussian_blur(faces_B3HW, 2.0), gaussian_blur(faces_B3HW.clone(), 2.0))
        assert gaussian_blur(faces_B3HW, 2.0).dtype == torch.float32


def test_half_precision_networks_keep_their_type(faces_B3HW):
    path = PixelPath(PATH, device=None, dtype=torch.bfloat16, operations=torch.nn)
    faces = faces_B3HW.bfloat16()
    output, logits = path(faces, -faces, 1.0)
    assert output.dtype == torch.bfloat16 and logits.shape == (2, 3, 16, 16)


@pytest.mark.parametrize("dtype", [None, torch.float16])
def test_a_file_comes_back_with_its_path(tmp_path, network, faces_B3HW, dtype):
    save_network(tmp_path / "mine.safetensors", network, CONFIG, "restoration", dtype=dtype)
    restorer = cf.load_restorer(tmp_path / "mine.safetensors", device="cpu")
    assert restorer.module.config == CONFIG
    if dtype is None:
        assert torch.equal(restorer.restore(faces_B3HW, 1.0), network.restore(faces_B3HW, 1.0).clamp(-1, 1))


@pytest.mark.parametrize("said", [None, [1.5], [1.5, "wide"], [1.5, -2], "1.5, 5"])
def test_a_file_that_does_not_say_where_bands_are_cut_is_refused(tmp_path, network, said):
    path = tmp_path / "mine.safetensors"
    save_network(path, network, CONFIG, "restoration")
    entry = {"version": 1, "heads": CONFIG.heads} | ({} if said is None else {"pixel_path": said})
    save_file(load_file(path), path, metadata={"codeformer": json.dumps(entry)})
    with pytest.raises(WeightsError, match=r"mine\.safetensors.*pixel_path.*sigmas"):
        cf.load_restorer(path, device="cpu")


def test_the_published_layout_refuses_a_path(tmp_path, network):
    with pytest.raises(ValueError, match=r"mine\.pth.*pixel path.*our layout"):
        save_network(tmp_path / "mine.pth", network, CONFIG, "restoration", layout="published")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("sigmas", "width", "words"),
    [((), 8, "sigmas"), ((0.0, 1.0), 8, "sigmas"), ((5.0, 1.5), 8, "ascend"), ((1.0,), 0, "width")],
)
def test_sizes_that_make_no_path(sigmas, width, words):
    with pytest.raises(ValueError, match=words):
        PixelPathConfig(sigmas, width)


def test_sigmas_larger_than_the_face_are_refused():
    """A kernel of their size would not fit into memory."""
    with pytest.raises(ValueError, match=r"sigma 1e\+09 is larger than the faces, which have 64 pixels"):
        dataclasses.replace(SMALL_CONFIG, pixel_path=PixelPathConfig(sigmas=(1.5, 1e9), width=8))
