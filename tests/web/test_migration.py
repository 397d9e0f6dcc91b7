"""A workflow that was saved with another pack's nodes opens, is replaced by the editor, and runs."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import expect

from .editor import Editor
from .test_face_picker import NODES_2

pytestmark = pytest.mark.slow

RESTORE = "CodeFormerFaceRestore"


def saved(
    kind: str, number: int, inputs: dict[str, int], output: tuple[str, list[int]], *widgets: Any
) -> dict[str, Any]:
    """A node of a workflow. inputs: name -> link; output: its type, and its links."""
    return {
        "id": number,
        "type": kind,
        "pos": [400 * number, 100],
        "size": [320, 200],
        "flags": {},
        "order": number,
        "mode": 0,
        "inputs": [{"name": name, "type": name.upper(), "link": link} for name, link in inputs.items()],
        "outputs": [{"name": output[0], "type": output[0], "links": output[1]}] if output[0] else [],
        "properties": {"Node name for S&R": kind},
        "widgets_values": list(widgets),
    }


# As facerestore_cf's users have it, but for their own title of a node.
FACERESTORE_CF = {
    "last_node_id": 4,
    "last_link_id": 3,
    "nodes": [
        saved("LoadImage", 1, {}, ("IMAGE", [1]), "portrait.png", "image"),
        saved("FaceRestoreModelLoader", 2, {}, ("FACERESTORE_MODEL", [2]), "my_faces.pth"),
        saved(
            "FaceRestoreCFWithModel",
            3,
            {"facerestore_model": 2, "image": 1},
            ("IMAGE", [3]),
            "retinaface_resnet50",
            0.35,
        )
        | {"title": "Grandmother"},
        saved("SaveImage", 4, {"images": 3}, ("", []), "replaced"),
    ],
    "links": [[1, 1, 0, 3, 1, "IMAGE"], [2, 2, 0, 3, 0, "FACERESTORE_MODEL"], [3, 3, 0, 4, 0, "IMAGE"]],
    "groups": [],
    "config": {},
    "extra": {},
    "version": 0.4,
}


def links(editor: Editor) -> set[tuple[Any, ...]]:
    """(from, output, to, input) of all links, by the nodes' ids and the inputs' names."""
    nodes = {node["id"]: node for node in editor.saved()["nodes"]}
    return {
        (source, slot, target, nodes[target]["inputs"][place]["name"])
        for _, source, slot, target, place, *_ in editor.saved()["links"]
    }


@pytest.mark.parametrize("as_html", [False, True], ids=["classic", "Nodes 2.0"])
def test_a_workflow_of_facerestore_cf(editor: Editor, as_html: bool):
    if editor.server.host.version.startswith("0.3."):
        pytest.skip(f"the frontend of ComfyUI {editor.server.host.version} replaces no nodes")
    editor.open({NODES_2: as_html})
    editor.load_workflow(FACERESTORE_CF)
    editor.page.get_by_role("button", name="View details").click()
    editor.page.get_by_role("button", name="Replace All").click()
    editor.page.wait_for_timeout(500)

    assert editor.widget("CodeFormerLoadModel", "model") == "my_faces.pth"
    assert editor.widget(RESTORE, "fidelity") == 0.35
    kept = {(1, 0, 3, "image"), (2, 0, 3, "face_restore_model"), (3, 0, 4, "images")}
    assert links(editor) == kept
    outputs = editor.run()
    assert outputs["4"]["images"]
    view = editor.page.locator(".codeformer-compare:visible")
    expect(view.locator("img")).to_have_count(2)

    again = editor.saved()
    assert [node["title"] for node in again["nodes"] if node["type"] == RESTORE] == ["Grandmother"]
    editor.load_workflow(again)
    assert links(editor) == kept and editor.widget(RESTORE, "fidelity") == 0.35
    editor.server.post("/settings", {NODES_2: False})
