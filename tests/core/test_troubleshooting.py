"""The page of troubleshooting quotes messages that the program has."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from .test_architecture import ROOT

PAGE = ROOT / "docs" / "troubleshooting.md"
PACKAGES = ("codeformer_core", "nodes", "codeformer_webui")


def spoken(text: str) -> str:
    """Names, numbers and what report texts leave open, each as …"""
    return re.sub(r"(\s*…)+", lambda found: " …" if found[0][0].isspace() else "…", re.sub(r"\{[^{}]*\}", "…", text))


def texts_of(path: Path) -> list[str]:
    texts: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.JoinedStr):
            texts.append("".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            texts.append(node.value)
    return [spoken(text) for text in texts]


QUOTED = [
    spoken(" ".join(quote.split()))
    for paragraph in PAGE.read_text(encoding="utf-8").split("\n\n")
    if paragraph.startswith("**`")
    for quote in re.findall(r"`([^`]+)`", paragraph.partition(" — ")[0])
]


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return [text for package in PACKAGES for path in (ROOT / package).rglob("*.py") for text in texts_of(path)]


def test_the_page_quotes_something():
    assert len(QUOTED) > 15


@pytest.mark.parametrize("message", QUOTED)
def test_every_quoted_message_is_one_of_the_programs(message, texts):
    assert any(message in text for text in texts)
