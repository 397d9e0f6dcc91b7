"""VQFR, DFDNet and RestoreFormer as users meet them: by name, on the command line, saved, converted."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

import codeformer_core as cf
from codeformer_core import cli
from codeformer_core.faces.batch import FaceBatch
from codeformer_core.models import files, loading
from codeformer_core.models.restorer import without_fidelity
from codeformer_core.models.saving import save_restorer
from codeformer_core.models.vqfr.architecture import VQFR
from codeformer_core.weights.catalog import find_entry

from .facts import facts, line_of
from .others import KINDS, small_state
from .test_vqfr import SMALL as SMALL_VQFR


@pytest.fixture(scope="module")
def states() -> dict[str, dict[str, Tensor]]:
    return {kind: small_state(kind) for kind in KINDS}


@pytest.fixture(scope="module")
def roots(states, tmp_path_factory) -> list[Path]:
    """A models folder with all of them under their published names, and no CodeFormer."""
    root = tmp_path_factory.mktemp("models")
    for kind, state in states.items():
        path = root / "facerestore_models" / find_entry(kind).filename
        path.parent.mkdir(exist_ok=True)
        save_file(state, path) if path.suffix == ".safetensors" else torch.save({"params_ema": state}, path)
    return [root]


@pytest.fixture
def picture(tmp_path, astronaut) -> Path:
    path = tmp_path / "face.png"
    Image.fromarray((astronaut * 255).round().byte().numpy()).save(path)
    return path


@pytest.fixture
def at_hand(roots, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("CODEFORMER_MODELS", str(roots[0]))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


# --- by name ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_by_its_name_and_as_the_catalog_says(roots, kind):
    entry = find_entry(kind)
    for source in (kind, entry.filename):
        restorer = cf.load_restorer(source, roots=roots)
        assert restorer.task == "restoration" and restorer.name.rpartition(".")[0] == entry.filename.rpartition(".")[0]
        assert restorer.architecture == kind.partition("_")[0]
        assert restorer.uses_fidelity == entry.uses_fidelity and restorer.face_size == 512


def test_the_contents_decide_not_the_name(states, tmp_path):
    path = tmp_path / "facerestore_models" / "VQFR_v2.pth"
    path.parent.mkdir()
    torch.save(states["vqfr_v1"], path)
    assert not cf.load_restorer("vqfr_v2", roots=[tmp_path]).uses_fidelity, "version 1 in version 2's place"


BY_HAND = [("vqfr_v1", "drive.google.com"), ("dfdnet.safetensors", "dictionary join")]


@pytest.mark.parametrize(("name", "words"), BY_HAND)
@pytest.mark.parametrize("download", [False, True])
def test_what_nobody_can_download_says_how_to_come_by_it(tmp_path, monkeypatch, name, words, download):
    monkeypatch.setattr(files, "download", lambda *_: pytest.fail("there is nothing to fetch"))
    with pytest.raises(cf.WeightsError) as caught:
        cf.load_restorer(name, roots=[tmp_path], download=download)
    text = str(caught.value)
    assert text.startswith(f"{find_entry(name).filename} is not on this machine, and nothing can be downloaded for it")
    assert words in text and str(tmp_path / "facerestore_models") in text and find_entry(name).licence in text


def test_those_without_fidelity_are_named(roots):
    v1, v2, dfdnet = (cf.load_restorer(name, roots=roots) for name in ("vqfr_v1", "vqfr_v2", "dfdnet"))
    assert without_fidelity(v2) == []
    names = {"restorers": (v1.name, "dfdnet.safetensors")}
    assert facts(without_fidelity(v1, v2, dfdnet, v1)) == [("no_fidelity", None, names)]


def test_a_result_says_once_that_fidelity_does_nothing(roots, astronaut, astronaut_face):
    pictures_BHWC = astronaut[None].repeat(2, 1, 1, 1)
    restorer = cf.load_restorer("dfdnet", roots=roots)
    faces = FaceBatch.of(pictures_BHWC, [[astronaut_face], [astronaut_face]])
    restored = cf.restore_images(pictures_BHWC, restorer=restorer, detector=faces, mask="box")
    nothing = ("no_fidelity", None, {"restorers": ("dfdnet.safetensors",)})
    assert facts(restored, "no_fidelity", "fidelity") == [nothing]
    none = cf.restore_images(
        pictures_BHWC, restorer=restorer, detector=FaceBatch.of(pictures_BHWC, [[], []]), mask="box"
    )
    assert facts(none, "no_fidelity", "fidelity") == []


# --- the command line ------------------------------------------------------------------------------------------------


def run(verb: str, picture: Path, out: Path, *words: object) -> int:
    return cli.main([verb, "--device", "cpu", "--aligned", str(picture), "-o", str(out), *map(str, words)])


def test_the_command_restores_with_any_of_them_and_says_which(at_hand, picture, tmp_path, capsys, roots):
    out = tmp_path / "out.png"
    assert run("restore", picture, out, "--model", "restoreformer", "-w", 0.8) == 0
    shown = capsys.readouterr()
    assert line_of("restored_by", restorer="RestoreFormer.") in shown.out and "fidelity" not in shown.out
    assert line_of("no_fidelity", restorers=("RestoreFormer.",)) in shown.err
    assert not np.array_equal(Image.open(out), Image.open(picture))
    file = roots[0] / "facerestore_models" / "dfdnet.safetensors"
    assert run("restore", picture, tmp_path / "other.png", "--model", file) == 0
    said = capsys.readouterr()
    assert "restored by dfdnet.safetensors" in said.out
    # Nobody wished for a fidelity.
    assert said.err == ""


def test_auto_takes_another_where_codeformer_is_missing(at_hand, picture, tmp_path, capsys, monkeypatch, roots):
    quick, asked = cf.load_restorer("dfdnet", roots=roots), []

    def load(path, *_, **__):
        asked.append(path.name)
        return quick

    monkeypatch.setattr(loading, "load_restorer", load)
    assert run("restore", picture, tmp_path / "out.png") == 0
    assert asked == ["VQFR_v2.pth"]
    assert "note: model vqfr_v2, because codeformer is not installed\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("verb", "doing", "task"), [("colorize", "colorizing", "colorization"), ("inpaint", "inpainting", "inpainting")]
)
def test_other_verbs_refuse_them_with_the_cure(at_hand, picture, tmp_path, capsys, verb, doing, task):
    assert run(verb, picture, tmp_path / "out.png", "--model", "dfdnet") == 1
    err = capsys.readouterr().err
    assert f"dfdnet.safetensors is a model for restoration; {doing} faces needs one for" in err
    assert "--model dfdnet: " in err and f": choose codeformer_{task}.pth" in err
    assert not (tmp_path / "out.png").exists()


def test_the_command_downloads_nothing_that_only_comes_by_hand(picture, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CODEFORMER_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert run("restore", picture, tmp_path / "out.png", "--model", "vqfr_v1", "--download") == 1
    said = capsys.readouterr()
    assert "drive.google.com" in said.err and "--download" not in said.err and "downloading" not in said.out
    assert cli.main(["weights", "download", "dfdnet"]) == 1
    assert "dfdnet.safetensors can't be downloaded: its authors publish it in three pieces" in capsys.readouterr().err
    assert cli.main(["weights", "list"]) == 0
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert rows["vqfr_v1"].endswith("not installed; by hand: `weights download vqfr_v1` says how")
    assert rows["vqfr_v2"].endswith("not installed") and "  unknown  " in rows["vqfr_v2"]


def test_a_file_without_a_known_hash_is_not_called_good(at_hand, roots, capsys):
    assert cli.main(["weights", "verify", str(roots[0] / "facerestore_models" / "dfdnet.safetensors")]) == 0
    out = capsys.readouterr().out
    assert out.startswith("UNKNOWN") and "dfdnet by its name, of which no hash is known; sha256 " in out


# --- into files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_one_loads_as_the_same(states, tmp_path, kind):
    restorer = cf.load_restorer(states[kind])
    saved = save_restorer(restorer, tmp_path, "mine", dtype=torch.float32)
    again = cf.load_restorer(saved.path)
    assert (again.architecture, again.task, again.face_size) == (restorer.architecture, "restoration", 512)
    ours, theirs = restorer.module.state_dict(), again.module.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)
    half = save_restorer(restorer, tmp_path, "half", dtype=torch.bfloat16)
    assert half.size < 0.6 * saved.size and cf.load_restorer(half.path).architecture == restorer.architecture


def test_one_that_would_come_back_as_another_is_not_written(tmp_path):
    """Nothing in a VQFR's file tells the size of its faces."""
    restorer = cf.load_restorer(VQFR.empty_network(SMALL_VQFR[2]).state_dict())
    restorer.module.config = SMALL_VQFR[2]
    with pytest.raises(ValueError, match="a vqfr of these sizes could not be read again"):
        save_restorer(restorer, tmp_path, "small", dtype=torch.float32)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("kind", ["vqfr_v1", "vqfr_v2", "restoreformer"])
