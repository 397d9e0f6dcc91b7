"""The face picker: two of nine faces, by mouse and by keyboard, kept in the workflow."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.nodes.prompts import AS_IT_IS, node, restore_prompt
from tests.nodes.server import REPOSITORY, Prompt
from tests.nodes.test_crops import FACE_RESTORE
from tests.nodes.workflow import load_workflow

from .editor import Editor

pytestmark = pytest.mark.slow

GROUP = REPOSITORY / "tests" / "golden" / "photos" / "composite__group09.jpg"
PRESSED = "faces => faces.map(face => face.getAttribute('aria-pressed'))"
NODES_2 = "Comfy.VueNodes.Enabled"
DETECT = {
    "detector": "yunet",
    "confidence": 0.0,
    "smallest_face": 0.0,
    "largest_face": 0.0,
    "merge_duplicates": True,
    "picked": "",
}


def picking_prompt(image: list[Any] | None = None) -> Prompt:
    """Photo, Detect Faces, and Face Restore of what is picked there."""
    restore = {**FACE_RESTORE, "mask": "box", "selected_faces": ["detect", 0]}
    return restore_prompt("nine.png", **restore) | {
        "detect": node("CodeFormerDetectFaces", image=image or ["photo", 0], **DETECT)
    }


@pytest.fixture(autouse=True)
def nine(editor: Editor) -> None:
    """The group photo lies in the server's folder."""
    editor.server.put_picture("nine.png", Image.open(GROUP).convert("RGB"))


def changed_places(editor: Editor, outputs: dict[str, Any]) -> np.ndarray:
    """Where the last run changed the picture, boolean (H, W)."""
    folder = editor.server.base / "output"
    before, after = (
        np.asarray(Image.open(folder / outputs[name]["images"][0]["filename"])) for name in ("before", "after")
    )
    return (before != after).any(-1)


def boxes_of(outputs: dict[str, Any]) -> list[list[float]]:
    return [face["box"] for face in outputs["detect"]["codeformer_faces"][0]["pictures"][0]["faces"]]


def share_inside(changed: np.ndarray, box: list[float]) -> float:
    height, width = changed.shape
    left, top, right, bottom = (round(v * s) for v, s in zip(box, (width, height, width, height), strict=True))
    return float(changed[max(top, 0) : bottom, max(left, 0) : right].mean())


def template() -> dict[str, Any]:
    """The template "Pick the faces to restore", with our photo."""
    workflow = load_workflow(REPOSITORY / "example_workflows" / "Pick the faces to restore.json")
    (photo,) = [entry for entry in workflow["nodes"] if entry["type"] == "LoadImage"]
    photo["widgets_values"][0] = "nine.png"
    return workflow


def run_template(editor: Editor) -> tuple[list[list[float]], np.ndarray]:
    """The boxes of the faces found, and where Face Restore changed the picture, boolean (H, W)."""
    outputs = editor.run()
    (faces,) = [output["codeformer_faces"][0] for output in outputs.values() if "codeformer_faces" in output]
    (compare,) = [output["codeformer_compare"][0] for output in outputs.values() if "codeformer_compare" in output]
    before, after = (
        np.asarray(Image.open(editor.server.base / "temp" / compare["pairs"][0][name]["filename"]))
        for name in ("before", "after")
    )
    return [face["box"] for face in faces["pictures"][0]["faces"]], (before != after).any(-1)


def test_the_template_restores_only_the_picked_faces_also_after_a_reload(editor: Editor):
    editor.load_workflow(template())
    # The small network paints no faces: what it makes is pasted as it is.
    for name, value in AS_IT_IS.items():
        editor.set_widget("CodeFormerFaceRestore", name, value)
    assert "Run the workflow" in editor.page.locator(".codeformer-picker").inner_text()
    boxes, _ = run_template(editor)
    assert len(boxes) == 9 and editor.faces().count() == 9
    assert all(pressed == "true" for pressed in editor.faces().evaluate_all(PRESSED))

    editor.show("CodeFormerDetectFaces")
    editor.page.locator(".codeformer-picker button", has_text="none").click()
    for number in (2, 7):
        editor.page.locator(f'.codeformer-face[data-number="{number}"]').click()
    assert "2 of 9 faces kept" in editor.page.locator(".codeformer-picker").inner_text()
    picked = json.loads(editor.widget("CodeFormerDetectFaces", "picked"))
    assert picked == {"1": [boxes[1], boxes[6]]}
    editor.keep_screenshot("face_picker")

    _, changed = run_template(editor)
    shares = [share_inside(changed, box) for box in boxes]
    assert [number for number, share in enumerate(shares, 1) if share > 0.5] == [2, 7]
    assert all(share < 0.2 for number, share in enumerate(shares, 1) if number not in (2, 7))

    workflow = editor.saved()
    editor.open()
    editor.load_workflow(workflow)
    assert json.loads(editor.widget("CodeFormerDetectFaces", "picked")) == picked
    _, again = run_template(editor)
    assert np.array_equal(again, changed)
    kept = editor.faces().evaluate_all(PRESSED)
    assert [number for number, pressed in enumerate(kept, 1) if pressed == "true"] == [2, 7]


