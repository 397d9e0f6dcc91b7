"""Undo, tabs, subgraphs and the editor's own "Replace Node" make nodes anew: each view goes on as that of its node.

In both ways in which the editor draws nodes: on a canvas, and as HTML (Nodes 2.0).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.nodes.prompts import node, restore_prompt

from .editor import Editor
from .test_face_picker import GROUP, NODES_2, PRESSED, boxes_of
from .test_hostile_user import KIND, detecting, load, picked

pytestmark = pytest.mark.slow

CLASSIC, AS_HTML = "classic", "Nodes 2.0"
# The editor leaves views of subgraphs that are gone in the page, hidden.
FACES, PICKER = ".codeformer-face:visible", ".codeformer-picker:visible"
COMMAND = "async name => await window.app.extensionManager.command.execute(name)"
NINE = list(range(1, 10))
# A node of this name was in a pack that is gone; the host is told what takes its place.
OLD = "FacesOfAPackThatIsGone"
INPUTS = ("image", "detector", "confidence", "smallest_face", "largest_face", "merge_duplicates", "picked")
REPLACEMENTS = {
    OLD: [
        {
            "old_node_id": OLD,
            "new_node_id": KIND,
            "old_widget_ids": list(INPUTS[1:]),
            "input_mapping": [{"old_id": name, "new_id": name} for name in INPUTS],
            "output_mapping": [{"old_idx": 0, "new_idx": 0}],
        }
    ]
}


@pytest.fixture(autouse=True, params=[CLASSIC, AS_HTML])
def drawn(editor: Editor, request: pytest.FixtureRequest) -> Iterator[str]:
    """How the editor draws the nodes. The group photo lies in the server's folder."""
    if request.param == AS_HTML and editor.server.host.version.startswith("0.3."):
        pytest.skip(f"the frontend of ComfyUI {editor.server.host.version} has Nodes 2.0 only as an experiment")
    editor.server.put_picture("nine.png", Image.open(GROUP).convert("RGB"))
    editor.open({NODES_2: request.param == AS_HTML})
    yield request.param
    editor.server.post("/settings", {NODES_2: False})


def move(editor: Editor, kind: str) -> None:
    """A change that has nothing to do with our nodes, for undo to take back."""
    editor.page.evaluate(
        """kind => {
            const { canvas } = window.app;
            const node = canvas.graph.nodes.find(n => n.type === kind);
            canvas.emitBeforeChange();
            node.pos = [node.pos[0] - 40, node.pos[1]];
            canvas.emitAfterChange();
        }""",
        kind,
    )
    editor.page.wait_for_timeout(500)


def undo(editor: Editor) -> None:
    editor.page.keyboard.press("Control+z")
    editor.page.wait_for_timeout(1500)


def press_face(editor: Editor, number: int) -> None:
    editor.page.locator(f'{FACES}[data-number="{number}"]').click()


def pressed(editor: Editor) -> list[int]:
    """Numbers of the faces that are kept, as they are on screen."""
    states = editor.page.locator(FACES).evaluate_all(PRESSED)
    return [number for number, state in enumerate(states, 1) if state == "true"]


def enter_subgraph(editor: Editor) -> None:
    editor.page.evaluate(
        """() => {
            const { canvas, graph } = window.app;
            const node = graph.nodes.find(n => n.isSubgraphNode?.());
            canvas.openSubgraph(node.subgraph, node);
        }"""
    )
    editor.page.wait_for_timeout(1000)


def leave_subgraph(editor: Editor) -> None:
    editor.page.evaluate("() => window.app.canvas.setGraph(window.app.rootGraph ?? window.app.graph)")
    editor.page.wait_for_timeout(1000)


def picked_here(editor: Editor) -> dict[str, Any]:
    """The choice in the graph that the window shows, which may be a subgraph."""
    value = editor.page.evaluate(
        "kind => window.app.canvas.graph.nodes.find(n => n.comfyClass === kind)"
        ".widgets.find(w => w.name === 'picked').value",
        KIND,
    )
    return json.loads(value or "{}")


def kept_by_the_run(outputs: dict[str, Any]) -> list[int]:
    """Numbers of the faces that the server kept."""
    (said,) = [output["codeformer_faces"][0] for output in outputs.values() if "codeformer_faces" in output]
    return [face["number"] for face in said["pictures"][0]["faces"] if face["kept"]]


def test_picks_after_undo_of_something_else(editor: Editor):
    load(editor, detecting())
    boxes = boxes_of({"detect": editor.run()["2"]})
    editor.show(KIND)
    for number in (3, 5):
        move(editor, "LoadImage")
        undo(editor)
        press_face(editor, number)
        editor.page.wait_for_timeout(500)
    assert picked(editor) == {"1": [box for place, box in enumerate(boxes, 1) if place not in (3, 5)]}
    assert kept_by_the_run(editor.run()) == pressed(editor) == [1, 2, 4, 6, 7, 8, 9]
    undo(editor)
    assert len(picked(editor)["1"]) == 8 and pressed(editor) == [1, 2, 4, 5, 6, 7, 8, 9]