def test_pickles_become_safetensors_and_the_names_can_be_ours(states, tmp_path, capsys, kind):
    source = tmp_path / "given.pth"
    torch.save(states[kind], source)
    assert cli.main(["weights", "convert", str(source), "-o", str(tmp_path / "published.safetensors")]) == 0
    assert f"{kind.partition('_')[0]} (restoration)" in capsys.readouterr().out
    published = load_file(tmp_path / "published.safetensors")
    assert published.keys() == states[kind].keys()
    assert all(torch.equal(published[key], states[kind][key]) for key in published)
    words = ["weights", "convert", str(source), "-o", str(tmp_path / "ours.safetensors"), "--layout", "ours"]
    if kind == "restoreformer":
        assert cli.main(words) == 1
        assert "a restoreformer is only known in its published layout" in capsys.readouterr().err
        return
    assert cli.main(words) == 0
    assert load_file(tmp_path / "ours.safetensors").keys() == cf.load_restorer(states[kind]).module.state_dict().keys()


def test_a_dfdnet_in_our_names_has_no_way_back(roots, tmp_path, capsys):
    source = roots[0] / "facerestore_models" / "dfdnet.safetensors"
    assert cli.main(["weights", "convert", str(source), "-o", str(tmp_path / "back.safetensors")]) == 1
    assert "has no way back to the published ones" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []
