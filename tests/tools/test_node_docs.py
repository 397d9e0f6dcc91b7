"""The nodes' texts are those of their recorded definitions, and the tool that makes them so."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tools.node_docs import DEFINITIONS, ENGLISH, OVERVIEW, PAGES, REPOSITORY, Node, Socket, completed_page, main

IMAGE = Socket("image", "IMAGE", "The pictures. " + "They may have any size. " * 6)
AMOUNT = Socket("amount", "FLOAT", "How much.", optional=True)
NODE = Node("CodeFormerFlip", "Flip Faces", "Turns faces.", (IMAGE, AMOUNT), (Socket("IMAGE", "IMAGE", "Turned."),))


@pytest.fixture
def root(tmp_path) -> Path:
    """The files that the tool reads and writes."""
    for path in (DEFINITIONS, ENGLISH, OVERVIEW):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / path, tmp_path / path)
    shutil.copytree(REPOSITORY / PAGES, tmp_path / PAGES)
    return tmp_path


def change(root: Path, edit) -> None:
    """edit: changes the recorded definitions in place."""
    path = root / DEFINITIONS
    recorded = json.loads(path.read_text())
    edit(recorded)
    path.write_text(json.dumps(recorded))


def test_this_repository_is_up_to_date(capsys):
    assert main(["--check"]) == 0, f"run `make node-docs`: {capsys.readouterr().out}"
    assert capsys.readouterr().out == ""


def test_a_new_page_lists_every_input_and_output():
    page = completed_page(NODE, "")
    assert page.startswith("# Flip Faces\n\nTurns faces.\n\n## Inputs\n\n- **image**: The pictures. They")
    assert page.endswith("- **amount** (optional): How much.\n\n## Output\n\n- **IMAGE**: Turned.\n")
    assert max(map(len, page.splitlines())) <= 120


def test_a_page_that_lists_all_stays_as_it_is():
    page = completed_page(NODE, "").replace("How much.", "As much as\n  you like.\n\nThat is all.")
    assert completed_page(NODE, page) == page


def test_what_a_page_lacks_is_added_and_its_prose_stays():
    page = "# Old Name\n\nMy words.\n\n## Inputs\n\n- **image**: My own\n  words.\n\n## Errors\n\n- *Oh*: no.\n"
    assert completed_page(NODE, page) == (
        "# Flip Faces\n\nMy words.\n\n"
        "## Inputs\n\n- **image**: My own\n  words.\n- **amount** (optional): How much.\n\n"
        "## Output\n\n- **IMAGE**: Turned.\n\n"
        "## Errors\n\n- *Oh*: no.\n"
    )


def test_a_line_is_not_added_to_a_paragraph_behind_the_list():
    page = completed_page(NODE, "# Flip Faces\n\n## Inputs\n\n- **image**: All.\n\nThat is all.\n")
    assert "That is all.\n\n- **amount** (optional)" in page


def test_a_new_node_gets_its_texts(root, capsys):
    def add(recorded):
        recorded["CodeFormerFlip"] = {**recorded["CodeFormerCropFaces"], "display_name": "Flip Faces"}

    change(root, add)
    before = (root / OVERVIEW).read_text()
    assert main(["--check"], root) == 1 and (root / OVERVIEW).read_text() == before
    assert {line.split(":")[0] for line in capsys.readouterr().out.splitlines()} == {
        str(ENGLISH),
        str(PAGES / "CodeFormerFlip.md"),
        str(OVERVIEW),
    }
    assert main([], root) == 0 and main(["--check"], root) == 0
    assert json.loads((root / ENGLISH).read_text())["CodeFormerFlip"]["display_name"] == "Flip Faces"
    assert (root / PAGES / "CodeFormerFlip.md").read_text().startswith("# Flip Faces\n")
    after = (root / OVERVIEW).read_text()
    row = "| Flip Faces | IMAGE, FACES | IMAGE, FACES, report |\n"
    assert after.count(row) == 1 and after.replace(row, "") == before


def test_a_changed_tooltip_reaches_the_english_locale_alone(root):
    def reword(recorded):
        recorded["CodeFormerCropFaces"]["inputs"]["faces"]["tooltip"] = "Whichever."

    change(root, reword)
    pages = {path: path.read_text() for path in (root / PAGES).glob("*.md")}
    assert main([], root) == 0
    assert json.loads((root / ENGLISH).read_text())["CodeFormerCropFaces"]["inputs"]["faces"]["tooltip"] == "Whichever."
    assert pages == {path: path.read_text() for path in (root / PAGES).glob("*.md")}


def test_what_is_gone_is_named_and_left_to_a_person(root, capsys):
    def remove(recorded):
        del recorded["CodeFormerMeasureFaces"], recorded["CodeFormerCropFaces"]["inputs"]["faces"]

    change(root, remove)
    assert main([], root) == 1
    left = [line for line in capsys.readouterr().out.splitlines() if line.endswith("by hand")]
    assert [line.split(":")[0] for line in left] == [
        str(PAGES / "CodeFormerCropFaces.md"),
        str(PAGES / "CodeFormerMeasureFaces.md"),
        str(OVERVIEW),
    ]
    assert "faces" in left[0] and "Measure Faces" in left[2]
    assert (root / PAGES / "CodeFormerMeasureFaces.md").is_file()


def test_a_readme_without_the_table_is_an_error(root):
    (root / OVERVIEW).write_text("# Nothing\n")
    with pytest.raises(ValueError, match=r"nodes\.md has no table of nodes"):
        main([], root)
