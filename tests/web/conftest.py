"""A real browser against a real ComfyUI server with its own frontend package."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.nodes.conftest import host, pytest_runtest_makereport, server, small_codeformer
from tests.nodes.server import Server

from .editor import Editor

if TYPE_CHECKING:
    from playwright.sync_api import Browser

__all__ = ["host", "pytest_runtest_makereport", "server", "small_codeformer"]

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome", "msedge")
# Screenshots of every test, for whoever wants to see what the tests saw.
ARTEFACTS = Path(os.environ.get("CODEFORMER_TEST_ARTEFACTS", Path(__file__).parents[2] / ".test_artefacts"))


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium of this machine, or the one that Playwright installed; skipped with the reason without one."""
    from playwright.sync_api import Error, sync_playwright

    found = os.environ.get("CODEFORMER_TEST_BROWSER") or next(filter(None, map(shutil.which, BROWSERS)), None)
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        except Error as error:
            pytest.skip(f"no browser for the tests of the web side: {str(error).splitlines()[0]}")
        yield browser
        browser.close()


@pytest.fixture
def editor(browser: Browser, server: Server, request: pytest.FixtureRequest) -> Iterator[Editor]:
    """The editor in a fresh page, empty; what it looked like at the end of the test is kept."""
    page = browser.new_page(viewport={"width": 1600, "height": 1100})
    editor = Editor(page, server, ARTEFACTS)
    editor.open()
    yield editor
    editor.keep_screenshot(request.node.originalname)
    page.close()
    assert editor.errors == [], "errors in the browser's console"
