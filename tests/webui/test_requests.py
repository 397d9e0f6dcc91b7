"""Our own requests in a real host; and what the host's request for Extras does with us."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from .conftest import started
from .hosts import WebUIHost
from .server import MODEL, REPOSITORY, WebUI, changed, encoded, pixels

pytestmark = pytest.mark.slow

RESTORE = "/codeformer/v1/restore"


def test_a_photo_is_restored(webui, pictures):
    answer = webui.post(RESTORE, {"image": encoded(pictures / "group.png"), "fidelity": 0.5})
    assert answer["restored"] == len(answer["faces"]) == 2 and answer["skipped"] == 0
    before = np.asarray(Image.open(pictures / "group.png"))
    assert 0.02 < changed(before, pixels(answer["image"])) < 0.5
    assert answer["infotext"]["CodeFormer pack model"] == MODEL
    assert MODEL in answer["report"]
    left, top, right, bottom = answer["faces"][0]["box"]
    assert 0 <= left < right <= 1024 and 0 <= top < bottom <= 512


def test_transparency_and_size(webui, pictures):
    cutout = pictures / "cutout.png"
    answer = webui.post(RESTORE, {"image": f"data:image/png;base64,{encoded(cutout)}", "upscale": 1.5})
    result = pixels(answer["image"])
    assert result.shape == (768, 768, 4)
    same_size = pixels(webui.post(RESTORE, {"image": encoded(cutout)})["image"])
    assert np.array_equal(same_size[..., 3], np.asarray(Image.open(cutout))[..., 3])


def test_an_aligned_face_and_no_face(webui, pictures):
    aligned = webui.post(RESTORE, {"image": encoded(pictures / "portrait.png"), "aligned": True})
    before = np.asarray(Image.open(pictures / "portrait.png"))
    assert changed(before, pixels(aligned["image"])) > 0.9
    gray = Image.new("RGB", (64, 64), "gray")
    answer = webui.post(RESTORE, {"image": encoded(gray)})
    assert answer["faces"] == [] and answer["restored"] == 0
    assert not changed(np.asarray(gray), pixels(answer["image"]))


def test_colours_and_holes_by_what_comes_with_the_pack(webui, pictures):
    gray = Image.open(pictures / "portrait.png").convert("L").convert("RGB")
    answer = webui.post(RESTORE, {"image": encoded(gray), "task": "colorize", "model": "auto"})
    assert answer["restored"] == 1 and "starter_colorization" in answer["report"]
    coloured = pixels(answer["image"]).astype(int)[..., :3]
    assert np.ptp(coloured, axis=-1).max() > 10
    height, width = coloured.shape[:2]
    hole = Image.new("L", (width, height))
    hole.paste(255, (width * 2 // 5, height // 2, width // 2, height * 3 // 5))
    body = {
        "image": encoded(pictures / "portrait.png"),
        "mask_image": encoded(hole),
        "task": "inpaint",
        "model": "auto",
    }
    answer = webui.post(RESTORE, body)
    assert answer["restored"] == 1 and "starter_inpainting" in answer["report"]
    before = np.asarray(Image.open(pictures / "portrait.png").convert("RGB"))
    touched = (pixels(answer["image"])[..., :3] != before).any(-1)
    marked = np.asarray(hole) > 0
    assert touched[marked].mean() > 0.5 and touched[~marked].mean() < 0.02


def test_faces_and_models(webui, pictures):
    faces = webui.post("/codeformer/v1/faces", {"image": encoded(pictures / "group.png")})["faces"]
    assert len(faces) == 2 and all(len(face["landmarks"]) == 5 for face in faces)
    models = webui.get("/codeformer/v1/models")
    assert MODEL in models["restorers"] and "codeformer.pth (download)" in models["restorers"]
    assert "yunet" in models["detectors"] and MODEL not in models["detectors"]


@pytest.mark.parametrize(
    ("fields", "status", "says"),
    [
        ({}, 422, "image"),
        ({"image": "???"}, 422, "base64"),
        ({"image": "https://example.org/a.png"}, 422, "addresses are not fetched"),
        ({"image": "aGVsbG8="}, 422, "not a picture"),
        ({"fidelity": 7}, 422, "fidelity must be from 0 to 1"),
        ({"fidelity": "much"}, 422, "fidelity must be a number"),
        ({"fidelty": 0.5}, 422, "fidelty"),
        ({"task": "paint"}, 422, "task must be one of"),
        ({"task": "inpaint", "model": "codeformer_starter.safetensors"}, 422, "inpainting"),
        ({"upscale": 0.5}, 422, "upscale"),
        ({"model": "codeformer.pth"}, 424, "choose 'codeformer.pth (download)'"),
        ({"model": "none.pth"}, 424, "none.pth"),
        ({"upscale": 64}, 507, "GiB"),
    ],
)
def test_what_is_wrong_is_said(webui, pictures, fields, status, says):
    """A1111 and Classic drop the detail of FastAPI's own errors; ours arrives."""
    image = {"image": encoded(pictures / "group.png")} if fields and "image" not in fields else {}
    answer = webui.request(RESTORE, image | fields)
    assert answer.status == status, answer
    assert says in answer.body["detail"] and answer.body["error"]
    assert str(webui.data) not in answer.body["detail"]


