"""A restorer saved from memory: it loads again as the same one, and nothing is written by mistake."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

import codeformer_core as cf
from codeformer_core.models.codeformer.architecture import AUTOENCODER
from codeformer_core.models.codeformer.convert import to_published
from codeformer_core.models.filenames import checked_name
from codeformer_core.models.restorer import Restorer
from codeformer_core.models.saving import save_restorer

from .conftest import SMALL_CONFIG, seeded_network
from .facts import facts

FACES = torch.rand((1, 3, 64, 64), generator=torch.Generator().manual_seed(1)) * 2 - 1


def load(dtype: torch.dtype = torch.float32) -> Restorer:
    return cf.load_restorer(to_published(seeded_network(SMALL_CONFIG).state_dict(), SMALL_CONFIG), dtype=dtype)


def test_it_loads_again_with_equal_outputs(tmp_path):
    restorer = load()
    saved = save_restorer(restorer, tmp_path / "new", "mine", dtype=torch.float32)
    assert saved.path == tmp_path / "new" / "mine.safetensors" and os.listdir(saved.path.parent) == [saved.path.name]
    again = cf.load_restorer(saved.path)
    assert (again.architecture, again.task, again.face_size) == ("codeformer", "restoration", 64)
    for fidelity in (0.0, 0.6):
        assert torch.equal(again.restore(FACES, fidelity), restorer.restore(FACES, fidelity))
    data = saved.path.read_bytes()
    assert saved.size == len(data) and saved.sha256 == hashlib.sha256(data).hexdigest()
    assert facts(saved) == [
        ("saved", None, {"path": str(saved.path)}),
        ("bytes", None, {"count": len(data)}),
        ("sha256", None, {"digest": saved.sha256}),
    ]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_halves_the_file(tmp_path, dtype):
    whole = save_restorer(load(), tmp_path, "whole", dtype=torch.float32)
    half = save_restorer(load(), tmp_path, "half", dtype=dtype)
    assert {tensor.dtype for tensor in load_file(half.path).values()} == {dtype}
    assert half.size < 0.6 * whole.size and half.notes == ()
    difference = cf.load_restorer(half.path).restore(FACES, 1.0) - load().restore(FACES, 1.0)
    assert difference.abs().mean() < 0.2


def test_what_a_file_can_not_tell_by_its_sizes_is_kept(tmp_path):
    config = replace(SMALL_CONFIG, heads=4)
    restorer = replace(load(), module=seeded_network(config), task="colorization")
    again = cf.load_restorer(save_restorer(restorer, tmp_path, "painter", dtype=torch.float32).path)
    assert again.task == "colorization" and again.module.config.heads == 4


def test_the_fidelity_to_use_and_further_tasks_are_kept(tmp_path):
    restorer = replace(load(), recommended_fidelity=1.0, also=("colorization", "inpainting"))
    again = cf.load_restorer(save_restorer(restorer, tmp_path, "all", dtype=torch.float32).path)
    assert again.recommended_fidelity == 1.0
    assert again.tasks == ("restoration", "colorization", "inpainting")


def test_an_autoencoder_is_saved_too(tmp_path):
    network = seeded_network(SMALL_CONFIG.autoencoder)
    restorer = replace(load(), kind=AUTOENCODER, task="autoencoder", module=network)
    again = cf.load_restorer(save_restorer(restorer, tmp_path, "stage1", dtype=torch.float32).path)
    assert (again.architecture, again.task, again.face_size) == ("vqgan", "autoencoder", 64)


def test_numbers_that_were_rounded_before_are_told(tmp_path):
    saved = save_restorer(load(torch.bfloat16), tmp_path, "mine", dtype=torch.float32)
    (_, _, values) = facts(saved.notes)[0]
    assert (values["loaded"], values["stored"]) == ("bfloat16", "float32")
    assert facts(saved, "rounded") == facts(saved.notes)


def test_an_older_file_stays_unless_it_may_go(tmp_path):
    (tmp_path / "mine.safetensors").write_text("the old one")
    with pytest.raises(ValueError, match=r"mine\.safetensors is there already: .*set overwrite"):
        save_restorer(load(), tmp_path, "mine", dtype=torch.float32)
    assert (tmp_path / "mine.safetensors").read_text() == "the old one"
    save_restorer(load(), tmp_path, "mine.safetensors", dtype=torch.float32, overwrite=True)
    assert cf.load_restorer(tmp_path / "mine.safetensors").task == "restoration"


def test_the_copy_kept_of_a_pickle_is_never_replaced(tmp_path):
    torch.save(
        {"params_ema": to_published(seeded_network(SMALL_CONFIG).state_dict(), SMALL_CONFIG)}, tmp_path / "a.pth"
    )
    restorer = cf.load_restorer(tmp_path / "a.pth")
    before = (tmp_path / "a.safetensors").read_bytes()
    with pytest.raises(ValueError, match=r"is the copy that is kept of a\.pth: choose another filename"):
        save_restorer(restorer, tmp_path, "a", dtype=torch.float32, overwrite=True)
    assert (tmp_path / "a.safetensors").read_bytes() == before


def test_numbers_too_large_for_half_precision(tmp_path):
    restorer = load()
    restorer.module.codebook.weight[0, 0] = 1e6
    with pytest.raises(ValueError, match=r"codebook.weight reaches 1e\+06.*bfloat16 or float32"):
        save_restorer(restorer, tmp_path, "mine", dtype=torch.float16)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("mine", "mine.safetensors"),
        (" mine.safetensors ", "mine.safetensors"),
        ("mine.SAFETENSORS", "mine.safetensors"),
        ("v1.2", "v1.2.safetensors"),
        ("Gesichter für alle", "Gesichter für alle.safetensors"),
    ],
)
def test_names(given, name):
    assert checked_name(given) == name


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("", "filename is empty"),
        ("  .safetensors", "filename is empty"),
        ("a/b", "holds /"),
        ("..\\b", r"holds \\"),
        ("C:mine", "holds :"),
        ("what?*", r"holds \* \?"),
        ("line\nbreak", r"holds '\\n'"),
        ("..", "begins with a dot"),
        (".hidden", "begins with a dot"),
        ("mine.", "ends with a dot"),
        ("mine .safetensors", "ends with a dot or space"),
        ("NUL", "name of a device"),
        ("com1.old", "name of a device"),
        ("mine.pth", "leave the ending out"),
        ("a" * 190, "at most 200"),
        ("ü" * 95, "has 202 bytes"),
        ("codeformer", r"belongs to a published file \(codeformer\.pth\)"),
        ("CodeFormer.safetensors", "belongs to a published file"),
    ],
)
def test_names_that_are_refused(tmp_path, given, words):
    with pytest.raises(ValueError, match=words):
        checked_name(given)
    with pytest.raises(ValueError, match=words):
        save_restorer(load(), tmp_path, given, dtype=torch.float32, overwrite=True)
    assert os.listdir(tmp_path) == []
