"""What users do to a node with a view beside what it is for: undo, copy, two of a kind, odd places, no result."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Route, expect

from tests.nodes.prompts import node
from tests.nodes.server import Prompt

from .editor import RUN_SECONDS, Editor
from .test_face_picker import DETECT, GROUP, PRESSED

pytestmark = pytest.mark.slow

KIND = "CodeFormerDetectFaces"


def detecting(**changes: Any) -> Prompt:
    return {"1": node("LoadImage", image="nine.png"), "2": node(KIND, image=["1", 0], **{**DETECT, **changes})}


@pytest.fixture(autouse=True)
def nine(editor: Editor) -> None:
    """The group photo lies in the server's folder."""
    editor.server.put_picture("nine.png", Image.open(GROUP).convert("RGB"))


def load(editor: Editor, prompt: Prompt) -> None:
    """As a workflow that was opened, so that the editor's undo knows it."""
    editor.load(prompt)
    editor.load_workflow(editor.saved())
    editor.page.wait_for_timeout(500)


def pressed(editor: Editor) -> list[int]:
    """Numbers of the faces that are kept."""
    return [number for number, state in enumerate(editor.faces().evaluate_all(PRESSED), 1) if state == "true"]


def picked(editor: Editor) -> dict[str, Any]:
    return json.loads(editor.widget(KIND, "picked") or "{}")


def test_undo_and_redo_show_the_choice_they_bring_back(editor: Editor):
    load(editor, detecting())
    editor.run()
    editor.show(KIND)
    for number in (3, 5):
        editor.page.locator(f'.codeformer-face[data-number="{number}"]').click()
        editor.page.wait_for_timeout(500)
    assert pressed(editor) == [1, 2, 4, 6, 7, 8, 9]

    editor.page.keyboard.press("Control+z")
    editor.page.wait_for_timeout(1500)
    assert len(picked(editor)["1"]) == 8 and pressed(editor) == [1, 2, 4, 5, 6, 7, 8, 9]

    editor.page.keyboard.press("Control+y")
    editor.page.wait_for_timeout(1500)
    assert len(picked(editor)["1"]) == 7 and pressed(editor) == [1, 2, 4, 6, 7, 8, 9]


@pytest.mark.parametrize("answered", ["before the result", "after the result"])
def test_on_the_way_back_from_another_tab_the_faces_are_there(editor: Editor, answered: str):
    """Also where the server has the result so soon that it comes before the answer to the queueing."""
    if answered == "after the result":
        answer_after_the_result(editor)
    load(editor, detecting())
    editor.run()
    expect(editor.faces()).to_have_count(9)
    editor.show(KIND)
    editor.faces().first.click()
    assert pressed(editor) == list(range(2, 10))
    command = "async name => await window.app.extensionManager.command.execute(name)"
    editor.page.evaluate(command, "Comfy.NewBlankWorkflow")
    expect(editor.page.locator(".codeformer-picker")).to_have_count(0)
    editor.page.evaluate(command, "Workspace.PreviousOpenedWorkflow")
    expect(editor.faces()).to_have_count(9)
    assert pressed(editor) == list(range(2, 10))


def answer_after_the_result(editor: Editor) -> None:
    """Holds back the server's answers to the queueing until the run has ended."""

    def hold_back(route: Route) -> None:
        answer = route.fetch()
        editor.server.wait(answer.json()["prompt_id"])
        time.sleep(0.5)  # the result is on its way to the page
        route.fulfill(response=answer)

    editor.page.route(
        "**/prompt", lambda route: hold_back(route) if route.request.method == "POST" else route.continue_()
    )


def test_a_copied_node_keeps_the_choice_and_goes_its_own_way(editor: Editor):
    load(editor, detecting())
    editor.run()
    editor.show(KIND)
    editor.faces().first.click()
    before = editor.widget(KIND, "picked")
    editor.page.evaluate(
        "kind => { const canvas = window.app.canvas;"
        " canvas.selectNode(window.app.graph.nodes.find(n => n.comfyClass === kind));"
        " canvas.copyToClipboard(); canvas.pasteFromClipboard({ connectInputs: true }); }",
        KIND,
    )
    editor.page.wait_for_timeout(500)
    views = editor.page.locator(".codeformer-picker")
    assert views.count() == 2 and "Faces were picked" in views.nth(1).inner_text()

    editor.run()
    assert views.nth(1).locator(".codeformer-face").count() == 9
    values = "kind => window.app.graph.nodes.filter(n => n.comfyClass === kind)"
    values += ".map(n => n.widgets.find(w => w.name === 'picked').value)"
    assert editor.page.evaluate(values, KIND) == [before, before]
    # By the keyboard: the copy lies over the original.
    views.nth(1).locator(".codeformer-face").nth(1).press("Enter")
    original, copy = editor.page.evaluate(values, KIND)
    assert original == before and len(json.loads(copy)["1"]) == 7
    assert views.nth(0).locator(".codeformer-face").nth(1).get_attribute("aria-pressed") == "true"


