"""Before and after in the Face Restore node."""

from __future__ import annotations

from tests.nodes.prompts import restore_prompt

from .editor import Editor


def test_before_and_after_appear_in_the_node(editor: Editor):
    editor.load(restore_prompt("portrait.png"))
    view = editor.page.locator(".codeformer-compare")
    assert view.inner_text().startswith("Run the workflow")
    outputs = editor.run()
    (said,) = outputs["restore"]["codeformer_compare"]
    assert said["total"] == 1 and len(said["pairs"]) == 1
    editor.show("CodeFormerFaceRestore")
    pictures = view.locator("img")
    assert pictures.count() == 2
    assert pictures.evaluate_all("images => images.map(image => image.naturalWidth)") == [512, 512]
    assert len(set(pictures.evaluate_all("images => images.map(image => image.src)"))) == 2


def test_the_slider_wipes_from_the_keyboard(editor: Editor):
    editor.load(restore_prompt("portrait.png"))
    editor.run()
    editor.show("CodeFormerFaceRestore")
    slider = editor.page.locator(".codeformer-compare input")
    slider.focus()
    editor.page.keyboard.press("ArrowLeft")
    frame = editor.page.locator(".codeformer-compare .codeformer-frame")
    assert frame.evaluate("frame => frame.style.getPropertyValue('--share')") == "49%"
    assert "inset" in editor.page.locator(".codeformer-after").evaluate("image => getComputedStyle(image).clipPath")
