"""Means of groups of people: tones of skin, lists of one's own, and what comes out much worse for one of them."""

from __future__ import annotations

import csv

import pytest
import torch

from codeformer_core.metrics.skin_tone import skin_tone
from codeformer_core.training.evaluation.people import by_skin_tone, means_of_people, much_worse, read_groups
from codeformer_core.training.evaluation.report import write_report
from codeformer_core.training.evaluation.results import Column, Evaluation, Group, Row, means_of

from .patterns import PatternFaces

DONE = Group("photo", "restored", 1.0)
# sRGB of skin, after the patches in which cosmetics are sold.
SKINS = {
    "light skin": (235, 205, 185),
    "medium skin": (200, 155, 120),
    "dark skin": (110, 75, 55),
    None: (150, 150, 150),
}


@pytest.mark.parametrize("tone", list(SKINS))
def test_a_tone_is_told_from_the_cheeks(tone):
    face_3HW = torch.rand((3, 128, 128), generator=torch.Generator().manual_seed(1))
    face_3HW[:, 64:92, 30:98] = torch.tensor(SKINS[tone])[:, None, None] / 255
    # A beard, or a highlight, over a part of it.
    face_3HW[:, 80:92, 34:44] = 0.0
    assert skin_tone(face_3HW) == tone


def evaluation(people: int = 40) -> Evaluation:
    """The second half of the faces come out worse: distances of 0.3, the others' 0.1."""
    rows = [
        Row(f"{n:02}.webp", DONE, {"distance": 0.1 if n < people // 2 else 0.3, "PSNR": 30.0}) for n in range(people)
    ]
    columns = (Column("distance", "lower", False), Column("PSNR", "higher", False))
    return Evaluation(columns, tuple(rows), means_of(rows, {}), (), (), (), ())


def with_people(groups: dict[str, tuple[str, ...]]) -> Evaluation:
    from dataclasses import replace

    return replace(evaluation(), people=means_of_people(evaluation(), groups))


def test_groups_are_told_apart_and_the_worse_one_is_named(tmp_path):
    # By name alone, whatever folder and ending a list has.
    groups = {f"val/{n:02}.png": ("glasses",) if n >= 20 else ("none", "few" if n < 3 else "none") for n in range(40)}
    found = with_people(groups)
    assert [(people.name, people.faces) for people in found.people] == [("glasses", 20), ("none", 20)]
    lines = list(much_worse(found))
    assert lines == ["glasses: photo restored, w = 1: distance 0.3, 50% worse than 0.2"]
    paths = write_report(found, tmp_path, "title", {})
    assert "groups.csv" in [path.name for path in paths]
    assert lines[0] in (tmp_path / "report.html").read_text(encoding="utf-8")
    with (tmp_path / "groups.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["group"], row["faces"], float(row["distance"])) for row in rows] == [
        ("glasses", "20", pytest.approx(0.3)),
        ("none", "20", pytest.approx(0.1)),
    ]


def test_lists_are_read_and_refused(tmp_path):
    path = tmp_path / "groups.csv"
    path.write_text("group,face\nglasses,a.png\nbeard,a.png\nglasses,b.png\n")
    assert read_groups(path) == {"a.png": ("glasses", "beard"), "b.png": ("glasses",)}
    for text, message in (
        ("face,kind\na,b\n", "has no column group"),
        ("face,group\na,\n", "line 2 names no group"),
        ("face,group\n,b\n", "line 2 names no face"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=rf"groups\.csv: {message}"):
            read_groups(path)
    with pytest.raises(ValueError, match=r"nothing\.csv: can't be read as CSV"):
        read_groups(tmp_path / "nothing.csv")


def test_all_faces_with_colours_have_a_tone():
    groups = by_skin_tone(PatternFaces(3, broken=(1,)))
    assert set(groups) <= {"face00.png", "face02.png"}
    assert all(len(names) == 1 and names[0].endswith(" skin") for names in groups.values())
