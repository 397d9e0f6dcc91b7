"""A workflow as the editor saves it -> the prompt that the server takes.

What the editor does in the browser when the user presses Run, for the features that example workflows use: links,
widgets, muted and bypassed nodes, notes. Subgraphs and reroutes are refused.
"""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MUTED, BYPASSED = 2, 4
ONLY_IN_THE_EDITOR = {"Note", "MarkdownNote"}
REFUSED = {"Reroute", "PrimitiveNode"}
# A combo whose chosen option brings widgets of its own, which stand behind it and are called combo.widget.
DYNAMIC_COMBO = "COMFY_DYNAMICCOMBO_V3"
WIDGET_TYPES = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", DYNAMIC_COMBO}


@dataclass(frozen=True)
class Widget:
    """optional: the node runs without it, so a workflow saved by a host that does not have it stays valid."""

    name: str
    kind: Any
    options: dict[str, Any]
    optional: bool


def load_workflow(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def to_prompt(workflow: dict[str, Any], object_info: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Raises ValueError for a node that the server doesn't know or whose widgets don't match its definition."""
    if workflow.get("definitions", {}).get("subgraphs"):
        raise ValueError("subgraphs are not supported here")
    sources = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    prompt = {}
    for node in workflow["nodes"]:
        kind = node["type"]
        if kind in ONLY_IN_THE_EDITOR or node.get("mode", 0) in (MUTED, BYPASSED):
            continue
        if kind in REFUSED or kind not in object_info:
            raise ValueError(f"node {node['id']}: the server has no {kind}")
        links = {socket["name"]: sources[socket["link"]] for socket in node.get("inputs", []) if socket.get("link")}
        inputs = _widget_values(node, object_info[kind]) | links
        prompt[str(node["id"])] = {"class_type": kind, "inputs": inputs, "_meta": {"title": node.get("title", kind)}}
    return prompt


def node_of(prompt: dict[str, dict[str, Any]], kind: str) -> str:
    """The id of the only node of this kind."""
    (found,) = [node for node, content in prompt.items() if content["class_type"] == kind]
    return found


def _widget_values(node: dict[str, Any], info: dict[str, Any]) -> dict[str, Any]:
    """widgets_values is a bare list in the order of the definition, with the editor's own widgets in between."""
    values = node.get("widgets_values", [])
    if isinstance(values, dict):
        return {widget.name: values[widget.name] for widget in _widgets(info["input"])}
    waiting, left = deque(_widgets(info["input"])), deque(values)
    named = {}
    while waiting:
        widget = waiting.popleft()
        if not left and widget.optional:
            continue
        if not left:
            raise ValueError(f"node {node['id']} ({node['type']}) has no value for {widget.name} in {values}")
        named[widget.name] = left.popleft()
        if widget.kind == DYNAMIC_COMBO:
            (chosen,) = [option for option in widget.options["options"] if option["key"] == named[widget.name]]
            waiting.extendleft(reversed(_widgets(chosen["inputs"], f"{widget.name}.")))
        # "randomize" and its like; the "choose file" button keeps its own value.
        own = ("control_after_generate", "image_upload", "video_upload")
        for _ in range(min(sum(bool(widget.options.get(key)) for key in own), len(left))):
            left.popleft()
    if left:
        raise ValueError(f"node {node['id']} ({node['type']}) has {len(left)} values too many for {sorted(named)}")
    return named


def _widgets(inputs: dict[str, Any], prefix: str = "") -> list[Widget]:
    """In the order of the definition."""
    defined = [
        Widget(f"{prefix}{name}", kind, (more or [{}])[0], section == "optional")
        for section in ("required", "optional")
        for name, (kind, *more) in inputs.get(section, {}).items()
    ]
    return [
        widget
        for widget in defined
        if (isinstance(widget.kind, list) or widget.kind in WIDGET_TYPES) and not widget.options.get("forceInput")
    ]
