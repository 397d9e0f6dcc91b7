"""Numbers that stand for a word are drawn as the word, and stay numbers."""

from __future__ import annotations

import pytest

from tests.nodes.prompts import restore_prompt

from .editor import Editor

KIND = "CodeFormerFaceRestore"
DRAWN = """kind => Object.fromEntries(window.app.graph.nodes.find(n => n.comfyClass === kind).widgets
    .map(w => [w.name, w._displayValue]))"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("language", "automatic", "no_limit"), [("en", "automatic", "no limit"), ("zh", "自动", "不限")]
)
def test_automatic_and_no_limit(editor: Editor, language: str, automatic: str, no_limit: str):
    editor.open({"Comfy.Locale": language})
    try:
        editor.load(restore_prompt("portrait.png", fidelity=-1.0, confidence=0.0, smallest_face=0.0))
        drawn = editor.page.evaluate(DRAWN, KIND)
        assert [drawn[name] for name in ("fidelity", "confidence")] == [automatic] * 2
        assert [drawn[name] for name in ("smallest_face", "largest_face")] == [no_limit] * 2
        editor.set_widget(KIND, "fidelity", 0.25)
        editor.set_widget(KIND, "smallest_face", 40)
        drawn = editor.page.evaluate(DRAWN, KIND)
        assert drawn["fidelity"] == "0.25" and drawn["smallest_face"] == "40"
        assert editor.widget(KIND, "confidence") == 0
    finally:
        editor.server.post("/settings", {"Comfy.Locale": "en"})
