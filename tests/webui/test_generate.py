"""Restoring what is generated: "Restore faces", the panel, axes, failures. In a real host, by its own requests."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

import codeformer_core as cf
from codeformer_core.runtime.plain_host import PlainHost

from .server import MODEL, WebUI, changed, encoded, pixels, told

pytestmark = pytest.mark.slow

OURS = {"restore_faces": True, "override_settings": {"face_restoration_model": "CodeFormer pack"}}


@pytest.fixture(scope="module")
def plain(webui: WebUI) -> np.ndarray:
    """The picture as it is generated."""
    return webui.generate()[0][0]


def test_restore_faces_offers_us_and_restores_by_us(webui, plain):
    names = [each["name"] for each in webui.get("/sdapi/v1/face-restorers")]
    assert names.count("CodeFormer pack") == 1
    (restored,), (infotext,) = webui.generate(**OURS)
    assert 0.05 < changed(plain, restored) < 0.5
    keys = told(infotext)
    assert keys["Face restoration"] == "CodeFormer pack"
    assert keys["CodeFormer pack model"] == MODEL
    assert keys["CodeFormer pack fidelity"] == "automatic" and keys["CodeFormer pack restored"] == "1"


def test_it_does_the_work_of_the_hosts_own_codeformer_where_asked(webui, plain):
    theirs = {"restore_faces": True, "override_settings": {"face_restoration_model": "CodeFormer"}}
    (ours,), _ = webui.generate(**OURS)
    (before,), (infotext,) = webui.generate(**theirs)
    assert not changed(plain, before) and "CodeFormer pack" not in infotext
    webui.set_options(codeformer_pack_take_over=True)
    try:
        (taken_over,), (infotext,) = webui.generate(**theirs)
        asked = {"image": encoded(Image.fromarray(plain), "Steps: 1"), "upscaling_resize": 1}
        asked |= {"codeformer_visibility": 1, "codeformer_weight": 0.9}
        extras = pixels(webui.post("/sdapi/v1/extra-single-image", asked)["image"])[..., :3]
    finally:
        webui.set_options(codeformer_pack_take_over=False)
    assert not changed(ours, taken_over)
    keys = told(infotext)
    assert keys["CodeFormer pack model"] == MODEL and keys["Face restoration"] == "CodeFormer"
    (close,), _ = webui.generate(**webui.panel(fidelity=0.9))
    assert not changed(close, extras) and changed(ours, extras)
    (after,), _ = webui.generate(**theirs)
    assert not changed(plain, after)


def test_arguments_by_place_and_a_title_that_is_not_there(webui, plain):
    """The host drops arguments that are too many."""
    (by_name,), _ = webui.generate(**webui.panel(fidelity=0.9))
    arguments = [
        True,
        False,
        False,
        0.9,
        1.0,
        "all",
        0,
        0,
        MODEL,
        "none",
        "paste",
        "face",
        "before the inpaint overlay",
    ]
    too_many = {"alwayson_scripts": {"CodeFormer pack": {"args": [*arguments, "more", 7]}}}
    (by_place,), _ = webui.generate(**too_many)
    assert not changed(by_name, by_place)
    body = {"prompt": "a face", "alwayson_scripts": {"CodeFormer park": {"args": [True]}}}
    assert webui.request("/sdapi/v1/txt2img", body).status == 422


def test_it_equals_the_library(webui, plain):
    """With the restorer that comes with the pack."""
    (restored,), (infotext,) = webui.generate(**webui.panel(fidelity=0.5, model="codeformer_starter.safetensors"))
    assert told(infotext)["CodeFormer pack model"] == "codeformer_starter.safetensors"
    models = cf.ModelLibrary(PlainHost()).load(cf.ModelChoices("codeformer_starter"))
    library = cf.restore_images(
        torch.from_numpy(plain.copy()).float()[None] / 255,
        restorer=models.restorer,
        detector=models.detector,
        parser=models.parser,
        paste=cf.PasteOptions(color_match="off"),
        fidelity=0.5,
        when_worse="paste",
    ).images_BHWC[0]
    difference = np.abs(restored.astype(int) - library.mul(255).round().numpy().astype(int))
    # Another OpenCV and another numpy cut the face out.
    assert difference.max() <= 2 and (difference > 0).mean() < 0.02


def test_the_settings_hold_where_the_panel_says_nothing_else(webui, plain):
    on = {"alwayson_scripts": {"CodeFormer pack": {"args": [True]}}}
    (usual,), _ = webui.generate(**on)
    webui.set_options(codeformer_pack_automatic_fidelity=False, codeformer_pack_fidelity=0.1)
    try:
        (by_settings,), (infotext,) = webui.generate(**on)
        (by_name,), _ = webui.generate(**webui.panel(fidelity=0.1))
        # on, as in the settings, automatic fidelity, fidelity
        in_place = {"alwayson_scripts": {"CodeFormer pack": {"args": [True, False, False, 0.9]}}}
        (by_place,), (placed,) = webui.generate(**in_place)
        (by_restorer,), _ = webui.generate(**OURS)
    finally:
        webui.set_options(codeformer_pack_automatic_fidelity=True)
    assert changed(plain, usual) and changed(usual, by_settings)
    assert not changed(by_settings, by_name) and not changed(by_settings, by_restorer)
    assert changed(by_settings, by_place)
    assert told(infotext)["CodeFormer pack fidelity"] == "0.1" and told(placed)["CodeFormer pack fidelity"] == "0.9"


def test_opacity_and_the_size_of_faces_count(webui, plain):
    (whole,), _ = webui.generate(**webui.panel(fidelity=0.5))
    (half,), (infotext,) = webui.generate(**webui.panel(fidelity=0.5, opacity=0.5))
    expected = (plain.astype(float) + whole) / 2
    assert np.abs(half - expected).max() <= 1.5
    assert told(infotext)["CodeFormer pack opacity"] == "0.5"
    (left,), (infotext,) = webui.generate(**webui.panel(min_face_size=400))
    assert not changed(plain, left) and told(infotext)["CodeFormer pack restored"] == "0"


def test_two_restorers_in_turn(webui, plain):
    (once,), _ = webui.generate(**webui.panel(fidelity=0.5))
    (twice,), (infotext,) = webui.generate(**webui.panel(fidelity=0.5, second_model=MODEL))
    assert changed(once, twice) > 0.05
    assert told(infotext)["CodeFormer pack second model"] == MODEL


def test_every_picture_of_a_batch_is_restored_and_told_of(webui, plain):
    images, infotexts = webui.generate(batch_size=2, n_iter=2, do_not_save_grid=True, **webui.panel(fidelity=0.5))
    pictures = [image for image in images if image.shape == plain.shape]
    assert len(pictures) >= 4 and all(changed(plain, image) for image in pictures)
    assert all(told(text)["CodeFormer pack restored"] == "1" for text in infotexts)


def test_img2img_before_and_after_the_overlay(webui, pictures, plain):
    """With a mask beside the face, only what is restored after the overlay reaches the face."""
    mask = Image.new("L", (512, 512))
    mask.paste(255, (0, 0, 40, 40))
    body = {
        "init_images": [encoded(pictures / "portrait.png")],
        "mask": encoded(mask),
        "mask_blur": 0,
        "denoising_strength": 0.5,
    }
    (before,), _ = webui.generate("img2img", **body, **webui.panel(fidelity=0.5))
    after_overlay = webui.panel(fidelity=0.5, order="after the inpaint overlay")
    (after,), (infotext,) = webui.generate("img2img", **body, **after_overlay)
    assert told(infotext)["CodeFormer pack order"] == "after the inpaint overlay"
    original = np.asarray(Image.open(pictures / "portrait.png").convert("RGB"))
    center = (slice(200, 400), slice(180, 330))
    assert not changed(original[center], before[..., :3][center])
    assert changed(original[center], after[..., :3][center]) > 0.5


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"args": [{"fidelity": 7}]}, "fidelity must be from 0 to 1"),
        ({"args": [{"fidelty": 0.5}]}, "unknown: fidelty"),
        ({"args": [{"model": "codeformer.pth"}]}, "is not on this machine"),
        ({"args": [True, 0.25]}, "use_settings must be true or false"),
        ({"args": [True, False, False, "much"]}, "fidelity must be a number"),
    ],
)
def test_a_failure_keeps_the_picture_and_claims_nothing(webui, plain, wrong, says):
    (image,), (infotext,) = webui.generate(alwayson_scripts={"CodeFormer pack": wrong})
    assert not changed(plain, image)
    assert "CodeFormer pack failed: " in infotext and says in infotext
    assert "CodeFormer pack model" not in infotext and "CodeFormer pack fidelity" not in infotext
    assert str(webui.data) not in infotext


def test_a_failing_restorer_loses_no_picture(webui, plain):
    """Missing weights behind "Restore faces"."""
    override = {"face_restoration_model": "CodeFormer pack", "codeformer_pack_model": "codeformer.pth"}
    (image,), (infotext,) = webui.generate(restore_faces=True, override_settings=override)
    assert not changed(plain, image)
    assert "CodeFormer pack failed" in infotext and "Face restoration" not in infotext
    assert "the faces were not restored" in webui.log
    # The next one is not told of it.
    _, (infotext,) = webui.generate(**OURS)
    assert "failed" not in infotext and "Face restoration: CodeFormer pack" in infotext


def test_the_axes_of_the_plot_differ(webui):
    script = {"script_name": "x/y/z plot"}
    options = webui.get("/sdapi/v1/script-info")
    (info,) = [each for each in options if each["name"] == "x/y/z plot" and not each["is_img2img"]]
    labels = next(arg["choices"] for arg in info["args"] if arg["label"] == "X type")
    axis = labels.index("[CodeFormer pack] Fidelity")
    values = {"X type": axis, "X values": "0, 0.5, 1", "Y type": 0, "Z type": 0, "Y values": "", "Z values": ""}
    fixed = {"Draw legend": True, "Include Sub Images": True, "Include Sub Grids": False, "Grid margins (px)": 0}
    arguments = [(values | fixed).get(arg["label"], arg.get("value")) for arg in info["args"]]
    arguments = [[] if isinstance(value, str) and "dropdown" in value else value for value in arguments]
    images, infotexts = webui.generate(**script, script_args=arguments)
    parts = [image for image in images if image.shape == (512, 512, 3)]
    assert len(parts) == 3
    assert all(changed(one, other) for one, other in ((parts[0], parts[1]), (parts[1], parts[2])))
    fidelities = [told(text).get("CodeFormer pack fidelity") for text in infotexts[-3:]]
    assert fidelities == ["0.0", "0.5", "1.0"]


def test_a_pasted_infotext_restores_the_same(webui, plain):
    """Forge answers 500 to any infotext in a request."""
    (first,), (infotext,) = webui.generate(**webui.panel(fidelity=0.2))
    if webui.host.is_forge:
        return
    answer = webui.request("/sdapi/v1/txt2img", {"infotext": infotext, "send_images": True})
    assert answer.status == 200
    assert not changed(first, pixels(answer.body["images"][0]))
