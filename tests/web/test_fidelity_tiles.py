"""The tiles of Compare Fidelity and Compare Restorers: their numbers, and a press that sets a fidelity."""

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
    tiles = editor.page.locator(".codeformer-tile")
    assert tiles.count() == 6 and tiles.first.inner_text().strip() == "input"
    for place, tile in enumerate(said["tiles"], 1):
        text = tiles.nth(place).inner_text()
        assert f"{tile['identity']:.2f}" in text and f"{tile['sharpness']:.2f}" in text
        assert tiles.nth(place).locator(".codeformer-best").count() == len(tile["best"])
    assert {measure for tile in said["tiles"] for measure in tile["best"]} == {"identity", "sharpness", "niqe"}
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


@pytest.mark.slow
def test_restorers_have_tiles_with_numbers_in_chinese_too(editor: Editor):
    editor.open({"Comfy.Locale": "zh"})
    try:
        prompt = restore_prompt("portrait.png")
        models = {"face_restore_model": ["loader", 0], "face_restore_model_2": ["loader", 0]}
        compare = node("CodeFormerCompareRestorers", image=["photo", 0], **models, fidelity=0.5)
        editor.load({"photo": prompt["photo"], "loader": prompt["loader"], "compare": compare})
        (said,) = editor.run()["compare"]["codeformer_restorers"]
        editor.show("CodeFormerCompareRestorers")
        tiles = editor.page.locator(".codeformer-tile")
        assert tiles.count() == 3 and tiles.first.inner_text().strip() == "输入"
        assert "codeformer" in tiles.nth(1).inner_text() and "身份" in tiles.nth(1).inner_text()
        # The same model twice: both are the best.
        assert said["tiles"][0]["best"] == said["tiles"][1]["best"] and len(said["tiles"][0]["best"]) >= 2
        labels = tiles.nth(1).locator(".codeformer-best .codeformer-value")
        assert all(label.endswith("最佳") for label in labels.evaluate_all("all => all.map(one => one.ariaLabel)"))
    finally:
        editor.server.post("/settings", {"Comfy.Locale": "en"})
