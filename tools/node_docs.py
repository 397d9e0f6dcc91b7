"""`python -m tools.node_docs`: brings what is written about the nodes up to their recorded definitions.

locales/en/nodeDefs.json is made anew. The help pages in web/docs and the table in docs/nodes.md get what they lack
(pages, sections, inputs, outputs, rows) in the node's own words, to be rewritten by hand. What a person wrote stays as
it is; what no node has any more is named, for a person to remove.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
DEFINITIONS = Path("tests/nodes/definitions.json")
ENGLISH = Path("locales/en/nodeDefs.json")
OVERVIEW = Path("docs/nodes.md")
PAGES = Path("web/docs")

_TABLE = "| Node | Takes | Gives |\n|---|---|---|\n"
_WIDTH = 120


@dataclass(frozen=True)
class Socket:
    """An input or output of a node."""

    name: str
    type: str
    tooltip: str
    optional: bool = False


@dataclass(frozen=True)
class Node:
    """What the host knows of a node."""

    id: str
    name: str
    description: str
    inputs: tuple[Socket, ...]
    outputs: tuple[Socket, ...]


def read_nodes(root: Path) -> list[Node]:
    """The nodes as tests/nodes/test_definitions.py recorded them in a host."""
    recorded = json.loads((root / DEFINITIONS).read_text(encoding="utf-8"))
    return [
        Node(
            kind,
            entry["display_name"],
            entry["description"],
            tuple(
                Socket(name, spec["type"], spec["tooltip"], not spec["required"])
                for name, spec in entry["inputs"].items()
            ),
            tuple(Socket(output["name"], output["type"], output["tooltip"]) for output in entry["outputs"]),
        )
        for kind, entry in recorded.items()
    ]


def render(nodes: Sequence[Node], root: Path) -> dict[Path, str]:
    """Path below `root` -> what the file should say."""
    pages = {PAGES / f"{node.id}.md": node for node in nodes}
    return {
        ENGLISH: english_locale(nodes),
        **{path: completed_page(node, _text(root / path)) for path, node in pages.items()},
        OVERVIEW: completed_table(nodes, _text(root / OVERVIEW)),
    }


def english_locale(nodes: Sequence[Node]) -> str:
    entries = {
        node.id: {
            "display_name": node.name,
            "description": node.description,
            "inputs": {
                socket.name: {"name": socket.name.replace("_", " "), "tooltip": socket.tooltip}
                for socket in node.inputs
            },
            "outputs": {
                str(place): {"name": socket.name, "tooltip": socket.tooltip}
                for place, socket in enumerate(node.outputs)
            },
        }
        for node in nodes
    }
    return json.dumps(entries, indent=2) + "\n"


def completed_page(node: Node, page: str) -> str:
    """The help page of a node with what it lacked.

    page: what the help page says so far, perhaps nothing.
    """
    beginning, *sections = _sections(page or f"\n\n{textwrap.fill(node.description, _WIDTH)}\n")
    place = 0
    for title, sockets in _lists(node):
        if not sockets:
            continue
        known = [number for number, section in enumerate(sections) if _has_title(section, title)]
        if known:
            place = known[0]
        else:
            sections.insert(place, title if len(sockets) == 1 else f"{title}s")
        section = sections[place].rstrip("\n")
        missing = [_line(socket) for socket in sockets if socket.name not in _listed(section)]
        if missing:
            ends_in_list = section.rpartition("\n")[2].startswith(("- ", "  "))
            sections[place] = "\n".join([section + ("" if ends_in_list else "\n"), *missing])
        place += 1
    beginning = f"# {node.name}\n" + beginning.partition("\n")[2]
    return "\n\n".join(section.strip("\n") for section in (beginning, *sections)) + "\n"


def completed_table(nodes: Sequence[Node], readme: str) -> str:
    """The overview with a row for every node, a new one behind that of the node before it.

    Raises ValueError where it has no table of nodes.
    """
    before, rows, after = _table(readme)
    place = 0
    for node in nodes:
        names = [_name(row) for row in rows]
        if node.name in names:
            place = names.index(node.name) + 1
            continue
        takes, gives = (", ".join(_short(socket) for socket in sockets) for _, sockets in _lists(node))
        rows.insert(place, f"| {node.name} | {takes} | {gives} |")
        place += 1
    return before + "".join(f"{row}\n" for row in rows) + after


def leftovers(nodes: Sequence[Node], root: Path) -> Iterator[str]:
    """A line for each text about nodes, inputs and outputs that no longer exist; it begins with the file."""
    known = {node.id: node for node in nodes}
    for path in sorted((root / PAGES).glob("*.md")):
        place = PAGES / path.name
        if path.stem not in known:
            yield f"{place}: there is no node {path.stem}"
            continue
        sections = _sections(_text(path))
        for title, sockets in _lists(known[path.stem]):
            names = {socket.name for socket in sockets}
            for section in sections:
                if _has_title(section, title):
                    yield from (f"{place}: {title} lists {name}" for name in _listed(section) if name not in names)
    names = {node.name for node in nodes}
    for row in _table(_text(root / OVERVIEW))[1]:
        if _name(row) not in names:
            yield f"{OVERVIEW}: there is no node {_name(row)}"


def _lists(node: Node) -> tuple[tuple[str, tuple[Socket, ...]], ...]:
    return ("## Input", node.inputs), ("## Output", node.outputs)


def _has_title(section: str, title: str) -> bool:
    return section.startswith((f"{title}\n", f"{title}s\n"))


def _sections(page: str) -> list[str]:
    """What comes before the first heading of second order, then everything from one such heading to the next."""
    return re.split(r"^(?=## )", page, flags=re.MULTILINE)


def _listed(section: str) -> list[str]:
    return re.findall(r"^- \*\*(.+?)\*\*", section, flags=re.MULTILINE)


def _line(socket: Socket) -> str:
    """An item of a help page's list, on as many lines as it takes."""
    text = f"- **{socket.name}**{' (optional)' if socket.optional else ''}: {socket.tooltip}"
    return textwrap.fill(text, _WIDTH, subsequent_indent="  ", break_on_hyphens=False)