def test_before_and_after_follow_the_next_run_after_undo(editor: Editor):
    prompt = restore_prompt("portrait.png")
    load(editor, {name: prompt[name] for name in ("photo", "loader", "restore", "after")})
    pictures = editor.page.locator(".codeformer-compare img")
    sources = "images => images.map(image => image.src)"
    editor.run()
    move(editor, "LoadImage")
    undo(editor)
    expect(pictures).to_have_count(2)
    first = pictures.evaluate_all(sources)
    editor.set_widget("CodeFormerFaceRestore", "fidelity", 0.9)
    editor.run()
    assert set(pictures.evaluate_all(sources)).isdisjoint(first)


def test_two_tabs_of_one_workflow_go_their_own_ways(editor: Editor):
    """Their nodes have the same ids."""
    load(editor, detecting())
    editor.run()
    workflow = editor.saved()
    editor.show(KIND)
    press_face(editor, 2)
    editor.page.evaluate(
        "async workflow => await window.app.loadGraphData(workflow, true, true, 'the same again')", workflow
    )
    editor.page.wait_for_timeout(1000)
    editor.run()
    editor.show(KIND)
    assert pressed(editor) == NINE
    press_face(editor, 7)
    editor.page.evaluate(COMMAND, "Workspace.PreviousOpenedWorkflow")
    expect(editor.page.locator(FACES)).to_have_count(9)
    editor.page.wait_for_timeout(1000)
    assert pressed(editor) == [1, 3, 4, 5, 6, 7, 8, 9]
    editor.show(KIND)
    press_face(editor, 3)
    assert len(picked(editor)["1"]) == 7
    editor.page.evaluate(COMMAND, "Workspace.NextOpenedWorkflow")
    expect(editor.page.locator(FACES)).to_have_count(9)
    editor.page.wait_for_timeout(1000)
    assert pressed(editor) == [1, 2, 3, 4, 5, 6, 8, 9] and len(picked(editor)["1"]) == 8


def test_picks_in_a_subgraph(editor: Editor):
    load(editor, detecting() | {"3": node("PreviewAny", source=["2", 4])})
    editor.page.evaluate(
        """kind => {
            const { canvas, graph } = window.app;
            const node = graph.nodes.find(n => n.comfyClass === kind);
            canvas.deselectAll();
            canvas.select(node);
            graph.convertToSubgraph(new Set([node]));
        }""",
        KIND,
    )
    enter_subgraph(editor)
    editor.run()
    press_face(editor, 4)
    for _ in range(2):
        move(editor, KIND)
        undo(editor)
    assert pressed(editor) == [1, 2, 3, 5, 6, 7, 8, 9], "undo leaves the faces on screen, also in a subgraph"
    press_face(editor, 6)
    assert len(picked_here(editor)["1"]) == 7
    leave_subgraph(editor)
    move(editor, "LoadImage")
    undo(editor)
    enter_subgraph(editor)
    assert pressed(editor) == [1, 2, 3, 5, 7, 8, 9]
    for command in ("Workspace.PreviousOpenedWorkflow", "Workspace.NextOpenedWorkflow"):
        editor.page.evaluate(COMMAND, command)
        editor.page.wait_for_timeout(1500)
    # On the way back the editor may show another part of the graph.
    editor.show(KIND)
    assert pressed(editor) == [1, 2, 3, 5, 7, 8, 9]
    leave_subgraph(editor)
    enter_subgraph(editor)
    editor.show(KIND)
    assert pressed(editor) == [1, 2, 3, 5, 7, 8, 9]
    press_face(editor, 9)
    assert len(picked_here(editor)["1"]) == 6
    assert kept_by_the_run(editor.run()) == [1, 2, 3, 5, 7, 8]


def test_the_editors_own_replace_node(editor: Editor):
    if editor.server.host.version.startswith("0.3."):
        pytest.skip(f"the frontend of ComfyUI {editor.server.host.version} replaces no nodes")
    editor.page.route("**/node_replacements", lambda route: route.fulfill(json=REPLACEMENTS))
    editor.open()
    editor.load(detecting())
    workflow = editor.saved()
    (ours,) = [entry for entry in workflow["nodes"] if entry["type"] == KIND]
    ours |= {"type": OLD, "properties": {}, "size": [300, 200]}
    editor.load_workflow(workflow)
    editor.page.get_by_role("button", name="View details").click()
    editor.page.get_by_role("button", name="Replace Node").click()
    view = editor.page.locator(PICKER)
    expect(view).to_be_visible()
    assert "Run the workflow" in view.inner_text()
    editor.run()
    editor.show(KIND)
    press_face(editor, 1)
    move(editor, "LoadImage")
    undo(editor)
    press_face(editor, 2)
    assert len(picked(editor)["1"]) == 7
    assert kept_by_the_run(editor.run()) == pressed(editor) == [3, 4, 5, 6, 7, 8, 9]


def test_switching_how_nodes_are_drawn(editor: Editor, drawn: str):
    if editor.server.host.version.startswith("0.3."):
        pytest.skip(f"the frontend of ComfyUI {editor.server.host.version} has Nodes 2.0 only as an experiment")
    load(editor, detecting())
    editor.run()
    for number, as_html in ((1, drawn == CLASSIC), (2, drawn == AS_HTML)):
        editor.page.evaluate(
            "async ([id, on]) => await window.app.extensionManager.setting.set(id, on)", [NODES_2, as_html]
        )
        editor.page.wait_for_timeout(1500)
        editor.show(KIND)
        press_face(editor, number)
        assert len(picked(editor)["1"]) == 9 - number
