"""One person's faces among others, by reference photos."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import codeformer_core as cf
from codeformer_core import cli
from codeformer_core.faces.geometry import TEMPLATE_XY
from codeformer_core.faces.types import Face
from tests.face_pictures import large_faces

from .conftest import InvertingRestorer, as_it_is
from .facts import facts

SIDE = 512


def face_at(x: float) -> Face:
    """The face of an aligned 512 crop that lies x pixels further to the right."""
    left, right, nose, mouth_left, mouth_right = ((x + dx, y) for dx, y in TEMPLATE_XY.tolist())
    return Face((x + 100, 100, x + 400, 450), (left, right, nose, mouth_left, mouth_right), 0.9)


class WholeFaces:
    """Finds one face in each square."""

    name = "squares"
    default_confidence = 0.5
    module = None

    def bytes_for(self, images_BHWC: Tensor) -> int:
        return 0

    def detect(self, images_BHWC: Tensor, confidence: float | None = None) -> list[list[Face]]:
        return [[face_at(x) for x in range(0, images_BHWC.shape[2] - SIDE + 1, SIDE)] for _ in images_BHWC]


@pytest.fixture(scope="module")
def people() -> list[Tensor]:
    return [
        torch.from_numpy(np.array(Image.open(path).convert("RGB"))).float()[None] / 255 for path in large_faces()[:3]
    ]


@pytest.fixture(scope="module")
def group(people) -> Tensor:
    """Three people side by side, each a little darker than on the reference photos."""
    return torch.cat(people, dim=2) * 0.8


def restored(group: Tensor, person: cf.Person | None) -> cf.RestoredImages:
    return cf.restore_images(
        group, restorer=InvertingRestorer(), detector=WholeFaces(), person=person, **as_it_is("box")
    )


def test_only_this_person_or_all_but_this_one(people, group):
    only = restored(group, cf.load_person([people[1]], detector=WholeFaces()))
    assert only.faces == ((face_at(SIDE),),)
    assert [skipped.kind for skipped in only.skipped[0]] == ["not_person"] * 2
    ((_, image, values),) = facts(only, "person")
    assert image == 0 and values["distance"] < 0.3 and values["limit"] == 0.6
    others = restored(group, cf.load_person([people[1]], detector=WholeFaces(), excluded=True))
    assert others.faces == ((face_at(0), face_at(2 * SIDE)),)
    (skipped,) = others.skipped[0]
    assert skipped.kind == "is_person" and skipped.values["distance"] < 0.3


def test_several_photos_of_any_size(people, group):
    small = torch.nn.functional.interpolate(people[2].permute(0, 3, 1, 2), scale_factor=1.5).permute(0, 2, 3, 1)
    both = cf.load_person([people[0], small], detector=WholeFaces())
    assert both.descriptors_ND.shape == (2, 128)
    assert restored(group, cf.load_person([people[0], people[2]], detector=WholeFaces())).faces == (
        (face_at(0), face_at(2 * SIDE)),
    )


def test_a_stricter_limit(people, group):
    strict = cf.load_person([people[0]], detector=WholeFaces(), max_distance=0.001)
    assert restored(group, strict).faces == ((),)
    for wrong in (0, -1, float("nan"), 3):
        with pytest.raises(ValueError, match=r"distance of a person must be above 0"):
            cf.load_person([people[0]], detector=WholeFaces(), max_distance=wrong)


def test_in_select_faces(people, group):
    faces = cf.FaceBatch.of(group, [[face_at(x * SIDE) for x in range(3)]])
    person = cf.load_person([people[2]], detector=WholeFaces())
    selected = cf.select_faces(faces, person=person, images_BHWC=group)
    assert selected.faces.per_image == ((face_at(2 * SIDE),),)
    assert len(facts(selected, "not_person")) == 2 and len(facts(selected, "person")) == 1
    with pytest.raises(ValueError, match="the images are needed in which the faces were found"):
        cf.select_faces(faces, person=person)


def test_a_reference_photo_without_a_face(people):
    with pytest.raises(ValueError, match="reference photo 2 shows no face"):
        cf.load_person([people[0], torch.zeros(1, 60, 60, 3)], detector=WholeFaces())
    with pytest.raises(ValueError, match="no reference photo"):
        cf.load_person([], detector=WholeFaces())


def test_on_the_command_line(tmp_path, people, group, capsys):
    names = {}
    for name, image in {"group": group, "her": people[1], "nobody": torch.zeros(1, 64, 64, 3)}.items():
        names[name] = tmp_path / f"{name}.png"
        Image.fromarray((image[0] * 255).round().byte().numpy()).save(names[name])
    command = ["restore", str(names["group"]), "-o", str(tmp_path / "out.png"), "--device", "cpu"]
    assert cli.main([*command, "--person", str(names["her"])]) == 0
    said = capsys.readouterr().out
    assert "3 faces found, 1 restored" in said and "another person's" in said
    before, after = (np.array(Image.open(path)).astype(int) for path in (names["group"], tmp_path / "out.png"))
    changed = np.abs(after - before).sum((0, 2))
    assert changed[:SIDE].sum() == changed[2 * SIDE :].sum() == 0 < changed[SIDE : 2 * SIDE].sum()

    assert cli.main([*command, "--overwrite", "--person", str(names["nobody"])]) == 1
    assert f"{names['nobody']} shows no face" in capsys.readouterr().err
    both = [*command, "--overwrite", "--person", str(names["her"]), "--not-person", str(names["her"])]
    assert cli.main(both) == 2 and "contradict" in capsys.readouterr().err
