"""What users read when a node fails."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.nodes.prompts import restore_prompt

from .editor import RUN_SECONDS, Editor

pytestmark = pytest.mark.slow


def test_a_broken_file_is_told_without_the_place_of_our_code(editor: Editor):
    broken = editor.server.base / "models" / "facerestore_models" / "broken.pth"
    broken.write_bytes(b"no weights")
    try:
        editor.open()  # with the file in its lists
        editor.load(restore_prompt("portrait.png", model="broken.pth"))
        before = set(editor.server.get("/history"))
        editor.page.evaluate("async () => await window.app.queuePrompt(0)")
        details = editor.page.get_by_role("button", name="View details")
        said = editor.page.get_by_text("facerestore_models/broken.pth is a text")
        expect(details.or_(said).first).to_be_visible(timeout=RUN_SECONDS * 1000)
        if details.count():
            details.first.click()
        expect(said.first).to_be_visible()
    finally:
        broken.unlink()
    # Below it the host shows its own stack, where files and folders are as they are.
    read = editor.page.locator("body").inner_text().partition("Stack Trace")[0]
    assert not [
        word
        for word in ("WeightsError", "ValueError", "codeformer_core", "custom_nodes", str(editor.server.base))
        if word in read
    ]
    # The host asks its registry about the node that failed, which this page may not, and says so with the node's name.
    editor.errors.clear()
    (done,) = [entry for key, entry in editor.server.get("/history").items() if key not in before]
    (error,) = [data for kind, data in done["status"]["messages"] if kind == "execution_error"]
    assert error["exception_type"] == "Error"
    assert error["exception_message"].startswith("models/facerestore_models/broken.pth is a text")
