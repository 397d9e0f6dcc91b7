"""Widgets that mean something only in company of others are out of sight without it, and keep their values."""

from __future__ import annotations

import pytest

from tests.nodes.prompts import node, restore_prompt

from .editor import Editor
from .test_face_picker import DETECT, NODES_2

pytestmark = pytest.mark.slow

KIND = "CodeFormerFaceRestore"
HIDDEN = """kind => window.app.graph.nodes.find(n => n.comfyClass === kind).widgets
    .filter(w => w.hidden).map(w => w.name)"""
CHOOSE = """([kind, name, value]) => {
    const node = window.app.graph.nodes.find(n => n.comfyClass === kind);
    const widget = node.widgets.find(w => w.name === name);
    widget.value = value;
    widget.callback(value);
}"""
CONNECT = """([from, slot, kind, name]) => {
    const find = kind => window.app.graph.nodes.find(n => n.comfyClass === kind);
    const node = find(kind);
    find(from).connect(slot, node, node.inputs.findIndex(input => input.name === name));
}"""
UNUSED = {"regions", "person", "person_distance"}
BY_DETECTION = {"confidence", "smallest_face", "largest_face", "faces"}


def hidden(editor: Editor) -> set[str]:
    return set(editor.page.evaluate(HIDDEN, KIND))


@pytest.mark.parametrize("as_html", [False, True], ids=["classic", "Nodes 2.0"])
def test_widgets_come_and_go(editor: Editor, as_html: bool):
    if as_html and editor.server.host.version.startswith("0.3."):
        pytest.skip(f"the frontend of ComfyUI {editor.server.host.version} has Nodes 2.0 only as an experiment")
    editor.open({NODES_2: as_html})
    try:
        prompt = restore_prompt("portrait.png", regions="eyes", confidence=0.3)
        prompt["detect"] = node("CodeFormerDetectFaces", image=["photo", 0], **DETECT)
        editor.load(prompt)
        assert hidden(editor) == UNUSED
        editor.page.evaluate(CHOOSE, [KIND, "mask", "regions"])
        assert hidden(editor) == UNUSED - {"regions"}
        editor.page.evaluate(CONNECT, ["CodeFormerDetectFaces", 0, KIND, "selected_faces"])
        editor.page.evaluate(CONNECT, ["LoadImage", 0, KIND, "reference"])
        assert hidden(editor) == BY_DETECTION
        editor.show(KIND)
        editor.keep_screenshot("meaningful_widgets_" + ("html" if as_html else "classic"))

        # A saved workflow opens with the same values, and the same widgets out of sight.
        workflow = editor.saved()
        editor.open()
        editor.load_workflow(workflow)
        assert hidden(editor) == BY_DETECTION
        assert editor.widget(KIND, "regions") == "eyes" and editor.widget(KIND, "confidence") == pytest.approx(0.3)
    finally:
        editor.server.post("/settings", {NODES_2: False})