def test_a_small_face_behind_a_larger_box_can_be_pressed(editor: Editor):
    load(editor, detecting())
    editor.run()
    editor.page.evaluate(
        """kind => {
            const node = window.app.graph.nodes.find(n => n.comfyClass === kind);
            const said = structuredClone(window.app.nodeOutputs[node.id]);
            const [picture] = said.codeformer_faces[0].pictures;
            const [small, large] = picture.faces;
            small.box = [0.4, 0.4, 0.6, 0.6];
            large.box = [0.1, 0.1, 0.9, 0.9];
            picture.faces = [small, large];
            node.onExecuted(said);
        }""",
        KIND,
    )
    editor.show(KIND)
    editor.faces().first.click(timeout=3000)
    assert pressed(editor) == [2]


def test_keys_of_the_editor_work_from_within_the_view(editor: Editor):
    load(editor, detecting())
    editor.run()
    editor.show(KIND)
    editor.faces().first.click()
    before = set(editor.server.get("/history"))
    editor.page.keyboard.press("Control+Enter")
    until = time.monotonic() + RUN_SECONDS
    while not set(editor.server.get("/history")) > before:
        assert time.monotonic() < until, "Ctrl+Enter runs the workflow"
        editor.page.wait_for_timeout(100)
    editor.faces().first.focus()
    editor.page.keyboard.press("Delete")
    editor.page.wait_for_timeout(300)
    assert editor.page.locator(".codeformer-picker").count() == 1, "Delete is for the view, not for the node"


def test_the_middle_button_moves_the_canvas_also_from_the_view(editor: Editor):
    load(editor, detecting())
    editor.run()
    editor.show(KIND)
    offset = "() => [...window.app.canvas.ds.offset]"
    before = editor.page.evaluate(offset)
    box = editor.faces().first.bounding_box()
    assert box
    editor.page.mouse.move(box["x"] + 5, box["y"] + 5)
    editor.page.mouse.down(button="middle")
    editor.page.mouse.move(box["x"] + 125, box["y"] + 65, steps=5)
    editor.page.mouse.up(button="middle")
    after = editor.page.evaluate(offset)
    assert after[0] - before[0] > 50 and after[1] - before[1] > 25


def test_the_wheel_zooms_the_canvas_also_from_the_view(editor: Editor):
    load(editor, detecting())
    editor.run()
    editor.show(KIND)
    scale = "() => window.app.canvas.ds.scale"
    before = editor.page.evaluate(scale)
    editor.faces().first.hover()
    editor.page.mouse.wheel(0, -300)
    editor.page.wait_for_timeout(300)
    assert editor.page.evaluate(scale) > before


def test_the_frame_keeps_to_the_view_for_a_very_long_picture(editor: Editor):
    prompt = detecting()
    prompt["3"] = node("ImageScale", image=["1", 0], upscale_method="area", width=64, height=4000, crop="disabled")
    prompt["2"]["inputs"]["image"] = ["3", 0]
    load(editor, prompt)
    editor.run()
    editor.show(KIND)
    stage = editor.page.locator(".codeformer-stage").bounding_box()
    frame = editor.page.locator(".codeformer-frame").bounding_box()
    assert stage and frame
    assert frame["height"] <= stage["height"] + 1 and frame["width"] == pytest.approx(
        frame["height"] * 64 / 4000, abs=1
    )
    assert "No face in this picture." in editor.page.locator(".codeformer-picker").inner_text()


@pytest.mark.parametrize("value", ["{", "[]", "3", "null", '{"1": 5}', '{"1": [[0, 0, 1, 1]], "x": []}'])
def test_a_choice_that_nobody_made_does_not_break_the_view(editor: Editor, value: str):
    load(editor, detecting())
    editor.run()
    editor.set_widget(KIND, "picked", value)
    editor.load_workflow(editor.saved())
    editor.page.wait_for_timeout(1500)
    assert editor.page.locator(".codeformer-picker").count() == 1
    editor.set_widget(KIND, "picked", "")
    editor.run()
    assert pressed(editor) == list(range(1, 10))
