"""A workflow as the editor saves it -> the prompt that the server takes.

What the editor does in the browser when the user presses Run, for the features that example workflows use: links,
widgets, muted and bypassed nodes, notes. Subgraphs and reroutes are refused.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

MUTED, BYPASSED = 2, 4
ONLY_IN_THE_EDITOR = {"Note", "MarkdownNote"}
REFUSED = {"Reroute", "PrimitiveNode"}
WIDGET_TYPES = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}


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
    definitions = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
    order = [*info["input_order"].get("required", []), *info["input_order"].get("optional", [])]
    names = []
    for name in order:
        kind, options = definitions[name][0], (definitions[name][1:] or [{}])[0]
        if not (isinstance(kind, list) or kind in WIDGET_TYPES) or options.get("forceInput"):
            continue
        names.append(name)
        if options.get("control_after_generate"):
            names.append(None)
        if options.get("image_upload"):
            names.append(None)  # the "choose file" button keeps its own value
    values = node.get("widgets_values", [])
    if isinstance(values, dict):
        return {name: values[name] for name in names if name}
    if len(values) != len(names):
        raise ValueError(f"node {node['id']} ({node['type']}) has {len(values)} widget values for {names}")
    return {name: value for name, value in zip(names, values, strict=True) if name}
