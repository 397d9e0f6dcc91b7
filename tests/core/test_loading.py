"""From a name, a path or a state dict to something that works; or to an error that says what to do."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import codeformer_core as cf
from codeformer_core.faces.detectors.starter.detector import StarterDetector
from codeformer_core.faces.detectors.starter.network import StarterNetwork
from codeformer_core.faces.detectors.yunet import YuNetDetector
from codeformer_core.models import files
from codeformer_core.models.codeformer.convert import to_published
from codeformer_core.weights.catalog import find_entry
from codeformer_core.weights.folders import ASSETS_FOLDER

from .conftest import GOLDEN, SMALL_CONFIG, seeded_network

RETINAFACE = GOLDEN / "models" / "retinaface_mobilenet0.25_mit.pth"


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    published = to_published(seeded_network(SMALL_CONFIG).state_dict(), SMALL_CONFIG)
    return {key: tensor.contiguous() for key, tensor in published.items()}


@pytest.fixture
def roots(tmp_path, state) -> list[Path]:
    """A models folder with a small network under the published name, as a pickle."""
    folder = tmp_path / "models" / "facerestore_models"
    folder.mkdir(parents=True)
    torch.save({"params_ema": state}, folder / "codeformer.pth")
    return [tmp_path / "models", tmp_path / "more models"]


@pytest.fixture
def retinaface(tmp_path) -> Path:
    """A copy, because reading a pickle leaves a safetensors file beside it."""
    return Path(shutil.copy(RETINAFACE, tmp_path / RETINAFACE.name))


def complaint(load, *arguments, **options) -> str:
    with pytest.raises(cf.WeightsError) as caught:
        load(*arguments, **options)
    return str(caught.value)


# --- restorers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["codeformer", "CodeFormer", "codeformer.pth"])
def test_a_restorer_by_name(roots, source, monkeypatch):
    restorer = cf.load_restorer(source, roots=roots)
    assert (restorer.architecture, restorer.task, restorer.name) == ("codeformer", "restoration", "codeformer.pth")
    assert restorer.module.config == SMALL_CONFIG
    # The copy that the first load has left is taken the second time; the name stays that of the user's own file.
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("the pickle is read again"))
    assert cf.load_restorer(source, roots=roots).name == "codeformer.pth"


def test_a_restorer_by_path_whatever_the_files_name(tmp_path, state):
    path = tmp_path / "my own colorization.bin"
    save_file(state, path)
    for source in (path, str(path)):
        restorer = cf.load_restorer(source, roots=[])
        assert (restorer.task, restorer.name) == ("restoration", "my own colorization.bin")


def test_a_relative_path(tmp_path, state, monkeypatch):
    save_file(state, tmp_path / "here.safetensors")
    monkeypatch.chdir(tmp_path)
    assert cf.load_restorer("here.safetensors", roots=[]).name == "here.safetensors"


@pytest.mark.parametrize("layout", ["published", "ours"])
def test_a_restorer_from_a_state_dict(state, layout):
    given = state if layout == "published" else seeded_network(SMALL_CONFIG).state_dict()
    before = {key: tensor.clone() for key, tensor in given.items()}
    restorer = cf.load_restorer(given)
    assert restorer.name == "the given state dict"
    for parameter in restorer.module.parameters():
        parameter.fill_(7)
    assert all(torch.equal(given[key], tensor) for key, tensor in before.items())


def test_precision_and_device_are_as_told(state):
    restorer = cf.load_restorer(state, "cpu", torch.bfloat16)
    assert (restorer.device, restorer.dtype, restorer.casts_weights) == (torch.device("cpu"), torch.bfloat16, False)
    assert {(value.device.type, value.dtype) for value in restorer.module.parameters()} == {("cpu", torch.bfloat16)}
    assert cf.load_restorer({key: tensor.half() for key, tensor in state.items()}).dtype == torch.float32


def test_a_hosts_layers_cast_by_themselves(state):
    class Operations(torch.nn.Module):
        Linear, Conv2d, GroupNorm = torch.nn.Linear, torch.nn.Conv2d, torch.nn.GroupNorm
        LayerNorm, Embedding = torch.nn.LayerNorm, torch.nn.Embedding

    assert cf.load_restorer(state, operations=Operations).casts_weights


# --- what is not there -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("load", "name", "folder"),
    [
        (cf.load_restorer, "codeformer_inpainting", "facerestore_models"),
        (cf.load_restorer, "codeformer_colorization.pth", "facerestore_models"),
        (cf.load_detector, "retinaface_resnet50", "facedetection"),
        (cf.load_parser, "parsenet", "facedetection"),
    ],
)
def test_a_missing_file_says_from_where_and_where_to_put_it(roots, load, name, folder):
    entry = find_entry(name)
    text = complaint(load, name, roots=roots)
    assert text.startswith(f"{entry.filename} is not on this machine: ")
    assert entry.url in text and entry.sha256 in text and entry.licence in text
    assert f"python -m codeformer_core weights download {entry.name}" in text
    assert text.endswith(str(roots[0] / folder))


def test_an_unknown_name_gets_suggestions(roots):
    text = complaint(cf.load_restorer, "codefromer", roots=roots)
    assert "'codefromer'" in text and "Did you mean codeformer?" in text


@pytest.mark.parametrize("source", ["no/such/file.pth", Path("/no/such/file.pth")])
def test_a_path_to_nothing(source, roots):
    assert complaint(cf.load_restorer, source, roots=roots) == f"{source}: there is no such file"


def test_no_models_folder_at_all():
    with pytest.raises(ValueError, match=r"no folder is known to put codeformer.*CODEFORMER_MODELS"):
        cf.load_restorer("codeformer", roots=[])


def test_what_comes_with_the_package_needs_no_models_folder():
    assert cf.load_restorer("codeformer_starter", roots=[]).name == "codeformer_starter.safetensors"


@pytest.mark.parametrize("download", [False, True])
def test_a_file_gone_from_the_package_says_so(roots, monkeypatch, download):
    monkeypatch.setattr("codeformer_core.weights.folders.ASSETS_FOLDER", roots[1])
    with pytest.raises(
        (cf.WeightsError, OSError), match=r"codeformer_starter\.safetensors .*install this package again"
    ):
        cf.load_restorer("codeformer_starter", roots=roots, download=download)


def test_a_download_happens_only_when_asked_for(roots, state, monkeypatch):
    asked = []

    def fetch(entry, folder, on_progress):
        asked.append((entry.name, folder, on_progress))
        path = folder / entry.filename
        save_file(state, path)
        return path

    monkeypatch.setattr(files, "download", fetch)
    complaint(cf.load_restorer, "codeformer_inpainting", roots=roots)
    assert asked == []
    on_progress = print
    cf.load_restorer("codeformer", roots=roots, download=True, on_progress=on_progress)
    assert asked == []
    cf.load_restorer("codeformer_inpainting", roots=roots, download=True, on_progress=on_progress)
    assert asked == [("codeformer_inpainting", roots[0] / "facerestore_models", on_progress)]


# --- the wrong kind of file ------------------------------------------------------------------------------------------


def test_a_detector_is_no_restorer(retinaface):
    text = complaint(cf.load_restorer, retinaface)
    assert text.startswith("retinaface_mobilenet0.25_mit.pth: this is a RetinaFace detector, not a")


def test_yunets_file_is_no_restorer():
    assert "face_detection_yunet" in complaint(cf.load_restorer, "yunet", roots=[])


def test_a_restorer_is_no_detector_and_no_parser(roots):
    path = roots[0] / "facerestore_models" / "codeformer.pth"
    for load, kind in ((cf.load_detector, "not a RetinaFace detector"), (cf.load_parser, "do not fit parsenet")):
        text = complaint(load, path)
        assert str(path) in text and kind in text


def test_a_detector_is_no_parser(retinaface):
    text = complaint(cf.load_parser, retinaface)
    assert str(retinaface) in text and "missing" in text


@pytest.mark.parametrize("load", [cf.load_restorer, cf.load_detector, cf.load_parser])
def test_a_file_that_holds_no_weights(tmp_path, load):
    path = tmp_path / "codeformer.pth"
    path.write_text("<!DOCTYPE html><html>rate limit</html>")
    text = complaint(load, path)
    assert str(path) in text and "HTML" in text


# --- detectors -------------------------------------------------------------------------------------------------------


def test_yunet_comes_with_the_package():
    detector = cf.load_detector("yunet", roots=[])
    assert isinstance(detector, YuNetDetector) and (detector.name, detector.module) == ("yunet", None)


def test_an_onnx_file_is_taken_for_yunet(tmp_path, astronaut):
    path = Path(shutil.copy(ASSETS_FOLDER / "face_detection_yunet_2023mar.onnx", tmp_path / "mine.ONNX"))
    detector = cf.load_detector(path)
    assert detector.weights_path == path
    assert len(detector.detect(astronaut[None])[0]) == 1


def test_a_starter_detector_is_told_by_its_keys(tmp_path):
    path = tmp_path / "detection_of_some_name.safetensors"
    save_file({key: value.contiguous() for key, value in StarterNetwork().state_dict().items()}, path)
    detector = cf.load_detector(path)
    assert isinstance(detector, StarterDetector) and detector.name == "starter_detector"
    half = {key: value for key, value in StarterNetwork().state_dict().items() if "outputs" not in key}
    save_file(half, path)
    text = complaint(cf.load_detector, path)
    assert str(path) in text and "starter_detector" in text and "missing: outputs" in text


def test_retinaface_by_path(retinaface, astronaut):
    detector = cf.load_detector(retinaface)
    assert detector.name == "retinaface_mobile0.25"
    assert not detector.module.training and not any(value.requires_grad for value in detector.module.parameters())
    assert len(detector.detect(astronaut[None])[0]) == 1