def _short(socket: Socket) -> str:
    """In the overview: sockets by type, as their wires are known; widgets and reports by name."""
    is_widget = socket.type in ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
    return ("optional " if socket.optional else "") + (socket.name.replace("_", " ") if is_widget else socket.type)


def _table(readme: str) -> tuple[str, list[str], str]:
    """-> the page up to the table's first row, the rows, and what comes behind them."""
    before, title, rest = readme.partition(_TABLE)
    if not title:
        raise ValueError(
            f"{OVERVIEW} has no table of nodes, which begins with {_TABLE.splitlines()[0]}; write that line"
        )
    rows = re.match(r"(?:\|.*\n)*", rest)
    assert rows is not None
    return before + title, rows[0].splitlines(), rest[rows.end() :]


def _name(row: str) -> str:
    return row.split("|")[1].strip()


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def main(arguments: Sequence[str] | None = None, root: Path = REPOSITORY) -> int:
    """-> 0 when everything is up to date, or is now; 1 when something is left to be done."""
    parser = argparse.ArgumentParser(prog="python -m tools.node_docs", description="Bring the nodes' texts up to date.")
    parser.add_argument("--check", action="store_true", help="write nothing, and say what is out of date")
    options = parser.parse_args(arguments)
    say = sys.stdout.write
    nodes = read_nodes(root)
    outdated = {path: text for path, text in render(nodes, root).items() if text != _text(root / path)}
    for path, text in outdated.items():
        say(f"{path}: {'out of date' if options.check else 'written'}\n")
        if not options.check:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text, encoding="utf-8")
    left = list(leftovers(nodes, root))
    for line in left:
        say(f"{line}: remove it by hand\n")
    return 1 if left or (options.check and outdated) else 0


if __name__ == "__main__":
    sys.exit(main())
