"""The example workflows as they open in the editor: nothing missing, nothing behind anything, large enough to read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.nodes.server import REPOSITORY

from .editor import Editor
from .test_face_picker import NODES_2

pytestmark = pytest.mark.slow

# Apps are the same graphs, see test_apps_and_blueprints.
WORKFLOWS = {
    path.stem: path
    for path in sorted((REPOSITORY / "example_workflows").glob("*.json"))
    if not path.name.endswith(".app.json")
}
GENERATED = "Restore the faces of a generated image"
# Its upscaler is bypassed; editors before 2026 offer to fetch the model all the same.
BYPASSED = "Restore faces and upscale"
# What the host sizes itself, and otherwise with its nodes drawn as HTML than on a canvas.
SIZED_BY_THE_HOST = "SaveVideo"
# Texts of 14 pixels that would be shown with fewer than 8 are not drawn by the editor.
WINDOW, SMALLEST_ZOOM = {"width": 1600, "height": 1000}, 8 / 14
# Of the window, what editors before 2026 fill when they fit a workflow into it; the wheel brings it nearer.
OLD_FILL = 0.75
# What a node is allowed to differ by from its place in the file, in pixels.
ROUNDED = 1

BEHIND = """() => {
    // A link that passes behind a node crosses its border, but for the slots where it begins and ends.
    const { graph } = window.app.canvas;
    const INSET = 3, STEP = 3, SLOT = 22, TITLE = 30;
    const pen = document.createElement('canvas').getContext('2d');
    pen.lineWidth = 2;
    const found = [];
    const links = [...(graph.links.values?.() ?? Object.values(graph.links))];
    const pieces = links.map(link => ({ link, paths: [link.path] }));
    for (const reroute of graph.reroutes?.values() ?? []) {
        for (const piece of pieces) {
            if (reroute.linkIds.has(piece.link.id)) piece.paths.push(reroute.path);
        }
    }
    for (const node of graph.nodes) {
        const [left, top, right, bottom] = [
            node.pos[0] + INSET, node.pos[1] - TITLE + INSET,
            node.pos[0] + node.size[0] - INSET, node.pos[1] + node.size[1] - INSET,
        ];
        const border = [];
        for (let x = left; x <= right; x += STEP) border.push([x, top], [x, bottom]);
        for (let y = top; y <= bottom; y += STEP) border.push([left, y], [right, y]);
        for (const { link, paths } of pieces) {
            if (!link.path) throw new Error('a link was not drawn');
            const ends = [];
            if (String(link.origin_id) === String(node.id)) ends.push(node.getConnectionPos(false, link.origin_slot));
            if (String(link.target_id) === String(node.id)) ends.push(node.getConnectionPos(true, link.target_slot));
            const away = border.filter(([x, y]) => !ends.some(end => Math.hypot(x - end[0], y - end[1]) < SLOT));
            if (away.some(([x, y]) => paths.some(path => path && pen.isPointInStroke(path, x, y)))) {
                const names = [link.origin_id, link.target_id].map(id => graph.getNodeById(id)?.title ?? 'the border');
                found.push(`${names.join(' -> ')} behind ${node.title}`);
            }
        }
    }
    return found;
}"""


def is_old(editor: Editor) -> bool:
    return editor.server.host.version.startswith("0.3.")


@pytest.fixture(params=WORKFLOWS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=[False, True], ids=["classic", "Nodes 2.0"])
def as_html(editor: Editor, request: pytest.FixtureRequest) -> Iterator[bool]:
    """Whether the editor draws nodes as HTML."""
    if request.param and is_old(editor):
        pytest.skip(f"the frontend of ComfyUI {editor.server.host.version} has Nodes 2.0 only as an experiment")
    yield request.param
    editor.server.post("/settings", {NODES_2: False})


@pytest.fixture
def opened(editor: Editor, name: str, as_html: bool) -> dict[str, Any]:
    """The workflow, opened as from the Templates browser, in a server that has not got its photo."""
    for file in (editor.server.base / "input").glob("codeformer_example_*"):
        file.unlink()
    editor.page.set_viewport_size({"width": WINDOW["width"], "height": WINDOW["height"]})
    editor.open({NODES_2: as_html})
    workflow = json.loads(WORKFLOWS[name].read_text(encoding="utf-8"))
    editor.page.evaluate(
        "async ([workflow, name]) => await window.app.loadGraphData(workflow, true, true, name,"
        " { openSource: 'template' })",
        [workflow, name],
    )
    editor.page.wait_for_timeout(2000)
    return workflow


def test_it_opens_complete_and_large_enough_to_read(editor: Editor, opened: dict[str, Any], name: str):
    places = editor.page.evaluate(
        "() => Object.fromEntries(window.app.graph.nodes.map(n => [n.id, [...n.pos, ...n.size].map(Number)]))"
    )
    for node in opened["nodes"]:
        place = [*node["pos"], *node["size"]]
        compared = 3 if node["type"] == SIZED_BY_THE_HOST else 4
        assert places[str(node["id"])][:compared] == pytest.approx(place[:compared], abs=ROUNDED), node["type"]
    assert editor.page.evaluate(BEHIND) == []

    missing = editor.page.get_by_text("missing")
    if name == GENERATED or (name == BYPASSED and is_old(editor)):
        expect(missing.first).to_be_visible()  # what the editor offers to fetch
    else:
        assert missing.all_inner_texts() == []

    editor.page.evaluate("async () => await window.app.extensionManager.command.execute('Comfy.Canvas.FitView')")
    editor.page.wait_for_timeout(1500)
    scale, offset = editor.page.evaluate("() => [window.app.canvas.ds.scale, [...window.app.canvas.ds.offset]]")
    assert scale >= SMALLEST_ZOOM * (OLD_FILL if is_old(editor) else 1)
    for node in opened["nodes"]:
        for start, length, place, window in zip(node["pos"], node["size"], offset, WINDOW.values(), strict=True):
            assert (start + place) * scale >= 0 and (start + length + place) * scale <= window, node["type"]
    editor.keep_screenshot(f"example_{name.replace(' ', '_')}")