def test_from_the_keyboard_and_zoomed_out(editor: Editor):
    editor.load(picking_prompt())
    editor.run()
    editor.zoom(0.6)
    editor.show("CodeFormerDetectFaces")
    editor.faces().first.focus()
    editor.page.keyboard.press("Space")
    assert editor.faces().first.get_attribute("aria-pressed") == "false"
    editor.page.keyboard.press("Tab")
    editor.page.keyboard.press("Enter")
    assert editor.faces().nth(1).get_attribute("aria-pressed") == "false"
    assert len(json.loads(editor.widget("CodeFormerDetectFaces", "picked"))["1"]) == 7
    editor.page.locator(".codeformer-picker button", has_text="all").click()
    assert editor.widget("CodeFormerDetectFaces", "picked") == ""


def test_each_picture_of_a_batch_has_its_own_choice(editor: Editor):
    prompt = picking_prompt(["both", 0])
    prompt["other"] = node("LoadImage", image="nine.png")
    prompt["flipped"] = node(
        "ImageScale", image=["other", 0], upscale_method="bilinear", width=640, height=480, crop="disabled"
    )
    prompt["same"] = node(
        "ImageScale", image=["photo", 0], upscale_method="bilinear", width=640, height=480, crop="disabled"
    )
    prompt["both"] = node("ImageBatch", image1=["same", 0], image2=["flipped", 0])
    prompt["restore"]["inputs"]["image"] = ["both", 0]
    prompt["before"]["inputs"]["images"] = ["both", 0]
    editor.load(prompt)
    editor.run()
    editor.show("CodeFormerDetectFaces")
    picker = editor.page.locator(".codeformer-picker")
    picker.get_by_role("button", name="Next picture").click()
    assert "2 / 2" in picker.inner_text()
    editor.faces().first.click()
    assert list(json.loads(editor.widget("CodeFormerDetectFaces", "picked"))) == ["2"]
    picker.get_by_role("button", name="Previous picture").click()
    assert all(pressed == "true" for pressed in editor.faces().evaluate_all(PRESSED))


def test_another_picture_keeps_all_faces_and_says_so(editor: Editor):
    prompt = picking_prompt()
    editor.load({name: prompt[name] for name in ("photo", "detect")})
    editor.set_widget("CodeFormerDetectFaces", "picked", json.dumps({"1": [[0.0, 0.0, 0.01, 0.01]]}))
    (said,) = editor.run()["detect"]["codeformer_faces"]
    assert said["changed"] == [1] and all(face["kept"] for face in said["pictures"][0]["faces"])
    toast = editor.page.locator(".p-toast")
    toast.get_by_text("Picture 1 has changed since its faces were picked").wait_for(timeout=5000)


def test_in_chinese(editor: Editor):
    editor.open({"Comfy.Locale": "zh"})
    try:
        editor.load(picking_prompt())
        editor.run()
        assert "保留 9 / 9 张人脸" in editor.page.locator(".codeformer-picker").inner_text()
    finally:
        editor.server.post("/settings", {"Comfy.Locale": "en"})


def test_picking_in_select_faces(editor: Editor):
    prompt = picking_prompt()
    prompt["select"] = node(
        "CodeFormerSelectFaces",
        faces=["detect", 0],
        image=["photo", 0],
        numbers="",
        order="as found",
        keep=0,
        confidence=0.0,
        smallest_face=0.0,
        largest_turn=90.0,
        picked="",
    )
    prompt["restore"]["inputs"]["selected_faces"] = ["select", 0]
    editor.load(prompt)
    boxes = boxes_of(editor.run())
    editor.show("CodeFormerSelectFaces")
    select = editor.page.locator('[data-node-type="CodeFormerSelectFaces"]')
    select.get_by_role("button", name="none").click()
    select.locator('.codeformer-face[data-number="4"]').click()
    changed = changed_places(editor, editor.run())
    assert [number for number, box in enumerate(boxes, 1) if share_inside(changed, box) > 0.5] == [4]


def test_in_nodes_2(editor: Editor):
    """The newest frontend can draw nodes as HTML instead of on a canvas."""
    if editor.server.host.version.startswith("0.3."):
        pytest.skip(f"the frontend of ComfyUI {editor.server.host.version} has Nodes 2.0 only as an experiment")
    editor.open({NODES_2: True})
    try:
        editor.load(picking_prompt())
        editor.run()
        editor.show("CodeFormerDetectFaces")
        editor.keep_screenshot("nodes_2")
        editor.faces().nth(4).click()
        assert editor.faces().nth(4).get_attribute("aria-pressed") == "false"
        assert len(json.loads(editor.widget("CodeFormerDetectFaces", "picked"))["1"]) == 8
        assert not editor.page.get_by_text("picked", exact=True).count(), "the picker's own widget stays out of sight"
    finally:
        editor.server.post("/settings", {NODES_2: False})
