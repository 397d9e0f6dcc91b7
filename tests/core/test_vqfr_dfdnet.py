"""VQFR and DFDNet as restorers: batches, bfloat16, and their files, also under wrong names and broken.

The networks are small; those of the published sizes are compared with recorded outputs in test_vqfr.py and
test_dfdnet.py.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import codeformer_core as cf
from codeformer_core.models.dfdnet.weights import join
from codeformer_core.models.vqfr.names import to_published
from codeformer_core.networks.dfdnet import DFDNet, DFDNetConfig
from codeformer_core.networks.vqfr_v1 import VQFRv1
from codeformer_core.networks.vqfr_v2 import VQFRv2
from codeformer_core.weights.reading import WeightsError

from .test_dfdnet import dictionary_of, shapes_of
from .test_networks import rms
from .test_vqfr import SMALL, seeded

VQFR = {"vqfr_v1": SMALL[1], "vqfr_v2": SMALL[2]}
NARROW = DFDNetConfig(image_size=512, widths=(8, 16, 16, 24, 24), atoms=3, part_sizes=(80, 80, 50, 110))
CLASSES = {"vqfr_v1": VQFRv1, "vqfr_v2": VQFRv2, "dfdnet": DFDNet}


@pytest.fixture(scope="module")
def published(fill) -> dict[str, dict[str, Tensor]]:
    """Whole files of narrow networks in the published layout."""
    states = {name: to_published(seeded(config).state_dict(), config) for name, config in VQFR.items()}
    shapes = shapes_of(NARROW)
    network = {key: torch.from_numpy(value) for key, value in fill.fill_state_dict(shapes).items()}
    return {**states, "dfdnet": join(network, None, dictionary_of(NARROW, fill))}


@pytest.fixture(scope="module", params=CLASSES)
def name(request) -> str:
    return request.param


def loaded(published: dict[str, dict[str, Tensor]], name: str, dtype: torch.dtype) -> cf.Restorer:
    restorer = cf.load_restorer(published[name], dtype=dtype)
    assert type(restorer.module) is CLASSES[name]
    if name in VQFR:
        # The shapes of its weights don't tell the size of the faces; these take milliseconds.
        restorer.module.config = replace(restorer.module.config, image_size=64)
    return restorer


@pytest.fixture(scope="module")
def restorer(published, name) -> cf.Restorer:
    return loaded(published, name, torch.float32)


@pytest.fixture(scope="module")
def faces_B3HW(restorer) -> Tensor:
    size = restorer.face_size
    return torch.rand((4, 3, size, size), generator=torch.Generator().manual_seed(6)) * 2 - 1


@pytest.fixture(scope="module")
def parts_B44(restorer) -> Tensor | None:
    """Boxes of other sizes in each face, for DFDNet."""
    box_44 = torch.tensor([(144, 178, 236, 269), (277, 177, 368, 268), (228, 294, 285, 350), (202, 323, 312, 433)])
    grow_44 = torch.tensor((-1, -1, 1, 1)).expand(4, 4)
    return torch.stack([box_44 + 9 * i * grow_44 for i in range(4)]) if restorer.needs_landmarks else None


def test_a_batch_equals_its_faces_one_by_one(restorer, faces_B3HW, parts_B44):
    together_B3HW = restorer.restore(faces_B3HW, 0.7, parts_B44)
    parts = [None] * 4 if parts_B44 is None else parts_B44.split(1)
    singles = [
        restorer.restore(face_13HW, 0.7, component_boxes_144)
        for face_13HW, component_boxes_144 in zip(faces_B3HW.split(1), parts, strict=True)
    ]
    assert rms(together_B3HW - torch.cat(singles)) < 1e-4 * together_B3HW.std()
    assert rms(together_B3HW[0] - together_B3HW[1]) > 0.01 * together_B3HW.std()


def test_bfloat16_is_near(published, name, restorer, faces_B3HW, parts_B44):
    """Differences in standard deviations of the faces, RMS; measured: 0.12 (VQFR v1), 0.21 (v2), 0.008 (DFDNet).

    One code in a hundred is chosen otherwise, which makes its part of a face new; with the same codes VQFR stays below
    0.05, see test_vqfr.py.
    """
    rounded = loaded(published, name, torch.bfloat16)
    exact_B3HW, near_B3HW = (each.restore(faces_B3HW, 0.7, parts_B44) for each in (restorer, rounded))
    assert near_B3HW.dtype == torch.float32
    assert rms(near_B3HW - exact_B3HW) < (0.3 if name in VQFR else 0.03) * exact_B3HW.std()
    if name in VQFR:
        codes, near_codes = (
            each.module.pick_codes(each.module.encode(faces_B3HW.to(each.dtype))) for each in (restorer, rounded)
        )
        assert (codes == near_codes).float().mean() > 0.97


# --- files -----------------------------------------------------------------------------------------------------------


def saved(folder: Path, file: str, state: dict[str, Tensor]) -> Path:
    path = folder / file
    if path.suffix == ".pth":
        torch.save({"params_ema": state}, path)
    else:
        save_file({key: tensor.contiguous() for key, tensor in state.items()}, path)
    return path


@pytest.mark.parametrize(
    ("content", "file"),
    [
        ("vqfr_v1", "VQFR_v2.pth"),
        ("vqfr_v2", "VQFR_v1-33a1fac5.safetensors"),
        ("dfdnet", "codeformer.safetensors"),
        ("vqfr_v1", "GFPGANv1.4.pth"),
    ],
)
def test_a_file_is_what_its_keys_say_whatever_its_name(tmp_path, published, content, file):
    restorer = cf.load_restorer(saved(tmp_path, file, published[content]))
    assert restorer.name == file and type(restorer.module) is CLASSES[content]
    assert restorer.uses_fidelity == (content == "vqfr_v2")


@pytest.mark.parametrize("half", [slice(None, None, 2), slice(1, None, 2)], ids=["even", "odd"])
def test_half_a_file_is_said_to_be_incomplete(tmp_path, published, name, half):
    state = published[name]
    kept = sorted(state)[half]
    with pytest.raises(WeightsError, match=r"half\.safetensors: .*\d+ .*missing.*, the first: ") as caught:
        cf.load_restorer(saved(tmp_path, "half.safetensors", {key: state[key] for key in kept}))
    assert min(state.keys() - kept) in str(caught.value)


NOSE = "dictionary.64.nose"


def test_a_missing_dictionary_is_named(tmp_path, published):
    state = {key: tensor for key, tensor in published["dfdnet"].items() if key != NOSE}
    with pytest.raises(WeightsError, match=rf"faces\.safetensors: .* 1 missing keys, the first: {NOSE}\. Join"):
        cf.load_restorer(saved(tmp_path, "faces.safetensors", state))


def test_a_dictionary_with_another_number_of_atoms_is_named(tmp_path, published):
    state = published["dfdnet"] | {NOSE: published["dfdnet"][NOSE][:2]}
    words = rf"faces\.safetensors: .* has 3 atoms and {NOSE} has 2; all dictionaries need as many"
    with pytest.raises(WeightsError, match=words):
        cf.load_restorer(saved(tmp_path, "faces.safetensors", state))


def test_a_dictionary_of_another_k_throughout_is_a_network_of_that_size(published):
    state = {key: tensor[:2] if key.startswith("dictionary") else tensor for key, tensor in published["dfdnet"].items()}
    assert cf.load_restorer(state).module.config.atoms == 2
