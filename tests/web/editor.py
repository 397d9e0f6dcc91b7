"""What the tests do in ComfyUI's editor, in words of its users: open, load, run, look at a node."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import Locator, Page

from tests.nodes.server import Server

START_MILLISECONDS = 60_000
RUN_SECONDS = 300


class Editor:
    """errors: what our own modules wrote to the browser's console as errors."""

    def __init__(self, page: Page, server: Server, artefacts: Path) -> None:
        self.page = page
        self.server = server
        self.artefacts = artefacts
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self._note(f"{error} {error.stack}"))
        page.on("console", lambda message: self._note(message.text) if message.type == "error" else None)

    def _note(self, text: str) -> None:
        if "codeformer" in text.lower():
            self.errors.append(text)

    def open(self, settings: dict[str, Any] | None = None) -> None:
        """Loads the page and closes what greets new users; settings: of the host, by their ids."""
        self.server.post("/settings", {"Comfy.TutorialCompleted": True, **(settings or {})})
        self.page.goto(f"http://127.0.0.1:{self.server.port}/")
        self.page.wait_for_function(
            "() => Boolean(window.app?.graph && window.LiteGraph?.registered_node_types?.CodeFormerFaceRestore)",
            timeout=START_MILLISECONDS,
        )
        self.page.wait_for_timeout(1000)
        self.page.keyboard.press("Escape")

    def load(self, prompt: dict[str, Any]) -> None:
        """Puts an API-format prompt on the canvas; the nodes' ids are the prompt's keys."""
        self.page.evaluate("async prompt => await window.app.loadApiJson(prompt, 'test')", prompt)
        self.page.wait_for_timeout(500)

    def load_workflow(self, workflow: dict[str, Any]) -> None:
        self.page.evaluate("async workflow => await window.app.loadGraphData(workflow)", workflow)
        self.page.wait_for_timeout(500)

    def saved(self) -> dict[str, Any]:
        """The workflow as the editor would save it."""
        return self.page.evaluate("() => JSON.parse(JSON.stringify(window.app.graph.serialize()))")

    def widget(self, kind: str, name: str) -> Any:
        """The value of a widget of the only node of this kind."""
        return self.page.evaluate(
            "([kind, name]) => window.app.graph.nodes.find(n => n.comfyClass === kind)"
            ".widgets.find(w => w.name === name).value",
            [kind, name],
        )

    def set_widget(self, kind: str, name: str, value: Any) -> None:
        self.page.evaluate(
            "([kind, name, value]) => { window.app.graph.nodes.find(n => n.comfyClass === kind)"
            ".widgets.find(w => w.name === name).value = value; }",
            [kind, name, value],
        )

    def keep_screenshot(self, name: str) -> None:
        """The window as it is now, among the test's artefacts."""
        self.artefacts.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=self.artefacts / f"{name}_{self.server.host.version}.png")

    def run(self) -> dict[str, Any]:
        """Queues the graph as the button does and waits; the outputs of its nodes. Raises when the run failed."""
        return self.run_with(lambda: self.page.evaluate("async () => await window.app.queuePrompt(0)"))

    def run_with(self, queue: Callable[[], object]) -> dict[str, Any]:
        """As `run`, by what `queue` does."""
        # A test that gave up may have left a run, whose end is not this one's.
        until = time.monotonic() + RUN_SECONDS
        while self.server.get("/prompt")["exec_info"]["queue_remaining"] and time.monotonic() < until:
            time.sleep(0.1)
        before = set(self.server.get("/history"))
        queue()
        until = time.monotonic() + RUN_SECONDS
        while time.monotonic() < until:
            done = {key: value for key, value in self.server.get("/history").items() if key not in before}
            if done:
                entry = next(iter(done.values()))
                assert entry["status"]["status_str"] == "success", entry["status"]
                self.page.wait_for_timeout(500)
                return entry["outputs"]
            time.sleep(0.1)
        raise AssertionError("the run did not end")

    def zoom(self, scale: float) -> None:
        self.page.evaluate(
            "scale => { window.app.canvas.ds.changeScale(scale, [800, 500]); window.app.canvas.setDirty(true, true); }",
            scale,
        )
        self.page.wait_for_timeout(500)

    def show(self, kind: str) -> None:
        """Moves the only node of this kind, in the graph or subgraph on screen, into the middle of the window."""
        self.page.evaluate(
            "kind => window.app.canvas.centerOnNode(window.app.canvas.graph.nodes.find(n => n.comfyClass === kind))",
            kind,
        )
        self.page.wait_for_timeout(500)

    def faces(self) -> Locator:
        """The face picker's boxes."""
        return self.page.locator(".codeformer-face")
