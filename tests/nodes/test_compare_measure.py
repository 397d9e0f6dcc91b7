"""Compare Fidelity, Degrade Faces, Measure Faces and Save Face Restore Model in a real ComfyUI."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from .prompts import node, report, restore_prompt, tells
from .server import Done, Prompt, Server, ServerFailed

LOADER = node("CodeFormerLoadModel", model="codeformer.pth", detector="auto", parser="auto", dtype="float32")


def with_report(kind: str, output: int, picture: str = "portrait.png", **inputs: Any) -> Prompt:
    """A photo, the loader and the node "study", whose text is its output number `output`."""
    return {
        "photo": node("LoadImage", image=picture),
        "loader": LOADER,
        "study": node(kind, **inputs),
        "report": node("PreviewAny", source=["study", output]),
    }


def shown_tiles(server: Server, done: Done, output: str = "codeformer_fidelity") -> tuple[dict[str, Any], list[Any]]:
    """What the browser is told, and the pictures of the tiles."""
    (shown,) = done.outputs["study"][output]
    images = [tile["image"] for tile in shown["tiles"]]
    assert all(image["type"] == "temp" for image in images)
    folder = server.base / "temp"
    return shown, [np.asarray(Image.open(folder / image["subfolder"] / image["filename"])) for image in images]


def test_fidelities_beside_each_other(server: Server):
    inputs = {"image": ["photo", 0], "face_restore_model": ["loader", 0], "steps": 3}
    prompt = with_report("CodeFormerCompareFidelity", 2, **inputs)
    prompt["faces"] = node("SaveImage", images=["study", 1], filename_prefix="faces")
    prompt["grid"] = node("SaveImage", images=["study", 0], filename_prefix="grid")

    done = server.run(prompt)

    faces, (grid,) = server.pictures(done, "faces"), server.pictures(done, "grid")
    assert [face.shape for face in faces] == [(512, 512, 3)] * 3
    assert not np.array_equal(faces[0], faces[2])
    shown, tiles = shown_tiles(server, done)
    assert [tile["fidelity"] for tile in shown["tiles"]] == [0.0, 0.5, 1.0] and shown["input"]
    assert grid.shape[1] > 2 * 512
    for tile, face in zip(tiles, faces, strict=True):
        assert np.abs(tile.astype(int) - face).max() <= 1, "a level is lost on the way to 8 bits"
    for measure in ("identity", "sharpness", "niqe"):
        values = [round(tile[measure], 2) for tile in shown["tiles"]]
        best = max(values) if measure == "sharpness" else min(values)
        assert [measure in tile["best"] for tile in shown["tiles"]] == [value == best for value in values]
    assert tells(done, "sharpness", label="w 0.5")


def test_the_first_face_of_a_photo_is_compared(server: Server):
    prompt = restore_prompt("group.png")
    prompt["study"] = node(
        "CodeFormerCompareFidelity",
        image=["photo", 0],
        face_restore_model=["loader", 0],
        steps=2,
        faces=["restore", 2],
    )
    prompt["report"] = node("PreviewAny", source=["study", 2])
    done = server.run(prompt)
    assert tells(done, "compared_face", number=1, image=1)
    assert len(shown_tiles(server, done)[0]["tiles"]) == 2

    prompt["photo"]["inputs"]["image"] = "no_face.png"
    none = server.run(prompt)
    assert tells(none, "no_face") and shown_tiles(server, none)[0] == {"tiles": []}


def test_degraded_faces_are_measured(server: Server):
    prompt = with_report("CodeFormerMeasureFaces", 2, image=["worse", 0], reference=["photo", 0], identity="none")
    prompt["worse"] = node("CodeFormerDegradeFaces", image=["photo", 0], seed=3)
    prompt["worse"]["inputs"]["kind"] = "x4"
    prompt["drawn"] = node("PreviewAny", source=["worse", 1])
    prompt["psnr"] = node("PreviewAny", source=["study", 0])
    prompt["ssim"] = node("PreviewAny", source=["study", 1])
    prompt["saved"] = node("SaveImage", images=["worse", 0], filename_prefix="worse")

    done = server.run(prompt)

    (worse,) = server.pictures(done, "saved")
    clean = np.asarray(Image.open(server.base / "input" / "portrait.png").convert("RGB"))
    expected = 10 * np.log10(255**2 / np.square(worse.astype(float) - clean).mean())
    psnr, ssim = (float(done.outputs[name]["text"][0]) for name in ("psnr", "ssim"))
    # The saved picture is cut off to 8 bits.
    assert psnr == pytest.approx(expected, abs=0.2) and 0.1 < ssim < 0.95
    assert f"{psnr:.2f}" in report(done)
    drawn = done.outputs["drawn"]["text"][0]
    assert all(fact in drawn for fact in ("shrunk 4.0 times to 128 px", "sigma 5.0 of 255", "JPEG quality 75"))


def test_equal_pictures_are_infinitely_near(server: Server):
    prompt = with_report("CodeFormerMeasureFaces", 0, image=["photo", 0], reference=["photo", 0], identity="none")
    assert report(server.run(prompt)) == "inf"


@pytest.fixture
def restorers(server: Server):
    """The folder of restorers; what the test adds is taken away."""
    folder = server.base / "mine"
    before = set(folder.iterdir())
    yield folder
    for added in set(folder.iterdir()) - before:
        added.unlink()


def save_prompt(**changes: Any) -> Prompt:
    inputs = {
        "face_restore_model": ["loader", 0],
        "filename": "copied",
        "dtype": "float32",
        "overwrite": False,
    }
    return with_report("CodeFormerSaveModel", 0, **(inputs | changes))


def test_a_saved_model_is_listed_and_restores_the_same(server: Server, restorers: Path):
    done = server.run(save_prompt())

    lines = report(done).splitlines()
    path = Path(lines[0].removeprefix("saved: "))
    assert path == restorers / "copied.safetensors"
    assert lines[2] == f"sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}"
    options = server.get("/object_info/CodeFormerLoadModel")["CodeFormerLoadModel"]["input"]["required"]["model"]
    assert "copied.safetensors" in options[1]["options"]
    original, copied = (
        server.pictures(server.run(restore_prompt(model=name)), "after")[0]
        for name in ("codeformer.pth", "copied.safetensors")
    )
    assert np.array_equal(original, copied)

    # Another precision is another run, which may not replace the file.
    refused = server.run(save_prompt(dtype="float16"))
    assert refused.status == "error" and "copied.safetensors is there already" in refused.error
    allowed = server.run(save_prompt(dtype="float16", overwrite=True))
    assert allowed.status == "success" and path.stat().st_size < 0.6 * int(lines[1].split()[0].replace(",", ""))


@pytest.mark.parametrize("name", ["../copied", "codeformer", "realesrgan_like", ""])
def test_names_are_refused_before_anything_runs(server: Server, restorers: Path, name: str):
    before = sorted(restorers.iterdir())
    with pytest.raises(ServerFailed, match="filename"):
        server.queue(save_prompt(filename=name))
    assert sorted(restorers.iterdir()) == before
