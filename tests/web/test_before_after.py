"""Before and after in the nodes that restore: wiping, zooming, from face to face, from picture to picture."""

from __future__ import annotations

from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Locator, expect

from tests.nodes.prompts import node, restore_prompt

from .editor import Editor
from .test_face_picker import GROUP

ZOOM = "frame => Number(frame.style.getPropertyValue('--zoom'))"
SHARE = "frame => frame.style.getPropertyValue('--share')"
RESTORE = "CodeFormerFaceRestore"
NEXT_FACE = "Next face, from the largest on"


def frame_of(editor: Editor) -> Locator:
    return editor.page.locator(".codeformer-compare .codeformer-frame")


def alone(prompt: dict[str, Any]) -> dict[str, Any]:
    """Without the nodes that take the result apart."""
    return {name: prompt[name] for name in prompt if name in ("photo", "loader", "restore", "after")}


def test_before_and_after_appear_in_the_node(editor: Editor):
    editor.load(restore_prompt("portrait.png"))
    view = editor.page.locator(".codeformer-compare")
    assert view.inner_text().startswith("Run the workflow")
    outputs = editor.run()
    (said,) = outputs["restore"]["codeformer_compare"]
    assert said["total"] == 1 and len(said["pairs"]) == 1
    editor.show(RESTORE)
    pictures = view.locator("img")
    assert pictures.count() == 2
    assert pictures.evaluate_all("images => images.map(image => image.naturalWidth)") == [512, 512]
    assert len(set(pictures.evaluate_all("images => images.map(image => image.src)"))) == 2
    assert view.locator(".codeformer-tag").all_inner_texts() == ["before", "after"]
    assert view.locator("summary").inner_text() == said["report"].splitlines()[0], "totals first"


def test_the_slider_wipes_from_the_keyboard(editor: Editor):
    editor.load(restore_prompt("portrait.png"))
    editor.run()
    editor.show(RESTORE)
    editor.page.locator(".codeformer-wipe").focus()
    editor.page.keyboard.press("ArrowLeft")
    assert frame_of(editor).evaluate(SHARE) == "49%"
    assert "inset" in editor.page.locator(".codeformer-after").evaluate("image => getComputedStyle(image).clipPath")


@pytest.mark.slow
def test_from_face_to_face_by_keyboard_and_pointer(editor: Editor):
    editor.server.put_picture("three.png", Image.open(GROUP).convert("RGB").crop((0, 0, 1536, 512)))
    # What random weights paint is judged, and left or faded: the reasons are told.
    prompt = alone(restore_prompt("three.png", when_worse="fade", mask="box"))
    prompt["loader"]["inputs"]["detector"] = "yunet"
    editor.load(prompt)
    (said,) = editor.run()["restore"]["codeformer_compare"]
    faces = said["pairs"][0]["faces"]
    areas = [(right - left) * (bottom - top) for left, top, right, bottom in (face["box"] for face in faces)]
    assert len(faces) == 3 and areas == sorted(areas, reverse=True)
    assert all(face["reason"] if face["state"] == "left" else face["sharpness"] > 0 for face in faces)
    assert all("patch" in face for face in faces), "the picture is larger than its copy"

    editor.show(RESTORE)
    view, frame = editor.page.locator(".codeformer-compare"), frame_of(editor)
    for number in (1, 2):
        view.get_by_role("button", name=NEXT_FACE).press("Enter")
        assert f"Face {number} of 3" in view.inner_text() and frame.evaluate(ZOOM) > 1
        expect(view.locator(".codeformer-facts")).to_contain_text(faces[number - 1].get("reason", "sharpness"))
    editor.keep_screenshot("face_by_face")
    view.locator(".codeformer-wipe").focus()
    editor.page.keyboard.press("PageUp")
    assert "Face 1 of 3" in view.inner_text()
    editor.page.keyboard.press("0")
    assert frame.evaluate(ZOOM) == 1 and "Faces: 3" in view.inner_text()
    editor.page.keyboard.press("+")
    assert frame.evaluate(ZOOM) > 1
    editor.page.keyboard.press("0")

    # A press on a face shows it large; then the picture is dragged, and the line stays.
    box = frame.bounding_box()
    assert box
    left, top, right, bottom = faces[2]["box"]
    x, y = box["x"] + (left + right) / 2 * box["width"], box["y"] + (top + bottom) / 2 * box["height"]
    editor.page.mouse.click(x, y)
    assert "Face 3 of 3" in view.inner_text()
    middle = "frame => frame.style.getPropertyValue('--zoom-x')"
    before, share = frame.evaluate(middle), frame.evaluate(SHARE)
    editor.page.mouse.move(box["x"] + 0.9 * box["width"], y)
    editor.page.mouse.down()
    editor.page.mouse.move(box["x"] + 0.8 * box["width"], y, steps=4)
    editor.page.mouse.up()
    assert frame.evaluate(middle) != before and frame.evaluate(SHARE) == share
    zoom = frame.evaluate(ZOOM)
    scale = editor.page.evaluate("() => window.app.canvas.ds.scale")
    editor.page.mouse.wheel(0, -200)
    editor.page.wait_for_timeout(300)
    assert frame.evaluate(ZOOM) > zoom, "the wheel zooms for who works in the view"
    assert editor.page.evaluate("() => window.app.canvas.ds.scale") == scale


