"""Compare Fidelity: a press on a tile sets the fidelity of the node that restores with the same model."""

from __future__ import annotations

import pytest

from tests.nodes.prompts import node, restore_prompt

from .editor import Editor


@pytest.mark.slow
def test_a_tile_sets_the_fidelity(editor: Editor):
    prompt = restore_prompt("portrait.png")
    prompt["compare"] = node(
        "CodeFormerCompareFidelity", image=["photo", 0], face_restore_model=["loader", 0], faces=["restore", 2], steps=5
    )
    editor.load(prompt)
    (said,) = editor.run()["compare"]["codeformer_fidelity"]
    assert [tile["fidelity"] for tile in said["tiles"]] == [0, 0.25, 0.5, 0.75, 1]
    editor.show("CodeFormerCompareFidelity")
    editor.page.locator('.codeformer-tile[data-fidelity="0.75"]').click()
    assert editor.widget("CodeFormerFaceRestore", "fidelity") == pytest.approx(0.75)
    editor.page.get_by_text("Fidelity 0.75 is set in Face Restore.").wait_for(timeout=5000)
    editor.keep_screenshot("fidelity_tiles")


def test_without_a_node_to_set_it_says_so(editor: Editor):
    prompt = restore_prompt("portrait.png")
    compare = node("CodeFormerCompareFidelity", image=["photo", 0], face_restore_model=["loader", 0], steps=2)
    editor.load({"photo": prompt["photo"], "loader": prompt["loader"], "compare": compare})
    editor.run()
    editor.show("CodeFormerCompareFidelity")
    editor.page.locator(".codeformer-tile").last.press("Enter")
    editor.page.get_by_text("No node with a fidelity is connected").wait_for(timeout=5000)
