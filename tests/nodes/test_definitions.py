"""What all nodes have in common, and a snapshot of their definitions: saved workflows rely on its ids and names, and
tools/node_docs.py makes the English texts of it.

After a wanted change: `make node-docs` writes it and them anew.
"""

from __future__ import annotations

import json
import os
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest

from .server import PACK, REPOSITORY, Server

SNAPSHOT = Path(__file__).with_name("definitions.json")
KINDS = tuple(json.loads(SNAPSHOT.read_text()))
LANGUAGES = ("en", "zh")


def definitions(server: Server) -> dict[str, Any]:
    known = server.get("/object_info")
    return {kind: info for kind, info in known.items() if info["python_module"].endswith(PACK)}


def inputs_of(info: dict[str, Any]) -> dict[str, list[Any]]:
    """All inputs by name; the host adds hidden ones of its own to output nodes."""
    return {name: spec for group, specs in info["input"].items() if group != "hidden" for name, spec in specs.items()}


def essence(info: dict[str, Any]) -> dict[str, Any]:
    """What a saved workflow depends on, and the node's own words."""
    required = info["input"].get("required", {})
    outputs = zip(info["output"], info["output_name"], info["output_tooltips"], strict=True)
    return {
        "display_name": info["display_name"],
        "description": info["description"],
        "category": info["category"],
        "output_node": info["output_node"],
        "inputs": {
            name: {
                "type": spec[0] if isinstance(spec[0], str) else "COMBO",
                "required": name in required,
                **{key: spec[1][key] for key in ("default", "min", "max", "step", "tooltip") if key in spec[1]},
            }
            for name, spec in inputs_of(info).items()
        },
        "outputs": [{"type": kind, "name": name, "tooltip": tooltip} for kind, name, tooltip in outputs],
    }


def test_definitions_are_the_recorded_ones(server: Server):
    found = {kind: essence(info) for kind, info in definitions(server).items()}
    if os.environ.get("CODEFORMER_UPDATE_DEFINITIONS"):
        SNAPSHOT.write_text(json.dumps(found, indent=2) + "\n")
    assert found == json.loads(SNAPSHOT.read_text())


@pytest.mark.parametrize("kind", KINDS)
def test_every_input_and_output_says_what_it_does(server: Server, kind: str):
    info = definitions(server)[kind]
    assert kind.startswith("CodeFormer") and info["category"].startswith("image/")
    assert inputs_of(info) and all(spec[1].get("tooltip") for spec in inputs_of(info).values())
    assert info["description"] and len(info["output"]) == len(list(filter(None, info["output_tooltips"])))


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_help_page_is_served(server: Server, kind: str, language: str):
    info = definitions(server)[kind]
    place = f"{kind}.md" if language == "en" else f"{kind}/{language}.md"
    page = server.get_text(f"/extensions/{PACK}/docs/{place}")
    assert page.startswith("# ")
    if language == "en":
        assert page.startswith(f"# {info['display_name']}\n")
    names = [*inputs_of(info), *info["output_name"]]
    assert not [name for name in names if f"\n- **{name}**" not in page]


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_name_and_tooltip_is_translated(server: Server, language: str):
    """`locales/<language>/nodeDefs.json` names every node, input and output, and nothing else."""
    known = json.loads((REPOSITORY / "locales" / language / "nodeDefs.json").read_text(encoding="utf-8"))
    found = definitions(server)
    assert set(known) == set(found)
    for kind, info in found.items():
        words, inputs = known[kind], inputs_of(info)
        assert words["display_name"] and words["description"]
        assert set(words["inputs"]) == set(inputs), kind
        assert all(entry["name"] and entry["tooltip"] for entry in words["inputs"].values()), kind
        assert set(words["outputs"]) == {str(place) for place in range(len(info["output"]))}, kind
        if language == "en":
            assert words["display_name"] == info["display_name"] and words["description"] == info["description"]
            for name, spec in inputs.items():
                assert words["inputs"][name]["tooltip"] == spec[1]["tooltip"], (kind, name)


def test_locales_are_served(server: Server):
    assert set(LANGUAGES) <= set(server.get("/i18n"))


@pytest.mark.parametrize("page", ["docs/nodes.md", "docs/zh/nodes.md"])
def test_the_table_of_nodes_has_these_and_no_others(server: Server, page: str):
    """In Chinese a node's English name comes first: Face Restore（人脸修复）."""
    lines = (REPOSITORY / page).read_text(encoding="utf-8").splitlines()
    first = next(place for place, line in enumerate(lines) if line.startswith("| Load Face Restore Model"))
    rows = list(takewhile(lambda line: line.startswith("|"), lines[first:]))
    names = [info["display_name"] for info in definitions(server).values()]
    if "zh" in page:
        known = json.loads((REPOSITORY / "locales" / "zh" / "nodeDefs.json").read_text(encoding="utf-8"))
        names = [
            f"{info['display_name']}（{known[kind]['display_name']}）" for kind, info in definitions(server).items()
        ]
    assert sorted(row.split("|")[1].strip() for row in rows) == sorted(names)
