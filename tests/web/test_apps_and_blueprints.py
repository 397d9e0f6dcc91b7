"""The example workflows that are apps, and the ready subgraphs, as the newest hosts offer them: they open and run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.nodes.server import REPOSITORY
from tests.nodes.test_video import put_video
from tests.nodes.workflow import load_workflow

from .editor import Editor
from .test_example_workflows import BEHIND

pytestmark = pytest.mark.slow

APPS = sorted((REPOSITORY / "example_workflows").glob("*.app.json"))
BLUEPRINTS = sorted((REPOSITORY / "subgraphs").glob("*.json"))
NOTHING: dict[str, Any] = {"nodes": [], "links": [], "groups": [], "config": {}, "extra": {}, "version": 0.4}
# What a blueprint's first input is fed with, and what saves its first output: kind of node, input, widgets.
VIDEO = "codeformer_example_video.mp4"
FEEDS = {"IMAGE": ("LoadImage", "portrait.png"), "VIDEO": ("LoadVideo", VIDEO)}
SAVES = {"IMAGE": ("SaveImage", "images"), "VIDEO": ("SaveVideo", "video")}
PLACE = (700, 500)

CONNECT = """([feed, file, save, into]) => {
    const { graph } = window.app;
    const made = graph.nodes.find(node => node.isSubgraphNode());
    const [first, last] = [feed, save].map(kind => window.LiteGraph.createNode(kind));
    graph.add(first);
    graph.add(last);
    first.widgets[0].value = file;
    first.connect(0, made, 0);
    made.connect(0, last, last.inputs.findIndex(input => input.name === into));
}"""
IS_DOWN = "() => window.app.graph.nodes.length === 1 && window.app.canvas.state.ghostNodeId == null"
OPEN = """() => {
    const { canvas, graph } = window.app;
    const made = graph.nodes.find(node => node.isSubgraphNode());
    canvas.openSubgraph(made.subgraph, made);
}"""


@pytest.fixture(autouse=True)
def short_video(editor: Editor) -> Iterator[None]:
    """In a host that knows apps and packs' subgraphs, a few frames in the place of the example video."""
    if editor.server.host.version.startswith("0.3."):
        pytest.skip(f"ComfyUI {editor.server.host.version} has neither apps nor packs' subgraphs")
    video = put_video(editor.server, VIDEO, 6)
    yield
    video.unlink()


@pytest.mark.parametrize("path", APPS, ids=lambda path: path.stem)
def test_an_app_opens_as_a_form_and_runs(editor: Editor, path: Path):
    app = load_workflow(path)
    # The host's own tour of apps, which it offers once.
    tour = editor.page.get_by_role("button", name="Skip", exact=True)
    editor.page.add_locator_handler(tour, lambda skip: skip.click())
    editor.page.evaluate(
        "async ([workflow, name]) => await window.app.loadGraphData(workflow, true, true, name,"
        " { openSource: 'template' })",
        [app, path.stem],
    )
    controls = editor.page.get_by_test_id("linear-widgets")
    for _, widget in app["extra"]["linearData"]["inputs"]:
        expect(controls.get_by_text(widget, exact=True).first).to_be_visible()
    assert controls.get_by_text("confidence", exact=True).count() == 0

    outputs = editor.run_with(lambda: editor.page.get_by_role("button", name="Run", exact=True).click())

    (saved,) = app["extra"]["linearData"]["outputs"]
    result = outputs[str(saved)]["images"][0]["filename"]
    expect(editor.page.locator(f"[src*='{result}']:visible").first).to_be_visible()
    editor.keep_screenshot(f"app_{path.stem.replace(' ', '_')}")


@pytest.mark.parametrize("path", BLUEPRINTS, ids=lambda path: path.stem)
def test_a_blueprint_is_found_added_and_runs(editor: Editor, path: Path):
    (definition,) = load_workflow(path)["definitions"]["subgraphs"]
    editor.load_workflow(NOTHING)
    editor.page.mouse.dblclick(*PLACE)
    editor.page.get_by_test_id("search-filter-input").wait_for()
    editor.page.keyboard.type(path.stem)
    editor.page.get_by_text(definition["description"]).first.click()
    # The new node hangs at the pointer until a click puts it down.
    for _ in range(20):
        editor.page.mouse.move(*PLACE)
        editor.page.mouse.click(*PLACE)
        editor.page.wait_for_timeout(500)
        if editor.page.evaluate(IS_DOWN):
            break
    (made,) = editor.saved()["nodes"]
    assert [entry["name"] for entry in made["inputs"]] == [entry["name"] for entry in definition["inputs"]]

    kind = definition["inputs"][0]["type"]
    editor.page.evaluate(CONNECT, [*FEEDS[kind], *SAVES[kind]])
    outputs = editor.run()
    assert any(output.get("images") for output in outputs.values())

    editor.page.evaluate(OPEN)
    editor.page.wait_for_timeout(1000)
    editor.page.evaluate("async () => await window.app.extensionManager.command.execute('Comfy.Canvas.FitView')")
    editor.page.wait_for_timeout(1000)
    inside = editor.page.evaluate("() => window.app.canvas.graph.nodes.map(node => node.type)")
    assert sorted(inside) == sorted(entry["type"] for entry in definition["nodes"])
    assert editor.page.evaluate(BEHIND) == []
    editor.keep_screenshot(f"blueprint_{path.stem.replace(' ', '_')}")