def test_a_body_that_is_none(webui):
    assert webui.request(RESTORE, None, raw=b"{half").status == 422
    assert "object" in webui.request(RESTORE, [1]).body["detail"]


def test_the_requests_of_the_host_for_extras_pass_us_by(webui, pictures):
    """They can't reach scripts of extensions."""
    small = Image.open(pictures / "portrait.png").resize((256, 256))
    asked = {"image": encoded(small, "Steps: 1"), "upscaling_resize": 1}
    answer = webui.post("/sdapi/v1/extra-single-image", asked)
    assert not changed(np.asarray(small), pixels(answer["image"])[..., :3])


def test_memory_stays_flat_over_many_pictures(webui, pictures):
    """Tensors that are alive, and what the process holds: a crop of 3 MB kept of each face would be 51 MB."""

    def restore(times: int) -> dict[str, int]:
        for _ in range(times):
            webui.post(RESTORE, body)
        return webui.get("/supplied/memory")

    body = {"image": encoded(Image.open(pictures / "portrait.png").resize((256, 256)))}
    before = restore(3)
    after = restore(17)
    assert after["tensors"] == before["tensors"]
    assert after["resident"] - before["resident"] < 40e6


def test_the_hosts_python_runs_install_py_without_a_word(webui_host):
    """As the host does at each start: its own folder is on the path. Nothing that takes long is imported."""
    done = subprocess.run(
        [webui_host.python, "-X", "importtime", REPOSITORY / "install.py"],
        cwd=webui_host.root,
        env=os.environ | {"PYTHONPATH": str(webui_host.root)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr[-2000:]
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "argparse" in imported and not imported & {"torch", "cv2", "numpy", "launch", "modules"}


def test_without_a_page(webui_host: WebUIHost, pictures: Path, tmp_path: Path):
    """--nowebui: our requests, settings and the restorer are there; and a password is asked for where the host asks."""
    api_only = WebUI(webui_host, tmp_path, pictures / "portrait.png", "--nowebui", "--api-auth", "me:secret")
    with started(api_only):
        body = {"image": encoded(pictures / "portrait.png"), "fidelity": 0.5}
        assert api_only.request(RESTORE, body).status == 401
        assert api_only.request(RESTORE, body, login="me:wrong").status == 401
        answer = api_only.request(RESTORE, body, login="me:secret")
        assert answer.status == 200 and answer.body["restored"] == 1
        names = api_only.request("/sdapi/v1/face-restorers", None, login="me:secret").body
        assert [each["name"] for each in names].count("CodeFormer pack") == 1
        assert api_only.request("/sdapi/v1/options", {"codeformer_pack_opacity": 0.5}, login="me:secret").status == 200
        half = api_only.request(RESTORE, body, login="me:secret")
        assert half.body["infotext"]["CodeFormer pack opacity"] == 0.5
