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
        editor.load(restore_prompt("portrait.png", model="broken.pth"))
        before = set(editor.server.get("/history"))
        editor.page.evaluate("async () => await window.app.queuePrompt(0)")
        expect(editor.page.get_by_text("broken.pth").first).to_be_visible(timeout=RUN_SECONDS * 1000)
        details = editor.page.get_by_role("button", name="View details")
        if details.count():
            details.first.click()
        editor.page.wait_for_timeout(1500)
    finally:
        broken.unlink()
    read = editor.page.locator("body").inner_text()
    assert "broken.pth" in read
    assert not [word for word in ("WeightsError", "codeformer_core", "custom_nodes") if word in read]
    (done,) = [entry for key, entry in editor.server.get("/history").items() if key not in before]
    (error,) = [data for kind, data in done["status"]["messages"] if kind == "execution_error"]
    assert error["exception_type"] == "ValueError" and "broken.pth" in error["exception_message"]
