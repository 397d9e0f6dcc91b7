"""A WebUI that is started once for all tests, and a page of it in Chromium."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from tests.nodes.conftest import HostFailed
from tests.nodes.hosts import BrokenHost
from tests.nodes.weights import save_small_codeformer
from tests.web.conftest import ARTEFACTS, browser

from .hosts import WebUIHost, found_hosts, why_none
from .server import AS_IT_IS, MODEL, WebUI

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

__all__ = ["browser"]

PHOTOS = Path(__file__).parents[1] / "golden" / "photos"
FAILED: dict[WebUIHost, str] = {}
try:
    FOUND = found_hosts()
except ValueError as error:
    raise pytest.UsageError(str(error)) from error


@pytest.fixture(scope="session", params=FOUND or [None], ids=[host.name for host in FOUND] or ["none"])
def webui_host(request: pytest.FixtureRequest) -> WebUIHost:
    if request.param is None:
        pytest.skip(why_none())
    return request.param


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """portrait.png (512, one face), group.png (1024x512, two faces), cutout.png (with transparency), as files."""
    folder = tmp_path_factory.mktemp("pictures")
    group = Image.open(PHOTOS / "composite__group09.jpg").convert("RGB").crop((0, 0, 1024, 512))
    group.save(folder / "group.png")
    portrait = group.crop((0, 0, 512, 512))
    portrait.save(folder / "portrait.png")
    cutout = portrait.convert("RGBA")
    cutout.putalpha(Image.linear_gradient("L").resize((512, 512)))
    cutout.save(folder / "cutout.png")
    return folder


@pytest.fixture(scope="session")
def webui(webui_host: WebUIHost, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebUI]:
    if webui_host in FAILED:
        raise HostFailed(FAILED[webui_host])
    data = tmp_path_factory.mktemp("webui")
    # Where the host keeps them.
    save_small_codeformer(data / "models" / "Codeformer" / MODEL)
    with started(WebUI(webui_host, data, pictures / "portrait.png")) as running:
        ours = {f"codeformer_pack_{name}": value for name, value in (AS_IT_IS | {"model": MODEL}).items()}
        # A preview would need a model of its own.
        running.set_options(live_previews_enable=False, **ours)
        yield running


class started:
    """As WebUI's own `with` block; a host that can't be started fails its tests with one line."""

    def __init__(self, webui: WebUI) -> None:
        self.webui = webui

    def __enter__(self) -> WebUI:
        try:
            return self.webui.__enter__()
        except BrokenHost as error:
            FAILED[self.webui.host] = str(error)
            raise HostFailed(str(error)) from error

    def __exit__(self, *exception: Any) -> None:
        self.webui.__exit__(*exception)


@pytest.fixture
def page(browser: Browser, webui: WebUI, request: pytest.FixtureRequest) -> Iterator[Page]:
    """The host's page; what it looked like at the end of the test is kept."""
    page = browser.new_page(viewport={"width": 1400, "height": 1400})
    page.set_default_timeout(60_000)
    open_page(page, webui)
    yield page
    ARTEFACTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=ARTEFACTS / f"{request.node.originalname}_{webui.host.name}.png")
    page.close()


def open_page(page: Page, webui: WebUI) -> None:
    page.goto(f"{webui.url}/?__theme=light")
    page.wait_for_selector("#txt2img_generate")
    # Its scripts attach what they do a moment after the components are there.
    page.wait_for_timeout(int(os.environ.get("CODEFORMER_TEST_PAGE_MS", "3000")))
