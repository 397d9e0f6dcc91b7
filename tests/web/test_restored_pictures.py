"""Pictures that went through the command line, opened in the editor."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from codeformer_core import cli
from tests.nodes.prompts import restore_prompt

from .editor import Editor


def test_a_restored_picture_still_opens_its_workflow(editor: Editor, small_codeformer: Path, tmp_path: Path):
    """As the host's Save Image writes it: the editor opens the workflow that made a picture dropped on it."""
    prompt = restore_prompt("portrait.png")
    editor.load(prompt)
    workflow = editor.saved()
    info = PngInfo()
    info.add_text("prompt", json.dumps(prompt))
    info.add_text("workflow", json.dumps(workflow))
    made, restored = tmp_path / "made.png", tmp_path / "restored.png"
    Image.open(editor.server.base / "input" / "portrait.png").save(made, pnginfo=info)
    words = ["restore", made, "-o", restored, "--model", small_codeformer, "--detector", "yunet", "--device", "cpu"]
    words += ["--when-worse", "paste"]  # what random weights draw is another person
    assert cli.main([str(word) for word in words]) == 0
    assert Image.open(made).tobytes() != Image.open(restored).tobytes()

    editor.open()
    editor.page.evaluate(
        """async encoded => {
            const bytes = Uint8Array.from(atob(encoded), letter => letter.charCodeAt(0));
            await window.app.handleFile(new File([bytes], 'restored.png', { type: 'image/png' }));
        }""",
        base64.b64encode(restored.read_bytes()).decode(),
    )
    editor.page.wait_for_timeout(1500)
    opened = {(str(node["id"]), node["type"]) for node in editor.saved()["nodes"]}
    assert opened == {(str(node["id"]), node["type"]) for node in workflow["nodes"]}
