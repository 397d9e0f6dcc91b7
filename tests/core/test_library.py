"""What the model library offers, what a choice stands for, what is said where nothing does, and what is remembered."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from codeformer_core.models import files, loading
from codeformer_core.models.codeformer.convert import to_published
from codeformer_core.models.files import AUTO, DOWNLOAD, ModelFiles, as_choice
from codeformer_core.models.kinds import (
    DETECTOR,
    LANDMARK_DETECTOR,
    PARSER,
    RESTORER,
    entry_of,
    restorer_kind,
    starter_event,
)
from codeformer_core.models.library import ModelChoices, ModelLibrary
from codeformer_core.runtime.host import FixedFolders
from codeformer_core.runtime.plain_host import PlainHost
from codeformer_core.weights import folders
from codeformer_core.weights.catalog import DETECTORS
from codeformer_core.weights.download import DownloadError
from codeformer_core.weights.errors import WeightsError
from codeformer_core.weights.folders import ASSETS_FOLDER
from codeformer_core.weights.safetensors_cache import source_mark, write_safetensors

from .conftest import SMALL_CONFIG, seeded_network

BEST_SHIPPED_DETECTOR = "yunet"


def put(path: Path, content: bytes = b"weights") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def put_copy(pickle: Path) -> Path:
    copy = pickle.with_suffix(".safetensors")
    write_safetensors({"weight": torch.ones(2)}, copy, source_mark(pickle, pickle.stat()))
    return copy


@pytest.fixture
def models(tmp_path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def own(tmp_path) -> Path:
    """A folder for restorers that the user has configured himself."""
    return tmp_path / "mine"


@pytest.fixture
def library(models, own) -> ModelLibrary:
    host = PlainHost(folders=FixedFolders((models,), {"facerestore_models": (own,)}))
    return ModelLibrary(host, how_to_fetch=lambda choice, entry: f"choose {choice + DOWNLOAD!r}")


@pytest.fixture
def fetched(monkeypatch) -> list[Path]:
    """Where downloads went; they arrive at once."""
    places: list[Path] = []

    def download(entry, folder, on_progress):
        places.append(folder / entry.filename)
        return put(folder / entry.filename)

    monkeypatch.setattr(files, "download", download)
    return places


# --- what is offered -------------------------------------------------------------------------------------------------


def test_restorers_the_catalogs_first_then_own_ones_then_what_is_elsewhere_then_downloads(library, models, own):
    put(own / "zz_mine.pth")
    put(own / "deeper" / "faces.safetensors")
    put(models / "codeformer" / "codeformer-v0.1.0.pth")
    put(models / "RestoreFormer.pth")
    for stranger in ("detection_Resnet50_Final.pth", "parsing_parsenet.pth", "GPEN-BFR-512.pth", "notes.txt"):
        put(models / "facerestore_models" / stranger)
    offered = library.restorers()
    assert offered[:3] == ["codeformer-v0.1.0.pth", os.path.join("deeper", "faces.safetensors"), "zz_mine.pth"]
    # In a folder that is not listed, and in this package; by hand only: not offered.
    starters = ["codeformer_starter.safetensors", "starter_colorization.safetensors", "starter_inpainting.safetensors"]
    assert offered[3:7] == ["RestoreFormer.pth", *starters]
    assert offered[7:] == [
        name + DOWNLOAD
        for name in (
            "VQFR_v2.pth",
            "GFPGANv1.4.pth",
            "GFPGANv1.3.pth",
            "GFPGANCleanv1-NoCE-C2.pth",
            "codeformer_colorization.pth",
            "codeformer_inpainting.pth",
        )
    ]


def test_our_copies_of_pickles_are_not_offered(library, own):
    pickle = put(own / "mine.pth")
    copy = put_copy(pickle)
    assert "mine.pth" in library.restorers() and copy.name not in library.restorers()
    pickle.unlink()
    assert copy.name in library.restorers(), "now it is all there is"


def test_detectors_best_first_and_parsers(library, models):
    put(models / "facedetection" / "detection_mobilenet0.25_Final.pth")
    put(models / "facedetection" / "parsing_bisenet.pth")
    put(models / "facedetection" / "my_retinaface.pth")
    shipped = ["yunet", "starter_detector"]
    assert library.detectors() == [
        "retinaface_resnet50" + DOWNLOAD,
        "retinaface_mobile0.25",
        *shipped,
        "my_retinaface.pth",
    ]
    assert library.parsers() == ["parsenet" + DOWNLOAD, "face_mesh"]
    put(models / "facedetection" / "parsing_parsenet.pth")
    assert library.parsers() == ["parsenet", "face_mesh"]


# --- auto ------------------------------------------------------------------------------------------------------------


def test_auto_is_the_best_that_is_here(library, models):
    assert library.auto(RESTORER) == ModelFiles(FixedFolders(())).auto(RESTORER) == "codeformer_starter"
    assert library.auto(DETECTOR) == BEST_SHIPPED_DETECTOR
    # Models for another task, and files of the user's own, are no published restorers.
    put(models / "facerestore_models" / "codeformer_inpainting.pth")
    put(models / "facerestore_models" / "mine.pth")
    assert library.auto(RESTORER) == "codeformer_starter"
    # Others only where there is no CodeFormer.
    put(models / "facerestore_models" / "GFPGANv1.3.pth")
    assert library.auto(RESTORER) == "gfpgan_1.3"
    put(models / "facerestore_models" / "GFPGANv1.4.safetensors")
    assert library.auto(RESTORER) == "gfpgan_1.4"
    path = put(models / "codeformer" / "codeformer-v0.1.0.pth")
    assert library.auto(RESTORER) == "codeformer" and library.find(AUTO, RESTORER) == path
    put(models / "facedetection" / "detection_mobilenet0.25_Final.pth")
    assert library.auto(DETECTOR) == "retinaface_mobile0.25"


@pytest.mark.parametrize("place", ["facerestore_models", "codeformer", "Codeformer", "GFPGAN", "gfpgan"])
@pytest.mark.parametrize("inner", ["", "faces", os.path.join("a", "b")])
def test_auto_finds_what_the_list_shows(library, models, place, inner):
    path = put(models / place / inner / "GFPGANv1.4.pth")
    assert os.path.join(inner, "GFPGANv1.4.pth") in library.restorers()
    assert library.auto(RESTORER) == "gfpgan_1.4"
    for choice in (AUTO, "gfpgan_1.4", "GFPGANv1.4.pth", "GFPGANv1.4.pth" + DOWNLOAD):
        assert library.find(choice, RESTORER) == path and library.problem(choice, RESTORER) is None


def test_auto_finds_the_users_extra_folders_and_detectors_in_subfolders(library, models, own):
    restorer = put(own / "deep" / "codeformer-v0.1.0.pth")
    assert library.find(AUTO, RESTORER) == restorer
    detector = put(models / "facedetection" / "retina" / "detection_Resnet50_Final.pth")
    assert library.detectors()[0] == "retinaface_resnet50"
    assert library.find(AUTO, DETECTOR) == library.find("retinaface_resnet50", DETECTOR) == detector


def test_what_a1111_puts_beside_its_restorers_is_not_offered_as_one(library, models):
    for name in ("GFPGANv1.3.pth", "detection_Resnet50_Final.pth", "parsing_parsenet.pth", "alignment_WFLW_4HG.pth"):
        put(models / "GFPGAN" / name)
    assert [name for name in library.restorers() if not name.endswith(DOWNLOAD)] == [
        "GFPGANv1.3.pth",
        "codeformer_starter.safetensors",
        "starter_colorization.safetensors",
        "starter_inpainting.safetensors",
    ]
    assert (library.auto(DETECTOR), library.auto(PARSER)) == ("retinaface_resnet50", "parsenet")


def test_auto_takes_the_mesh_where_no_parser_and_no_landmark_detector_is_installed(library, models):
    assert library.auto(PARSER) == library.auto(LANDMARK_DETECTOR) == "face_mesh"
    assert library.load_parser().name == library.load_landmark_detector().name == "face_mesh"
    landmarks = put(models / "facedetection" / "alignment_WFLW_4HG.pth")
    parsenet = put(models / "facedetection" / "parsing_parsenet.pth")
    assert library.find(AUTO, LANDMARK_DETECTOR) == landmarks and library.find(AUTO, PARSER) == parsenet


def test_auto_of_what_is_not_needed_is_none(library, models, monkeypatch):
    monkeypatch.setattr(folders, "ASSETS_FOLDER", models / "gone")
    assert library.auto(PARSER) is None and library.find(AUTO, PARSER) is None
    assert library.problem(AUTO, PARSER) is None and library.load_parser() is None
    assert library.load_landmark_detector() is None


def test_where_even_the_shipped_files_are_gone_auto_says_what_to_do(library, models, monkeypatch):
    monkeypatch.setattr(folders, "ASSETS_FOLDER", models / "gone")
    assert (library.auto(RESTORER), library.auto(DETECTOR)) == ("codeformer", DETECTORS[-1])
    assert "choose 'codeformer (download)'" in library.problem(AUTO, RESTORER)
    with pytest.raises(WeightsError, match=r"codeformer\.pth is not on this machine"):
        library.load_restorer()


# --- what a choice stands for ----------------------------------------------------------------------------------------


def test_a_name_stands_for_the_file_in_the_preferred_folder(library, models, own):
    second = put(models / "facerestore_models" / "codeformer.pth")
    assert library.find("codeformer.pth", RESTORER) == library.find("CodeFormer", RESTORER) == second
    first = put(own / "codeformer.pth")
    assert library.find("codeformer.pth" + DOWNLOAD, RESTORER) == library.find("codeformer", RESTORER) == first
    inner = put(own / "deeper" / "mine.pth")
    assert library.find(os.path.join("deeper", "mine.pth"), RESTORER) == inner


@pytest.mark.parametrize("choice", ["a/b/mine.pth", "a\\b\\mine.pth", "a\\b/mine.pth"])
def test_slashes_of_another_system_mean_the_same(library, own, choice):
    path = put(own / "a" / "b" / "mine.pth")
    assert library.find(choice, RESTORER) == library.locate(choice, RESTORER) == path
    assert library.problem(choice, RESTORER) is None
    assert library.fingerprint(choice, RESTORER)[0] == str(path)


def test_a_name_in_a_folder_is_not_the_file_of_another_folder(library, models):
    put(models / "facerestore_models" / "codeformer.pth")
    assert library.find("gone\\codeformer.pth", RESTORER) is None is library.find("gone/codeformer.pth", RESTORER)
    for choice in ("..\\secret.pth", "a\\..\\..\\secret.pth"):
        put(models / "secret.pth")
        assert library.find(choice, RESTORER) is None


@pytest.mark.parametrize("name", [os.path.join("..", "secret.pth"), os.path.join("x", "..", "..", "secret.pth"), None])
def test_names_do_not_leave_the_folders_but_paths_may(library, own, tmp_path, name):
    secret = put(tmp_path / "secret.pth")
    put(own / "x" / "mine.pth")
    assert library.find(name or str(secret), RESTORER) is None
    assert "is not on this machine" in library.problem(name or str(secret), RESTORER)
    assert library.find(secret, RESTORER) == secret and library.problem(secret, RESTORER) is None


def test_what_a_caller_who_may_open_any_file_means(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    put(tmp_path / "here.pth")
    assert as_choice("here.pth") == Path("here.pth") and as_choice("gone.pth") == "gone.pth"
    assert as_choice("codeformer") == as_choice(Path("codeformer")) == "codeformer"
    assert as_choice(os.path.join("no", "such.pth")) == Path("no", "such.pth")


def test_the_users_file_and_not_our_copy_of_it(library, models):
    pickle = put(models / "facedetection" / "detection_mobilenet0.25_Final.pth")
    copy = put_copy(pickle)
    assert library.find("retinaface_mobile0.25", DETECTOR) == pickle
    pickle.unlink()
    assert library.find("retinaface_mobile0.25", DETECTOR) == copy


def test_a_header_cannot_send_the_search_elsewhere(library, own, tmp_path):
    put(tmp_path / "secret.pth")
    for source in ("../secret.pth", "", str(tmp_path / "secret.pth")):
        mark = {"written_by": "codeformer_core", "source_file": source}
        path = own / "codeformer.safetensors"
        own.mkdir(exist_ok=True)
        save_file({"weight": torch.ones(1)}, path, metadata=mark)
        assert library.find("codeformer.safetensors", RESTORER) == path
        assert path.name in library.restorers()


# --- what is missing -------------------------------------------------------------------------------------------------


def test_a_download_happens_where_the_choice_consents_or_the_caller(library, own, models, fetched):
    with pytest.raises(WeightsError, match=r"choose 'codeformer\.pth \(download\)'"):
        library.locate("codeformer.pth", RESTORER)
    assert library.problem("codeformer.pth" + DOWNLOAD, RESTORER) is None
    assert library.locate("codeformer.pth" + DOWNLOAD, RESTORER) == own / "codeformer.pth"
    assert library.locate("codeformer.pth" + DOWNLOAD, RESTORER) == own / "codeformer.pth"
    assert library.locate("parsenet", PARSER, fetch=True) == models / "facedetection" / "parsing_parsenet.pth"
    # auto with consent is the best of all.
    best = models / "facedetection" / "detection_Resnet50_Final.pth"
    assert library.locate(AUTO, DETECTOR, fetch=True) == best == library.locate(AUTO, DETECTOR)
    assert fetched == [own / "codeformer.pth", models / "facedetection" / "parsing_parsenet.pth", best]


def test_a_download_is_announced_with_its_licence_and_may_fail(models, monkeypatch):
    said = []

    def unreachable(entry, folder, on_progress):
        assert len(said) == 1
        raise DownloadError("no network")

    monkeypatch.setattr(files, "download", unreachable)
    library = ModelLibrary(PlainHost(folders=FixedFolders((models,))), announce=said.append)
    with pytest.raises(DownloadError, match="no network"):
        library.load_restorer("codeformer" + DOWNLOAD)
    entry = entry_of("codeformer")
    for part in (entry.filename, entry.url, entry.licence, entry.licence_note):
        assert part in said[0]


@pytest.mark.parametrize(
    ("choice", "parts"),
    [
        ("codeformer.pth", ("is not on this machine: choose 'codeformer.pth (download)'", "https://", "S-Lab", "mine")),
        ("gone.pth", ("'gone.pth' is not on this machine, nor in the catalog", "mine")),
        ("codefromer", ("Did you mean codeformer?",)),
        ("dfdnet.safetensors", ("nothing can be downloaded for it", "dictionary join", "CC BY-NC-SA", "mine")),
        ("dfdnet.safetensors" + DOWNLOAD, ("nothing can be downloaded for it",)),
        (Path("no/such.pth"), (f"{Path('no/such.pth')}: there is no such file",)),
    ],
)
def test_what_is_missing_is_said_before_and_when_it_is_wanted(library, fetched, choice, parts):
    problem = library.problem(choice, RESTORER)
    assert all(part in problem for part in parts), problem
    with pytest.raises(WeightsError) as caught:
        library.locate(choice, RESTORER)
    assert str(caught.value) == problem and fetched == []


def test_the_core_names_its_own_command_where_a_program_has_no_way(models):
    problem = ModelFiles(FixedFolders((models,))).problem("codeformer.pth", RESTORER)
    assert "python -m codeformer_core weights download codeformer`;" in problem


@pytest.mark.parametrize(
    ("starter", "best"),
    [
        ("codeformer_starter", "codeformer.pth"),
        ("starter_colorization", "codeformer_colorization.pth"),
        ("starter_inpainting", "codeformer_inpainting.pth"),
    ],
)
def test_of_the_starters_there_is_something_to_know(starter, best):
    event = starter_event(f"{starter}.safetensors")
    assert event is not None and event == starter_event(starter)
    assert event.values["best"] == best and "S-Lab License 1.0" in str(event.values["licence"])


def test_auto_stands_for_the_best_of_the_task(library, models):
    colorizer, inpainter = restorer_kind("colorization"), restorer_kind("inpainting")
    assert (library.auto(colorizer), library.auto(inpainter)) == ("starter_colorization", "starter_inpainting")
    assert restorer_kind(None) == restorer_kind("restoration") == RESTORER
    put(models / "facerestore_models" / "codeformer_colorization.pth")
    assert (library.auto(colorizer), library.auto(inpainter)) == ("codeformer_colorization", "starter_inpainting")
    assert library.auto(inpainter, fetch=True) == "codeformer_inpainting"
    assert library.load_restorer(task="inpainting").name == "starter_inpainting.safetensors"


def test_of_other_models_there_is_nothing_to_know():
    assert [starter_event(name) for name in ("codeformer.pth", "mine.pth", "starter_detector", AUTO)] == [None] * 4


# --- fingerprints ----------------------------------------------------------------------------------------------------


def test_the_fingerprint_changes_with_the_file_and_not_with_our_copy(library, models):
    nothing = library.fingerprint("retinaface_mobile0.25", DETECTOR)
    pickle = put(models / "facedetection" / "detection_mobilenet0.25_Final.pth")
    choices = ("retinaface_mobile0.25", "retinaface_mobile0.25" + DOWNLOAD, AUTO, pickle.name)
    state = (str(pickle), pickle.stat().st_mtime_ns, pickle.stat().st_size)
    assert nothing != state
    assert {library.fingerprint(choice, DETECTOR) for choice in choices} == {state}
    put_copy(pickle)
    assert {library.fingerprint(choice, DETECTOR) for choice in choices} == {state}
    put(pickle, b"others weights")
    assert state not in {library.fingerprint(choice, DETECTOR) for choice in choices}


def test_autos_fingerprint_changes_when_a_better_file_arrives(library, models):
    before = library.fingerprint(AUTO, RESTORER)
    assert before[0] == str(ASSETS_FOLDER / "codeformer_starter.safetensors")
    put(models / "facerestore_models" / "GFPGANv1.4.pth")
    assert library.fingerprint(AUTO, RESTORER) != before
    none = library.fingerprint(AUTO, PARSER)
    put(models / "facedetection" / "parsing_parsenet.pth")
    assert library.fingerprint(AUTO, PARSER) != none


# --- loading and remembering -----------------------------------------------------------------------------------------


@pytest.fixture
def installed(own) -> Path:
    own.mkdir()
    state = to_published(seeded_network(SMALL_CONFIG).state_dict(), SMALL_CONFIG)
    torch.save({"params_ema": state}, own / "mine.pth")
    return own / "mine.pth"


def test_the_last_bundle_is_remembered_while_nothing_changes(library, installed):
    choices = ModelChoices("mine.pth")
    bundle = library.remembered(choices)
    # The first load has left its copy.
    assert installed.with_suffix(".safetensors").is_file()
    assert library.remembered(ModelChoices("mine.pth")) is bundle
    os.utime(installed, (1, 1))
    changed = library.remembered(choices)
    assert changed is not bundle and library.remembered(choices) is changed
    other = library.remembered(ModelChoices("mine.pth", detector="yunet"))
    assert other is not changed and library.remembered(choices) is not changed


def test_what_is_forgotten_is_gone_and_load_remembers_nothing(library, installed):
    choices = ModelChoices("mine.pth")
    assert library.load(choices) is not library.load(choices)
    bundle = library.remembered(choices)
    library.forget()
    assert library.remembered(choices) is not bundle


def test_a_bundle_asks_for_landmarks_only_for_a_restorer_that_takes_them(library, installed, models, monkeypatch):
    put(models / "facedetection" / "alignment_WFLW_4HG.pth")
    loaded = []

    class Landmarks:
        name, module = "landmarks", torch.nn.Identity()

    monkeypatch.setattr(loading, "load_landmark_detector", lambda path, device: loaded.append(path.name) or Landmarks())
    bundle = library.load(ModelChoices("mine.pth"))
    assert bundle.landmark_detector is None and loaded == []

    class Asking:
        name, needs_landmarks = "asking", True

    asking, again = bundle.with_restorer(Asking()), bundle.with_restorer(Asking())
    assert asking.landmark_detector.name == "landmarks" and again.landmark_detector is asking.landmark_detector
    assert loaded == ["alignment_WFLW_4HG.pth"] and bundle.landmark_detector is None


def test_choices_reach_the_loaders(library, installed, models, monkeypatch):
    parser = put(models / "facedetection" / "parsing_parsenet.pth")
    given = []

    class Parser:
        name, module = "parser", torch.nn.Identity()

    def load_parser(path, device):
        given.append((path, device))
        return Parser()

    monkeypatch.setattr(loading, "load_parser", load_parser)
    bundle = library.load(ModelChoices(installed, "yunet", "parsenet", torch.bfloat16))
    assert bundle.restorer.restorer.dtype == torch.bfloat16 and given == []
    assert bundle.parser.name == "parser" and given == [(parser, torch.device("cpu"))]