@pytest.mark.slow
def test_a_list_of_pictures_of_different_sizes(editor: Editor):
    """The host runs the node for each of them; the view has them all."""
    prompt = alone(restore_prompt("portrait.png", mask="box"))
    del prompt["after"]
    prompt["group"] = node("LoadImage", image="group.png")
    prompt["both"] = node("ListOfTwo", one=["photo", 0], other=["group", 0])
    prompt["restore"]["inputs"]["image"] = ["both", 0]
    prompt["shown"] = node("PreviewImage", images=["restore", 0])
    editor.load(prompt)
    outputs = editor.run()
    assert len(outputs["restore"]["codeformer_compare"]) == 2 and len(outputs["shown"]["images"]) == 2
    editor.show(RESTORE)
    view = editor.page.locator(".codeformer-compare")
    assert "1 / 2" in view.inner_text()
    wide = "frame => frame.style.aspectRatio"
    assert frame_of(editor).evaluate(wide) == "512 / 512"
    view.locator(".codeformer-frames").press("ArrowRight")
    assert "2 / 2" in view.inner_text() and frame_of(editor).evaluate(wide) == "1024 / 512"
    view.get_by_role("button", name="Previous picture").press("Enter")
    assert "1 / 2" in view.inner_text()


@pytest.mark.slow
def test_a_running_node_shows_what_it_is_at(editor: Editor):
    prompt = restore_prompt("group.png", mask="box")
    editor.load({name: prompt[name] for name in ("photo", "loader", "restore", "after")})
    editor.page.evaluate(
        """() => {
            window.shown = [];
            window.app.api.addEventListener('b_preview_with_metadata', ({ detail }) => {
                window.shown.push([String(detail.displayNodeId ?? detail.nodeId), detail.blob.size]);
            });
        }"""
    )
    editor.run()
    shown = editor.page.evaluate("() => window.shown")
    number = editor.page.evaluate("kind => String(window.app.graph.nodes.find(n => n.comfyClass === kind).id)", RESTORE)
    assert shown and all(node == number and size > 1000 for node, size in shown)
    editor.show(RESTORE)
    assert editor.page.locator(".codeformer-compare .codeformer-frame").is_visible()
    # Afterwards the node's own view is enough.
    editor.page.wait_for_timeout(1500)
    assert not editor.page.evaluate(
        """kind => {
            const node = window.app.graph.nodes.find(n => n.comfyClass === kind);
            return Boolean(node.imgs?.length) || node.widgets.some(w => w.name.includes('preview'));
        }""",
        RESTORE,
    )
    editor.keep_screenshot("after_previews")
