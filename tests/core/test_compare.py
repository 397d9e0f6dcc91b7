"""One face at several fidelities: which face, which tiles, which numbers."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from codeformer_core.faces.batch import FaceBatch
from codeformer_core.faces.types import Face
from codeformer_core.metrics.descriptors import DlibIdentity
from codeformer_core.metrics.niqe import Niqe, read_pristine_model
from codeformer_core.pipeline.aligned_faces import restore_aligned
from codeformer_core.pipeline.crop import crop_faces
from codeformer_core.study.compare import COMPARING, compare_fidelities
from codeformer_core.study.one_face import FaceNumbers, best_of, number_events
from codeformer_core.study.tiles import GAP, HEADER, draw_grid, square_columns

from .conftest import InvertingRestorer, placed_face
from .facts import facts, kinds


@dataclass(frozen=True)
class FadingRestorer:
    """restored := fidelity * crop + (1 - fidelity) * 0.5; notes its calls."""

    name: str = "fading"
    tasks: tuple[str, ...] = ("restoration",)
    uses_fidelity: bool = True
    recommended_fidelity: float = 0.5
    needs_landmarks: bool = False
    calls: list[tuple[int, float]] = field(default_factory=list)

    def faces_at_once(self) -> int:
        return 4

    def restore(self, faces_B3HW: Tensor, fidelity: float = 0.5, component_boxes_B44: Tensor | None = None) -> Tensor:
        self.calls.append((len(faces_B3HW), fidelity))
        return faces_B3HW * fidelity


@pytest.fixture(scope="module")
def crops() -> Tensor:
    """Two aligned faces, (2, 512, 512, 3), coloured, so that nothing is toned to gray."""
    return torch.rand((2, 512, 512, 3), generator=torch.Generator().manual_seed(3))


# --- the grid --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (2, 2), (3, 2), (4, 2), (6, 3), (9, 3), (12, 4), (22, 5)])
def test_grids_are_about_square(count, columns):
    assert square_columns(count, 512 + GAP, 512 + HEADER + GAP) == columns


def test_tiles_lie_where_their_boxes_say():
    tiles = torch.stack([torch.full((64, 64, 3), value) for value in (0.2, 0.4, 0.6)])
    grid = draw_grid(["input", "w 0", "w 1"], tiles)
    height, width = grid.image_HW3.shape[:2]
    assert len(grid.boxes) == 3
    for value, (left, top, right, bottom) in zip((0.2, 0.4, 0.6), grid.boxes, strict=True):
        columns = slice(round(left * width), round(right * width))
        box = grid.image_HW3[round(top * height) : round(bottom * height), columns]
        assert box.shape == (64 + HEADER, 64, 3)
        assert torch.allclose(box[HEADER:], torch.tensor(value), atol=1e-6)
        assert box[:HEADER].max() > 0.8, "the word"
    # The words differ, so the headers do.
    headers = [grid.image_HW3[:HEADER, :64], grid.image_HW3[:HEADER, 64 + GAP : 128 + GAP]]
    assert not torch.equal(*headers)


# --- which face ------------------------------------------------------------------------------------------------------


def test_aligned_faces_are_restored_once_for_each_fidelity(crops):
    before, restorer = crops.clone(), FadingRestorer()
    compared = compare_fidelities(crops, restorer=restorer, steps=5)
    assert torch.equal(crops, before)
    assert compared.fidelities == (0.0, 0.25, 0.5, 0.75, 1.0)
    assert restorer.calls == [(1, fidelity) for fidelity in compared.fidelities]
    assert compared.faces_NSS3.shape == (5, 512, 512, 3) and len(compared.boxes) == 5
    for fidelity, face_SS3 in zip(compared.fidelities, compared.faces_NSS3, strict=True):
        alone = restore_aligned(crops[:1], restorer=FadingRestorer(), fidelity=fidelity, detail=0).images_BHWC[0]
        assert torch.equal(face_SS3, alone)
    # The input's tile comes first and is no fidelity's.
    height, width = compared.grid_HW3.shape[:2]
    assert torch.allclose(compared.grid_HW3[HEADER : HEADER + 512, :512], crops[0], atol=0.51 / 255)
    left, _, right, bottom = compared.boxes[-1]
    last = compared.grid_HW3[round(bottom * height) - 512 : round(bottom * height)]
    last = last[:, round(left * width) : round(right * width)]
    assert torch.allclose(last, compared.faces_NSS3[-1], atol=0.51 / 255)
    assert ("compared_first", None, {"count": 2}) in facts(compared)


def test_fidelities_are_those_that_a_widget_can_show(crops):
    compared = compare_fidelities(crops[:1], restorer=FadingRestorer(), steps=4)
    assert compared.fidelities == (0.0, 0.33, 0.67, 1.0)


def test_the_first_face_of_pictures_is_cropped():
    images = torch.rand((3, 300, 400, 3), generator=torch.Generator().manual_seed(4))
    flat = Face((0, 0, 9, 9), ((5, 5),) * 5, 0.9)
    second, third = placed_face(200, 150, 40), placed_face(120, 150, 40)
    faces = FaceBatch.of(images, [[], [flat, second], [third]])
    compared = compare_fidelities(images, restorer=FadingRestorer(), faces=faces, steps=2)
    expected = crop_faces(images, faces.with_faces([[], [second], []])).crops_NHW3
    assert torch.allclose(compared.faces_NSS3[1:], expected, atol=1e-6)
    assert ("compared_face", None, {"number": 2, "image": 2}) in facts(compared)


def test_pictures_without_a_face_give_a_placeholder():
    images = torch.rand(2, 64, 64, 3)
    restorer = FadingRestorer()
    compared = compare_fidelities(images, restorer=restorer, faces=FaceBatch.of(images, [[], []]))
    assert restorer.calls == [] and compared.fidelities == compared.boxes == ()
    assert compared.faces_NSS3.shape == (1, 512, 512, 3) and compared.faces_NSS3.unique().tolist() == [0.5]
    assert facts(compared) == [("no_face", None, {})]


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_small_faces_with_other_channels(channels):
    compared = compare_fidelities(torch.rand(1, 96, 96, channels), restorer=FadingRestorer(), steps=2)
    assert compared.faces_NSS3.shape == (2, 512, 512, 3)
    assert "not_square" not in kinds(compared)


def test_a_picture_that_is_not_square_is_doubted():
    compared = compare_fidelities(torch.rand(1, 96, 128, 3), restorer=FadingRestorer(), steps=2)
    assert ("not_square", None, {"width": 128, "height": 96}) in facts(compared)


# --- numbers, progress, what is refused ------------------------------------------------------------------------------


def test_numbers_of_each_fidelity(crops):
    compared = compare_fidelities(crops[:1], restorer=FadingRestorer(), steps=3)
    assert ("restored_by", None, {"restorer": "fading"}) in facts(compared)
    none, _, same = (values for _, _, values in facts(compared, "sharpness"))
    assert same["label"] == "w 1" and same["l1"] == pytest.approx(0, abs=1e-3)
    assert same["sharpness"] == pytest.approx(1, abs=1e-3) and same["identity"] == pytest.approx(0, abs=1e-3)
    apart = float((crops[0] - 0.5).abs().mean() * 255)
    assert none["label"] == "w 0" and none["l1"] == pytest.approx(apart, abs=1e-3)
    # A face of one colour has no statistics.
    assert none["sharpness"] == pytest.approx(0, abs=1e-3) and none["niqe"] == "-" and compared.numbers[0].niqe is None


def test_the_numbers_are_those_of_the_metrics(crops):
    compared = compare_fidelities(crops[:1], restorer=FadingRestorer(), steps=2)
    assert compared.crop_1SS3 is not None and torch.equal(compared.crop_1SS3, crops[:1])
    made_N3SS, given_N3SS = (faces.permute(0, 3, 1, 2) for faces in (compared.faces_NSS3, crops[:1].repeat(2, 1, 1, 1)))
    identity_N = DlibIdentity().measure(made_N3SS, given_N3SS)
    assert [one.identity for one in compared.numbers] == pytest.approx(identity_N.tolist(), abs=1e-5)
    niqe_N = Niqe(read_pristine_model()).measure(made_N3SS, given_N3SS)
    assert compared.numbers[1].niqe == pytest.approx(float(niqe_N[1]))


def of_measures(*rows: tuple[float | None, float, float | None]) -> list[FaceNumbers]:
    return [FaceNumbers(f"w {place}", 0.0, *row) for place, row in enumerate(rows)]


def test_the_best_of_each_measure():
    numbers = of_measures((1.2, 0.301, 5.0), (0.9, 0.304, 4.0), (1.1, 0.5, None))
    assert best_of(numbers) == {"identity": {0, 1}, "sharpness": {0}, "NIQE": {1}}
    bests = [event.values for event in number_events(numbers) if event.kind == "best"]
    assert bests[0] == {"measure": "identity", "labels": ("w 0", "w 1")} and len(bests) == 3
    nothing = {"identity": frozenset(), "sharpness": frozenset(), "NIQE": frozenset()}
    assert best_of(numbers[:1]) == best_of([]) == nothing
    assert best_of(of_measures((None, 0.3, None), (None, 0.2, None))) == nothing | {"identity": {1}}


def test_cancel_between_tiles(crops):
    restorer, told = FadingRestorer(), []

    def cancel(stage: str, done: int, total: int) -> None:
        told.append((stage, done, total))
        if done == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        compare_fidelities(crops[:1], restorer=restorer, steps=5, on_progress=cancel)
    assert told == [(COMPARING, done, 5) for done in range(3)] and len(restorer.calls) == 2


@pytest.mark.parametrize("steps", [1, 22])
def test_too_few_or_too_many_steps(crops, steps):
    with pytest.raises(ValueError, match=rf"steps must be from 2 to 21, got {steps}"):
        compare_fidelities(crops, restorer=FadingRestorer(), steps=steps)


def test_models_for_something_else_are_refused(crops):
    with pytest.raises(ValueError, match=r"painter is a model for colorization.*choose codeformer\.pth"):
        compare_fidelities(crops, restorer=InvertingRestorer("painter", ("colorization",)))


def test_faces_of_other_pictures_are_refused(crops):
    faces = FaceBatch.of(torch.rand(2, 64, 64, 3), [[placed_face(32, 32, 12)], []])
    with pytest.raises(ValueError, match="faces were found in images of 64x64 pixels, but these have 512x512"):
        compare_fidelities(crops, restorer=FadingRestorer(), faces=faces)
