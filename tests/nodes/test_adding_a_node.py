"""CONTRIBUTING.md's recipe for a node, followed in a copy of the pack by a real ComfyUI."""

from __future__ import annotations

import json
import re
import shutil
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.node_docs import DEFINITIONS, ENGLISH, OVERVIEW, PAGES, main

from .hosts import Host
from .prompts import node, report
from .server import REPOSITORY, Server
from .test_definitions import definitions, essence
from .test_detect_select import detect_prompt

COPIED = ("__init__.py", "nodes", "locales", "web", "docs", str(DEFINITIONS))
GROUP = REPOSITORY / "tests" / "golden" / "photos" / "composite__group09.jpg"
KIND = "CodeFormerLargestFaces"


def recipes_module() -> str:
    """The code that the recipe shows."""
    recipe = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("\n## Add a node\n")[2]
    (module,) = re.findall(r"```python\n(.+?)```", recipe.partition("\n## ")[0], re.DOTALL)
    return textwrap.dedent(module)


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the pack after the recipe's first two steps."""
    pack = tmp_path_factory.mktemp("pack")
    for name in COPIED:
        (pack / name).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (REPOSITORY / name).is_dir() else shutil.copy
        copy(REPOSITORY / name, pack / name)
    (pack / "codeformer_core").symlink_to(REPOSITORY / "codeformer_core", target_is_directory=True)
    (pack / "nodes" / "largest.py").write_text(recipes_module(), encoding="utf-8")
    registry = pack / "nodes" / "__init__.py"
    text = registry.read_text(encoding="utf-8")
    text = text.replace("from .load import", "from .largest import LargestFaces\nfrom .load import")
    registry.write_text(text.replace("    SelectFaces,\n", "    SelectFaces,\n    LargestFaces,\n"), encoding="utf-8")
    return pack


@pytest.fixture(scope="module")
def its_server(host: Host, pack: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(host, tmp_path_factory.mktemp("comfyui"), pack) as running:
        shutil.copy(GROUP, running.base / "input" / "group.jpg")
        yield running


@pytest.mark.slow
def test_the_recipes_node_is_known_works_and_gets_its_texts(its_server: Server, pack: Path):
    known = definitions(its_server)
    assert known[KIND]["input"]["required"]["keep"][0] == "INT"
    assert list(known).index(KIND) == list(known).index("CodeFormerSelectFaces") + 1

    largest = {"largest": node(KIND, faces=["detect", 0], keep=1), "report": node("PreviewAny", source=["largest", 1])}
    done = its_server.run(detect_prompt("group.jpg") | largest)
    assert done.status == "success", done.error
    assert re.search(r"[2-9] faces given, 1 ", report(done)), report(done)

    (pack / DEFINITIONS).write_text(json.dumps({kind: essence(info) for kind, info in known.items()}))
    assert main([], pack) == 0 and main(["--check"], pack) == 0
    assert KIND in json.loads((pack / ENGLISH).read_text(encoding="utf-8"))
    assert "\n- **keep**: How many" in (pack / PAGES / f"{KIND}.md").read_text(encoding="utf-8")
    assert "\n| Largest Faces | FACES, keep | FACES, report |\n" in (pack / OVERVIEW).read_text(encoding="utf-8")
