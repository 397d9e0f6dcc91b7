"""What a user does in the host's page: panel, pasting, Extras with the face picker and batches, reload. In Chromium."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from .conftest import open_page
from .server import MODEL, PACK, STARTED, WebUI, changed, encoded

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytestmark = pytest.mark.slow

PANEL = "#script_txt2img_codeformer_pack_"
EXTRAS = "#extras_codeformer_pack_"
DONE_MS = 120_000


def checkbox(page: Page, selector: str) -> Locator:
    return page.locator(f"{selector} input[type=checkbox]").first


def number(page: Page, selector: str) -> Locator:
    return page.locator(f"{selector} input[type=number]").first


def open_extras(page: Page, picture: Path | None = None) -> None:
    page.locator("#tabs > .tab-nav button", has_text="Extras").first.click()
    if picture is not None:
        page.locator("#extras_image input[type=file]").first.set_input_files(picture)
        page.wait_for_selector("#extras_image img")
    page.locator(f"{EXTRAS}enabled .label-wrap").first.click()
    page.wait_for_selector(f"{EXTRAS}find")
    # Enlarging is on there, and not what is tested.
    if page.locator("#extras_upscale .label-wrap").count():
        page.locator("#extras_upscale .label-wrap").first.click()
    else:  # Classic has no switch for it
        number(page, "#extras_upscaling_resize").fill("1")
    page.wait_for_timeout(1000)


def results(webui: WebUI) -> list[Path]:
    return sorted(webui.data.glob("output*/extras-images/**/*.png"), key=lambda path: path.stat().st_mtime_ns)


def run_extras(page: Page, webui: WebUI, count: int = 1) -> list[Path]:
    """The files that a run of Extras has written."""
    before = results(webui)
    page.locator("#extras_generate").click()
    for _ in range(DONE_MS // 500):
        if len(results(webui)) >= len(before) + count:
            break
        page.wait_for_timeout(500)
    page.wait_for_timeout(500)
    return [path for path in results(webui) if path not in before]


def test_moving_a_slider_lets_go_of_the_settings(page):
    page.locator(f"{PANEL}enabled .label-wrap").first.click()
    page.wait_for_selector(f"{PANEL}fidelity")
    assert checkbox(page, f"{PANEL}use_settings").is_checked()
    number(page, f"{PANEL}fidelity").fill("0.3")
    number(page, f"{PANEL}fidelity").press("Tab")
    page.wait_for_function(
        "at => !document.querySelector(at + 'use_settings input').checked"
        " && !document.querySelector(at + 'automatic_fidelity input').checked",
        arg=PANEL,
    )


def test_an_infotext_is_pasted_into_the_panel(page, webui):
    _, (infotext,) = webui.generate(**webui.panel(fidelity=0.35, opacity=0.6, faces="largest", model=MODEL))
    prompt = page.locator("#txt2img_prompt textarea").first
    prompt.fill(infotext)
    # Gradio takes what was typed a moment later.
    page.wait_for_timeout(1500)
    prompt.blur()
    page.locator("#paste").first.click()
    page.wait_for_function(
        "at => document.querySelector(at + 'fidelity input[type=number]')?.value === '0.35'", arg=PANEL
    )
    assert number(page, f"{PANEL}opacity").input_value() == "0.6"
    assert checkbox(page, f"{PANEL}enabled-checkbox").is_checked()
    assert not checkbox(page, f"{PANEL}use_settings").is_checked()
    assert not checkbox(page, f"{PANEL}automatic_fidelity").is_checked()
    assert page.locator(f"{PANEL}faces input").first.input_value() == "largest"
    assert page.locator(f"{PANEL}model input").first.input_value() == MODEL


def test_extras_restore_and_keep_the_transparency(page, webui, pictures):
    open_extras(page, pictures / "cutout.png")
    checkbox(page, f"{EXTRAS}before_after").check()
    both, restored = sorted(run_extras(page, webui, 2), key=lambda path: "before-after" not in path.name)
    before, after = Image.open(pictures / "cutout.png"), Image.open(restored)
    assert after.mode == "RGBA" and Image.open(both).size == (512 * 2 + 4, 512)
    assert np.array_equal(np.asarray(after)[..., 3], np.asarray(before)[..., 3])
    assert changed(np.asarray(before), np.asarray(after)) > 0.05
    assert f"CodeFormer pack model: {MODEL}" in after.info["postprocessing"]


def choose_task(page: Page, task: str) -> None:
    page.locator(f"{EXTRAS}task input[type=radio][value={task}]").check()


def test_extras_colorize(page, webui, tmp_path, pictures):
    gray = Image.open(pictures / "portrait.png").convert("L").convert("RGB")
    gray.save(tmp_path / "gray.png")
    webui.set_options(codeformer_pack_model="auto")
    try:
        open_extras(page, tmp_path / "gray.png")
        choose_task(page, "colorize")
        (written,) = run_extras(page, webui)
    finally:
        webui.set_options(codeformer_pack_model=MODEL)
    after = Image.open(written)
    assert "CodeFormer pack task: colorize" in after.info["postprocessing"]
    assert "CodeFormer pack model: starter_colorization" in after.info["postprocessing"]
    assert np.ptp(np.asarray(after.convert("RGB")).astype(int), axis=-1).max() > 10


def test_extras_fill_what_the_mask_marks(page, webui, tmp_path, pictures):
    mask = Image.new("L", (512, 512))
    mask.paste(255, (200, 260, 260, 310))
    mask.save(tmp_path / "mask.png")
    webui.set_options(codeformer_pack_model="auto")
    try:
        open_extras(page, pictures / "portrait.png")
        choose_task(page, "inpaint")
        page.locator(f"{EXTRAS}mask_image input[type=file]").first.set_input_files(tmp_path / "mask.png")
        page.wait_for_selector(f"{EXTRAS}mask_image img")
        page.wait_for_timeout(1000)
        (written,) = run_extras(page, webui)
    finally:
        webui.set_options(codeformer_pack_model=MODEL)
    after = Image.open(written)
    assert "CodeFormer pack task: inpaint" in after.info["postprocessing"]
    before = Image.open(pictures / "portrait.png").convert("RGB")
    touched = (np.asarray(after.convert("RGB")) != np.asarray(before)).any(-1)
    marked = np.asarray(mask) > 0
    assert touched[marked].mean() > 0.5 and touched[~marked].mean() < 0.02


def test_only_the_picked_faces_are_restored(page, webui, pictures):
    open_extras(page, pictures / "group.png")
    page.locator(f"{EXTRAS}find").click()
    faces = page.locator(".codeformer-pack-face")
    faces.nth(1).wait_for()
    assert faces.count() == 2
    picks = page.locator(f"{EXTRAS}picks textarea, {EXTRAS}picks input").first

    def wait_for(pressed: list[str]) -> None:
        page.wait_for_function(
            "wanted => JSON.stringify([...document.querySelectorAll('.codeformer-pack-face')]"
            ".map(face => face.getAttribute('aria-pressed'))) === JSON.stringify(wanted)",
            arg=pressed,
        )

    faces.nth(1).click()
    wait_for(["true", "false"])
    faces.nth(1).click()
    wait_for(["true", "true"])
    assert picks.input_value() == ""
    # In the picture itself, whose left half shows the first face.
    shown = page.locator("#extras_image img").last
    shown.scroll_into_view_if_needed()
    box = shown.bounding_box()
    assert box is not None
    # The picture is fitted into the component: its middle is the component's.
    width = min(box["width"], box["height"] * 2)
    shown.click(position={"x": box["width"] / 2 - width / 4, "y": box["height"] / 2})
    wait_for(["false", "true"])
    assert len(json.loads(picks.input_value())["1"]) == 1
    (restored,) = run_extras(page, webui)
    before, after = np.asarray(Image.open(pictures / "group.png")), np.asarray(Image.open(restored).convert("RGB"))
    assert not changed(before[:, :500], after[:, :500]) and changed(before[:, 512:], after[:, 512:]) > 0.05


def test_a_batch_names_what_can_not_be_read_and_goes_on(page, webui, pictures, tmp_path):
    came, went = tmp_path / "came", tmp_path / "went"
    came.mkdir()
    went.mkdir()
    for name, picture in (("1.png", "portrait.png"), ("3.png", "group.png")):
        (came / name).write_bytes(base64.b64decode(encoded(Image.open(pictures / picture), "Steps: 1")))
    (came / "2.png").write_bytes(b"no picture")
    open_extras(page)
    page.locator("#mode_extras button", has_text="Batch from Directory").first.click()
    page.locator("#extras_batch_input_dir textarea, #extras_batch_input_dir input").first.fill(str(came))
    page.locator("#extras_batch_output_dir textarea, #extras_batch_output_dir input").first.fill(str(went))
    page.locator("#extras_generate").click()
    for _ in range(DONE_MS // 500):
        if len(list(went.glob("*.png"))) == 2:
            break
        page.wait_for_timeout(500)
    assert len(list(went.glob("*.png"))) == 2
    assert all("CodeFormer pack restored" in Image.open(path).info["postprocessing"] for path in went.glob("*.png"))
    assert "2.png is left out of the batch" in webui.log


def test_missing_weights_are_said_in_extras(page, webui, pictures):
    webui.set_options(codeformer_pack_model="codeformer.pth")
    try:
        open_extras(page, pictures / "portrait.png")
        page.locator("#extras_generate").click()
        said = page.get_by_text("codeformer.pth is not on this machine").first
        said.wait_for(timeout=DONE_MS)
    finally:
        webui.set_options(codeformer_pack_model=MODEL)


def test_the_settings_have_a_section(page, webui):
    page.locator("#tabs > .tab-nav button", has_text="Settings").first.click()
    page.locator("#settings button", has_text="CodeFormer pack").first.click()
    page.locator("#setting_codeformer_pack_fidelity").first.wait_for()
    assert page.locator("#setting_face_restoration_model").get_by_text("CodeFormer pack").count() == 1
    assert page.locator("#setting_codeformer_pack_model").count() >= 1


def test_reload_lists_us_once_and_switched_off_not_at_all(page, webui):
    """Last, as the extension is off afterwards until the next reload."""

    def reload() -> list[str]:
        times = webui.log.count(STARTED)
        page.evaluate("() => document.querySelector('#settings_restart_gradio').click()")
        webui.wait_for(STARTED, 120, times + 1)
        page.wait_for_timeout(1000)
        return [each["name"] for each in webui.get("/sdapi/v1/face-restorers")]

    ours = {"restore_faces": True, "override_settings": {"face_restoration_model": "CodeFormer pack"}}
    (plain,), _ = webui.generate()
    assert reload().count("CodeFormer pack") == 1
    (restored,), (infotext,) = webui.generate(**ours)
    assert changed(plain, restored) and "CodeFormer pack restored: 1" in infotext
    open_page(page, webui)
    webui.set_options(disabled_extensions=[PACK])
    try:
        assert "CodeFormer pack" not in reload()
        # The setting keeps our name: the host says nothing, and does nothing.
        (image,), (infotext,) = webui.generate(**ours)
        assert not changed(plain, image) and "CodeFormer pack restored" not in infotext
    finally:
        webui.set_options(disabled_extensions=[])
        open_page(page, webui)
        assert reload().count("CodeFormer pack") == 1
