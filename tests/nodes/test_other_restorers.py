"""VQFR, DFDNet and RestoreFormer in a real ComfyUI: offered, run, compared, saved."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from .prompts import counts, node, report, restore_prompt, tells
from .server import Prompt, Server, ServerFailed
from .test_loaders import options, without_codeformer
from .test_restore import seen
from .weights import save_small_other

pytestmark = pytest.mark.slow

FILES = {"VQFR_v2.pth": "vqfr_v2", "dfdnet.safetensors": "dfdnet", "RestoreFormer.pth": "restoreformer"}


@pytest.fixture(scope="module")
def equipped(server: Server) -> Iterator[Server]:
    """The server with one of each kind; they are taken away again."""
    folder = server.base / "models" / "facerestore_models"
    for name, kind in FILES.items():
        save_small_other(folder / name, kind)
    yield server
    for name in FILES:
        for file in folder.glob(f"{name.split('.')[0]}.*"):
            file.unlink()


def loader(model: str) -> dict[str, Any]:
    return node("CodeFormerLoadModel", model=model, detector="auto", parser="auto", dtype="float32")


def compare_prompt(*models: str, **inputs: Any) -> Prompt:
    """The face of portrait.png through these; grid, faces and report are handed out."""
    names = ["face_restore_model", *(f"face_restore_model_{number}" for number in range(2, len(models) + 1))]
    loaders = {f"loader_{number}": loader(model) for number, model in enumerate(models)}
    links = {name: [source, 0] for name, source in zip(names, loaders, strict=True)}
    return loaders | {
        "photo": node("LoadImage", image="portrait.png"),
        "study": node("CodeFormerCompareRestorers", **({"image": ["photo", 0], "fidelity": 0.4} | links | inputs)),
        "grid": node("SaveImage", images=["study", 0], filename_prefix="grid"),
        "faces": node("SaveImage", images=["study", 1], filename_prefix="faces"),
        "report": node("PreviewAny", source=["study", 2]),
    }


def test_files_that_are_here_are_offered_as_such(equipped: Server):
    models = options(equipped, "CodeFormerLoadModel", "model")
    assert set(FILES) <= set(models) and not any(f"{name} (download)" in models for name in FILES)
    # Version 1 has no address: it is no choice until it is here.
    assert not any(name.startswith("VQFR_v1") for name in models)
    with pytest.raises(ServerFailed, match=r"VQFR_v1-33a1fac5\.pth is not on this machine.*drive\.google\.com"):
        equipped.queue(restore_prompt(model="VQFR_v1-33a1fac5.pth"))
    with pytest.raises(ServerFailed, match=r"drive\.google\.com"):
        equipped.queue(restore_prompt(model="VQFR_v1-33a1fac5.pth (download)"))


@pytest.mark.parametrize("name", FILES)
def test_each_restores_a_photo_and_says_what_fidelity_does(equipped: Server, name: str):
    done = equipped.run(restore_prompt(model=name, mask="box", fidelity=0.4))
    outcome, stem = seen(equipped, done), name.split(".")[0]
    assert outcome.same_outside and not outcome.same
    assert tells(done, "restored_by", restorer=f"{stem}.")
    assert tells(done, "no_fidelity", restorers=f"{stem}.") == (name != "VQFR_v2.pth")
    assert tells(done, "fidelity", fidelity=0.4) == (name == "VQFR_v2.pth")


def test_auto_prefers_codeformer_and_takes_another_without_it(equipped: Server):
    prompt = restore_prompt(model="auto", fidelity=0.03)
    assert tells(equipped.run(prompt), "restored_by", restorer="codeformer.")
    with without_codeformer(equipped):
        assert tells(equipped.run(prompt), "restored_by", restorer="VQFR_v2.")


def test_several_restorers_beside_each_other(equipped: Server):
    done = equipped.run(compare_prompt("codeformer.pth", *FILES))

    assert done.status == "success", done.error
    faces, (grid,) = equipped.pictures(done, "faces"), equipped.pictures(done, "grid")
    assert [face.shape for face in faces] == [(512, 512, 3)] * 4
    for number, face in enumerate(faces):
        assert not any(np.array_equal(face, other) for other in faces[:number])
    # The input and four faces in three columns; each is there as it is.
    assert grid.shape[1] > 3 * 512 > grid.shape[0] - 512
    for face in faces:
        assert _is_in(grid, face)
    names = [line.partition(":")[0].partition(".")[0] for line in report(done).splitlines()[1:5]]
    assert names == ["codeformer", "VQFR_v2", "dfdnet", "RestoreFormer"] and tells(done, "sharpness")
    assert tells(done, "no_fidelity", restorers="dfdnet.safetensors, RestoreFormer.")
    assert tells(done, "fidelity", fidelity=0.4)
    (shown,) = done.outputs["study"]["codeformer_restorers"]
    assert [tile["label"].partition(".")[0] for tile in shown["tiles"]] == names
    assert all({"image", "identity", "sharpness"} <= set(tile) for tile in shown["tiles"]) and shown["input"]


def _is_in(grid: np.ndarray, face: np.ndarray) -> bool:
    """Whether the tile lies somewhere in the grid, a level at most beside it."""
    corner = face[:8, :8].astype(int)
    height, width = grid.shape[:2]
    for top in range(height - 511):
        near = np.abs(grid[top, : width - 511].astype(int) - corner[0, 0]).max(-1) <= 1
        for left in np.flatnonzero(near):
            there = grid[top : top + 512, left : left + 512].astype(int)
            if np.abs(there[:8, :8] - corner).max() <= 1 and np.abs(there - face).max() <= 1:
                return True
    return False


def test_one_restorer_and_a_photo_without_a_face(equipped: Server):
    prompt = compare_prompt("dfdnet.safetensors", faces=["found", 0])
    prompt["photo"]["inputs"]["image"] = "no_face.png"
    prompt["found"] = node(
        "CodeFormerDetectFaces",
        image=["photo", 0],
        detector="auto",
        confidence=0.0,
        smallest_face=0.0,
        largest_face=0.0,
        merge_duplicates=True,
        picked="",
    )
    done = equipped.run(prompt)
    assert done.status == "success", done.error
    assert tells(done, "no_face") and len(equipped.pictures(done, "faces")) == 1
    prompt["photo"]["inputs"]["image"] = "group.png"
    done = equipped.run(prompt)
    assert tells(done, "compared_face", number=1, image=1) and len(equipped.pictures(done, "faces")) == 1


def test_models_for_something_else_are_refused(equipped: Server):
    done = equipped.run(compare_prompt("dfdnet.safetensors", "painter.pth"))
    assert done.status == "error" and "is taken as a model for colorization" in done.error


@pytest.mark.parametrize("name", ["VQFR_v2.pth", "dfdnet.safetensors", "RestoreFormer.pth"])
def test_a_saved_one_restores_the_same(equipped: Server, name: str):
    save = node(
        "CodeFormerSaveModel", face_restore_model=["loader", 0], filename="kept_one", dtype="float32", overwrite=True
    )
    done = equipped.run({"loader": loader(name), "save": save, "report": node("PreviewAny", source=["save", 0])})
    assert done.status == "success", done.error
    try:
        prompt = compare_prompt(name, "kept_one.safetensors")
        # An older file of that name may still be in the host's cache.
        prompt["study"]["inputs"]["fidelity"] = 0.1 + 0.1 * list(FILES).index(name)
        first, second = equipped.pictures(equipped.run(prompt), "faces")
    finally:
        for folder in ("mine", "models/facerestore_models"):
            (equipped.base / folder / "kept_one.safetensors").unlink(missing_ok=True)
    assert np.array_equal(first, second)


def test_crops_too_say_that_fidelity_does_nothing(equipped: Server):
    prompt = {
        "photo": node("LoadImage", image="portrait.png"),
        "loader": loader("dfdnet.safetensors"),
        "crops": node("CodeFormerRestoreFaceCrops", image=["photo", 0], face_restore_model=["loader", 0], fidelity=0.5),
        "report": node("PreviewAny", source=["crops", 1]),
    }
    done = equipped.run(prompt)
    assert counts(done, restored=1) and tells(done, "no_fidelity", restorers="dfdnet.safetensors")
