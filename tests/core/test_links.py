"""Every page that a page names by its place in the repository is there."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

import pytest

from .test_architecture import ROOT

PAGES = [
    path
    for folder in (".", "docs", "docs/zh", "codeformer_core/assets", "tests/faces")
    for path in sorted((ROOT / folder).glob("*.md"))
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path):
    targets = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    places = [unquote(target.partition("#")[0]) for target in targets if not re.match(r"[a-z]+:", target)]
    assert [place for place in places if place and not (page.parent / place).exists()] == []
