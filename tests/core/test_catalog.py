"""The catalog's data, and finding an entry by what a user types."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from codeformer_core.weights.catalog import (
    CATALOG,
    DETECTORS,
    RESTORERS,
    WITHOUT_FACEXLIB,
    find_entry,
    nearest_name,
    unknown_name,
)
from codeformer_core.weights.download import mismatch
from codeformer_core.weights.folders import ASSETS_FOLDER, KNOWN_FOLDERS

REPOSITORY = Path(__file__).parents[2]


def test_catalog_has_what_the_pack_needs():
    assert {entry.task for entry in CATALOG} == {
        "restoration",
        "colorization",
        "inpainting",
        "autoencoder",
        "detection",
        "parsing",
        "alignment",
        "identity",
        "upscaling",
        "evaluation",
        "detail",
        "segmentation",
    }
    names = [entry.name for entry in CATALOG]
    files = [file for entry in CATALOG for file in (entry.filename, *entry.aliases)]
    assert len(names) == len(set(names)) and len(files) == len(set(files))


@pytest.mark.parametrize("entry", CATALOG, ids=lambda entry: entry.name)
def test_entry_is_complete(entry):
    assert entry.name == entry.name.lower()
    addresses = [entry.url, *entry.mirrors] if entry.url else []
    assert all(url.startswith("https://") for url in addresses)
    assert entry.bundled or entry.by_hand if entry.url is None else entry.url.endswith(f"/{entry.filename}")
    assert (entry.url or entry.by_hand or "comes with this pack") in entry.how_to_get + entry.licence_note
    assert entry.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", entry.sha256)
    assert entry.folder in KNOWN_FOLDERS
    assert entry.licence and entry.licence_note
    assert (entry.sha256 or "hash are not known") in entry.expectation
    assert entry.strengths or entry.task != "restoration"


@pytest.mark.parametrize("page", ["docs/models.md", "docs/zh/models.md"])
def test_the_tables_of_models_have_every_file_with_its_size_and_licence(page):
    rows = [
        [cell.strip() for cell in line.split("|")]
        for line in (REPOSITORY / page).read_text(encoding="utf-8").splitlines()
        if line.startswith("|")
    ]
    for entry in CATALOG:
        (row,) = [row for row in rows if entry.name in re.split(", |、", row[1]) and "MiB" in row[-3]]
        # Brackets and what follows are translated.
        assert re.split(r" \(| with ", entry.licence)[0] in row[-2], row
        if entry.size is not None and entry.size > 2**21:
            assert str(round(entry.size / 2**20)) in row[-3], row
        if entry.task == "restoration":
            assert row[3].startswith(("yes", "有")) == entry.uses_fidelity, row
            assert row[3].startswith(("no", "无")) != entry.uses_fidelity, row
            assert "zh" in page or entry.strengths.split(";")[0] in row[2], row


def test_single_source_hashes_are_marked():
    unconfirmed = {entry.name for entry in CATALOG if not entry.sha256_confirmed}
    assert unconfirmed == {"codeformer_colorization", "vqgan_code1024", "vqfr_v2", "vqfr_v1", "dfdnet"}
    assert {entry.name for entry in CATALOG if entry.sha256 is None} == {"vqfr_v2", "vqfr_v1", "dfdnet"}
    assert "single source" in find_entry("vqgan_code1024").expectation


def test_codeformer_weights_name_their_non_commercial_licence():
    for entry in CATALOG:
        if entry.name.startswith(("codeformer", "vqgan")) and entry.url:
            assert entry.licence == "S-Lab License 1.0" and "non-commercial" in entry.licence_note


def test_what_only_comes_by_hand_says_how():
    by_hand = {entry.name: entry.how_to_get for entry in CATALOG if entry.by_hand}
    assert set(by_hand) == {"vqfr_v1", "dfdnet"}
    assert "https://drive.google.com/" in by_hand["vqfr_v1"]
    assert "python -m codeformer_core dictionary join" in by_hand["dfdnet"]


def test_what_comes_with_the_package():
    assert {entry.name: entry.licence for entry in CATALOG if entry.bundled} == {
        "codeformer_starter": "Apache-2.0",
        "starter_colorization": "Apache-2.0",
        "starter_inpainting": "Apache-2.0",
        "starter_detector": "Apache-2.0",
        "face_recognition": "MIT",
        "yunet": "Apache-2.0",
        "niqe": "Apache-2.0",
        "detail_gates": "Apache-2.0",
        "selfie_segmentation": "Apache-2.0",
        "face_mesh": "Apache-2.0",
    }
    weights = {path.name for path in ASSETS_FOLDER.iterdir() if path.suffix != ".md"}
    assert weights <= {entry.filename for entry in CATALOG if entry.bundled}


@pytest.mark.parametrize("name", [entry.name for entry in CATALOG if entry.bundled])
def test_shipped_files_are_the_catalogs(name):
    entry = find_entry(name)
    path = ASSETS_FOLDER / entry.filename
    assert path.is_file(), f"{path} must be in the repository: the catalog says that it comes with the package"
    assert mismatch(path, entry) is None


@pytest.mark.parametrize(
    ("names", "task"), [(DETECTORS, "detection"), (RESTORERS, "restoration"), ((WITHOUT_FACEXLIB,), "detection")]
)
def test_what_auto_chooses_from_ends_with_a_file_that_is_always_there(names, task):
    assert all(find_entry(name).task == task for name in names)
    assert find_entry(names[-1]).bundled


def test_what_auto_restores_with():
    assert RESTORERS[0] == "codeformer"
    assert set(RESTORERS) == {entry.name for entry in CATALOG if entry.task == "restoration"}


@pytest.mark.parametrize(
    "typed",
    [
        "codeformer",
        "CodeFormer",
        "codeformer.pth",
        "codeformer.safetensors",
        "codeformer-v0.1.0.pth",
        "models/facerestore_models/codeformer.pth",
        "C:\\ComfyUI\\models\\codeformer.pth",
    ],
)
def test_find_entry(typed):
    assert find_entry(typed).name == "codeformer"


@pytest.mark.parametrize("typed", ["", "codeforme", "gfpgan", "codeformer.onnx"])
def test_find_entry_takes_no_guess(typed):
    assert find_entry(typed) is None


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("codefromer", "codeformer"),
        ("codeformer_inpaint", "codeformer_inpainting"),
        ("retinaface_mobilenet0.25", "retinaface_mobile0.25"),
        ("resnet50", "retinaface_resnet50"),
        ("x4plus", "realesrgan_x4plus"),
        ("zzzzzz", None),
    ],
)
def test_nearest_name(typed, meant):
    assert nearest_name(typed) == meant
    sentence = unknown_name(typed)
    assert repr(typed) in sentence and "codeformer_colorization" in sentence
    assert (f"Did you mean {meant}?" in sentence) == (meant is not None)


@pytest.mark.parametrize(
    "change",
    [
        {"sha256": "abc"},
        {"sha256": "A" * 64},
        {"sha256": None},
        {"filename": "../evil.pth"},
        {"aliases": ("a\\b.pth",)},
        {"url": None},
        {"by_hand": "ask for it"},
    ],
)
def test_entry_refuses_nonsense(change):
    with pytest.raises(ValueError, match="codeformer"):
        replace(CATALOG[0], **change)
