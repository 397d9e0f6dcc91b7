"""One face by several restorers: which tiles under which names, which numbers, what is refused."""

from __future__ import annotations

from dataclasses import dataclass, field
from unittest.mock import ANY

import pytest
import torch
from torch import Tensor

from codeformer_core.faces.batch import FaceBatch
from codeformer_core.pipeline.crop import crop_faces
from codeformer_core.study.restorers import COMPARING, LONGEST_WORD, compare_restorers
from codeformer_core.study.tiles import draw_grid

from .conftest import InvertingRestorer, placed_face
from .facts import facts, kinds


@dataclass(frozen=True)
class Scaling:
    """restored := factor * crop, around the middle gray; notes its calls."""

    name: str
    factor: float
    uses_fidelity: bool = True
    recommended_fidelity: float = 0.5
    tasks: tuple[str, ...] = ("restoration",)
    needs_landmarks: bool = False
    calls: list[float] = field(default_factory=list)

    def faces_at_once(self) -> int:
        return 4

    def restore(self, faces_B3HW: Tensor, fidelity: float = 0.5, component_boxes_B44: Tensor | None = None) -> Tensor:
        self.calls.append(fidelity)
        return faces_B3HW * self.factor


@pytest.fixture(scope="module")
def crops() -> Tensor:
    """Two aligned faces, (2, 512, 512, 3), coloured, so that nothing is toned to gray."""
    return torch.rand((2, 512, 512, 3), generator=torch.Generator().manual_seed(3))


def test_the_input_and_each_restorers_face_stand_under_their_names(crops):
    before, restorers = crops.clone(), [Scaling("one.pth", 1.0), Scaling("half.pth", 0.5), Scaling("none.ckpt", 0.0)]
    told = []
    compared = compare_restorers(
        crops, restorers=restorers, fidelity=0.3, on_progress=lambda *state: told.append(state)
    )
    assert torch.equal(crops, before)
    assert [restorer.calls for restorer in restorers] == [[0.3]] * 3
    expected = torch.stack([(crops[0] - 0.5) * factor + 0.5 for factor in (1.0, 0.5, 0.0)])
    assert torch.allclose(compared.faces_NSS3, expected, atol=1e-5)
    # The labels are the files' names without their endings.
    drawn = draw_grid(["input", "one", "half", "none"], torch.cat((crops[:1], compared.faces_NSS3)))
    assert torch.equal(compared.grid_HW3, drawn.image_HW3)
    assert told == [(COMPARING, done, 3) for done in range(4)]


def test_the_fidelity_is_told_only_where_it_counts(crops):
    restorers = [Scaling("one.pth", 1.0), Scaling("none.pth", 0.0, uses_fidelity=False)]
    apart = pytest.approx(float((crops[0] - 0.5).abs().mean() * 255), abs=1e-3)
    nothing, all_of_it = pytest.approx(0, abs=1e-3), pytest.approx(1, abs=1e-3)
    assert facts(compare_restorers(crops[:1], restorers=restorers, fidelity=0.25)) == [
        ("compared_first", None, {"count": 1}),
        (
            "sharpness",
            None,
            {"label": "one.pth", "l1": nothing, "sharpness": all_of_it, "identity": nothing, "niqe": ANY},
        ),
        ("sharpness", None, {"label": "none.pth", "l1": apart, "sharpness": nothing, "identity": ANY, "niqe": "-"}),
        ("best", None, {"measure": "identity", "labels": ("one.pth",)}),
        ("best", None, {"measure": "sharpness", "labels": ("one.pth",)}),
        ("best", None, {"measure": "NIQE", "labels": ("one.pth",)}),
        ("no_fidelity", None, {"restorers": ("none.pth",)}),
        ("fidelity", None, {"fidelity": 0.25}),
    ]
    assert "fidelity" not in kinds(compare_restorers(crops[:1], restorers=restorers[1:]))


def test_each_at_its_own_fidelity(crops):
    restorers = [Scaling("one.pth", 1.0, recommended_fidelity=0.9), Scaling("half.pth", 0.5)]
    compared = compare_restorers(crops[:1], restorers=restorers)
    assert [restorer.calls for restorer in restorers] == [[0.9], [0.5]]
    assert facts(compared, "fidelity", "own_fidelity") == [
        ("own_fidelity", None, {"label": "one.pth", "fidelity": 0.9}),
        ("own_fidelity", None, {"label": "half.pth", "fidelity": 0.5}),
    ]


def test_one_restorer_is_enough(crops):
    compared = compare_restorers(crops[:1], restorers=[Scaling("one.pth", 1.0)])
    assert compared.faces_NSS3.shape == (1, 512, 512, 3) and "no_fidelity" not in kinds(compared)
    assert compared.grid_HW3.shape[1] > 2 * 512, "two tiles beside each other"


def test_long_names_are_cut(crops):
    long = "a" * LONGEST_WORD + "b.safetensors"
    compared = compare_restorers(crops[:1], restorers=[Scaling(long, 1.0)])
    drawn = draw_grid(["input", "a" * (LONGEST_WORD - 1) + "…"], torch.cat((crops[:1], compared.faces_NSS3)))
    assert torch.equal(compared.grid_HW3, drawn.image_HW3)
    assert facts(compared, "sharpness")[0][2]["label"] == long, "the report has the whole name"


def test_the_first_face_of_pictures_is_cropped():
    images = torch.rand((2, 300, 400, 3), generator=torch.Generator().manual_seed(4))
    faces = FaceBatch.of(images, [[], [placed_face(200, 150, 40), placed_face(120, 150, 40)]])
    compared = compare_restorers(images, restorers=[Scaling("one.pth", 1.0)], faces=faces)
    expected = crop_faces(images, faces).crops_NHW3[:1]
    assert torch.allclose(compared.faces_NSS3, expected, atol=1e-6)
    assert facts(compared)[0] == ("compared_face", None, {"number": 1, "image": 2})


def test_pictures_without_a_face_give_a_placeholder():
    images = torch.rand(2, 64, 64, 3)
    restorers = [Scaling("one.pth", 1.0), Scaling("none.pth", 0.0)]
    compared = compare_restorers(images, restorers=restorers, faces=FaceBatch.of(images, [[], []]))
    assert all(restorer.calls == [] for restorer in restorers)
    assert compared.faces_NSS3.shape == (1, 512, 512, 3) and compared.faces_NSS3.unique().tolist() == [0.5]
    assert facts(compared) == [("no_face", None, {})]


def test_cancel_between_restorers(crops):
    restorers = [Scaling("one.pth", 1.0), Scaling("two.pth", 1.0)]

    def cancel(stage: str, done: int, total: int) -> None:
        if done == 1:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        compare_restorers(crops[:1], restorers=restorers, on_progress=cancel)
    assert [len(restorer.calls) for restorer in restorers] == [1, 0]


def test_models_for_something_else_are_refused_before_anything_runs(crops):
    first = Scaling("one.pth", 1.0)
    with pytest.raises(ValueError, match=r"painter is a model for colorization.*choose codeformer\.pth"):
        compare_restorers(crops, restorers=[first, InvertingRestorer("painter", ("colorization",))])
    assert first.calls == []
    with pytest.raises(ValueError, match="there is no restorer to compare"):
        compare_restorers(crops, restorers=[])
    with pytest.raises(ValueError, match="fidelity must be from 0"):
        compare_restorers(crops, restorers=[first], fidelity=1.5)
