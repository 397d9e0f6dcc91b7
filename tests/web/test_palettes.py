"""The views in a dark and in a light editor: all that they say stands out from what lies behind it."""

from __future__ import annotations

import pytest

from tests.nodes.prompts import node, restore_prompt

from .editor import Editor

# Of WCAG 2.1, criterion 1.4.3, for text of ordinary size.
MIN_CONTRAST = 4.5
# Luminances of each text in our views and of what lies behind it; where a view shows the canvas, that is the node's.
CONTRASTS = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = colour => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, below) => [0, 1, 2].map(i => top[i] * top[3] + below[i] * (1 - top[3]));
  const light = colour => colour.map(v => v / 255)
    .map(v => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const node = rgba(window.LiteGraph.NODE_DEFAULT_BGCOLOR);
  const texts = [];
  for (const view of document.querySelectorAll(".codeformer-view"))
    for (const element of view.querySelectorAll("*")) {
      const said = [...element.childNodes].filter(n => n.nodeType === 3).map(n => n.textContent.trim()).join("");
      if (!said || !element.checkVisibility() || element.matches(":disabled, [aria-disabled=true]")) continue;
      const layers = [];
      let opacity = 1;
      for (let one = element; one && one !== document.body; one = one.parentElement) {
        const style = getComputedStyle(one);
        layers.push(rgba(style.backgroundColor));
        if (view.contains(one)) opacity *= Number(style.opacity);
      }
      // Words on a picture have a shadow all around.
      const shadow = getComputedStyle(element).textShadow;
      if (shadow !== "none") layers.unshift(rgba(shadow.match(/^.*?\\)/)[0]));
      const behind = layers.reverse().reduce((below, top) => over(top, below), node.slice(0, 3));
      const ink = rgba(getComputedStyle(element).color);
      const shown = over([...ink.slice(0, 3), ink[3] * opacity], behind);
      const [high, low] = [light(shown), light(behind)].sort((a, b) => b - a);
      texts.push([said, (high + 0.05) / (low + 0.05)]);
    }
  return texts;
}"""

SIDE_BY_SIDE = """() => {
  let left = -900;
  for (const node of window.app.graph.nodes) { node.pos = [left, -450]; left += node.size[0] + 40; }
  window.app.canvas.ds.offset = [1000, 500];
}"""


@pytest.mark.slow
@pytest.mark.parametrize("palette", ["dark", "light"])
def test_everything_can_be_read(editor: Editor, palette: str):
    editor.open({"Comfy.ColorPalette": palette})
    try:
        prompt = restore_prompt("portrait.png")
        prompt["find"] = node("CodeFormerDetectFaces", image=["photo", 0], confidence=0.0, smallest_face=0.0)
        prompt["compare"] = node(
            "CodeFormerCompareFidelity", image=["photo", 0], face_restore_model=["loader", 0], steps=2
        )
        editor.load({name: prompt[name] for name in ("photo", "loader", "restore", "after", "find", "compare")})
        editor.page.evaluate(SIDE_BY_SIDE)
        editor.zoom(0.6)
        waiting = editor.page.evaluate(CONTRASTS)
        editor.run()
        editor.page.locator(".codeformer-compare summary").click()
        texts = [*waiting, *editor.page.evaluate(CONTRASTS)]
        editor.keep_screenshot(f"palette_{palette}")
    finally:
        editor.server.post("/settings", {"Comfy.ColorPalette": "dark"})
    said = " ".join(text for text, _ in texts)
    assert "Run the workflow" in said and "before" in said and "1 of 1" in said and "identity" in said
    assert [(text, round(ratio, 2)) for text, ratio in texts if ratio < MIN_CONTRAST] == []
