"""Inpainting: the published recipe on aligned crops; in whole pictures what is marked on a face and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import codeformer_core as cf
from codeformer_core.faces.batch import FaceBatch
from codeformer_core.faces.events import Event
from codeformer_core.faces.geometry import crop_face, estimate_alignment
from codeformer_core.pipeline.inpaint import inpaint_aligned, inpaint_photos
from codeformer_core.pipeline.inpaint_masks import covered_face, hole_in_crop, with_soft_edge

from .conftest import GivenDetector, placed_face
from .facts import facts, kinds, steps
from .test_colorize import NoDetector

HEIGHT, WIDTH = 180, 260
FACE = placed_face(80, 80, 26, 10)
FILL = torch.tensor((0.25, 0.5, 0.75))


@dataclass
class Filler:
    """Stands for an inpainting network: holes get one colour. Keeps what it was given."""

    name: str = "filler.pth"
    tasks: tuple[str, ...] = ("inpainting",)
    uses_fidelity: bool = True
    recommended_fidelity: float = 0.5
    needs_landmarks: bool = False
    seen: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def faces_at_once(self) -> int:
        return 2

    def restore(self, faces_B3HW: Tensor, fidelity: float = 0.5, component_boxes_B44: Tensor | None = None) -> Tensor:
        raise AssertionError("inpainting goes through inpaint")

    def inpaint(self, faces_B3HW: Tensor, mask_B1HW: Tensor) -> Tensor:
        assert faces_B3HW.shape[1:] == (3, 512, 512) and mask_B1HW.shape == (len(faces_B3HW), 1, 512, 512)
        assert faces_B3HW.dtype == mask_B1HW.dtype == torch.float32
        self.seen.append((faces_B3HW, mask_B1HW))
        return torch.where(mask_B1HW > 0.5, FILL.view(3, 1, 1) * 2 - 1, faces_B3HW)


@pytest.fixture(scope="module")
def photo(astronaut: Tensor) -> Tensor:
    """(1, 180, 260, 3) without a white pixel; the face's place in it is made up."""
    return astronaut[None, 40 : 40 + HEIGHT, 100 : 100 + WIDTH] * 0.9


def rectangle(top: int, left: int, height: int, width: int, size: tuple[int, int] = (HEIGHT, WIDTH)) -> Tensor:
    """mask_1HW, 1 inside."""
    mask_1HW = torch.zeros(1, *size)
    mask_1HW[:, top : top + height, left : left + width] = 1
    return mask_1HW


HOLE = rectangle(70, 66, 20, 26)


def with_white(images_BHW3: Tensor, mask_1HW: Tensor) -> Tensor:
    return torch.where(mask_1HW[..., None] > 0.5, torch.ones(()), images_BHW3)


def inpaint_photo(images_BHWC: Tensor, *faces: cf.Face, **options):
    options.setdefault("face_source", GivenDetector((faces or (FACE,),)))
    options.setdefault("restorer", Filler())
    return inpaint_photos(images_BHWC, **options)


# --- aligned crops ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_aligned_crops_are_filled_as_published(published_state, golden, astronaut):
    """The golden picture's own white pixels are the hole, so the network sees what was recorded."""
    restorer = cf.load_restorer(published_state("codeformer_inpainting"))
    published = load_file(golden / "networks" / "codeformer_inpainting.safetensors")["output_w1_adain0"]
    inpainted = inpaint_aligned(astronaut[None], restorer=restorer)
    hole_HW = (astronaut * 255).round().eq(255).all(-1)
    assert torch.equal(inpainted.masks_BHW[0] > 0.5, hole_HW)
    assert torch.equal(inpainted.images_BHWC[0][~hole_HW], astronaut[~hole_HW])
    network_HW3 = (restorer.restore(astronaut.permute(2, 0, 1)[None] * 2 - 1, 1.0)[0].permute(1, 2, 0) + 1) / 2
    assert (inpainted.images_BHWC[0][hole_HW] - network_HW3[hole_HW]).abs().max() < 1e-4
    recorded_HW = hole_HW[::4, ::4]
    assert int(recorded_HW.sum()) > 10
    ours_N3 = inpainted.images_BHWC[0, ::4, ::4][recorded_HW] * 2 - 1
    published_N3 = published[0].permute(1, 2, 0)[recorded_HW].clamp(-1, 1)
    assert (ours_N3 - published_N3).abs().max() < 0.01
    assert (ours_N3 - published_N3).square().mean().sqrt() < 1e-3 * published.std()


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [(512, 512), (90, 120), (700, 600)])
def test_what_is_not_marked_keeps_every_bit(channels, size):
    given = torch.rand(3, *size, channels) * 0.9
    mask_1HW = rectangle(20, 30, 25, 40, size)
    before, filler = given.clone(), Filler()
    inpainted = inpaint_aligned(given, restorer=filler, mask_BHW=mask_1HW)
    assert inpainted.images_BHWC.shape == (3, *size, 4 if channels in (2, 4) else 3)
    assert torch.equal(inpainted.masks_BHW, mask_1HW.expand(3, -1, -1)) and torch.equal(given, before)
    kept_HW = mask_1HW[0] == 0
    colour_BHWC = given if channels >= 3 else torch.cat((given[..., :1].expand(-1, -1, -1, 3), given[..., 1:]), -1)
    assert torch.equal(inpainted.images_BHWC[:, kept_HW], colour_BHWC[:, kept_HW])
    filled = inpainted.images_BHWC[:, 22:43, 32:68, :3]
    assert torch.allclose(filled, FILL.expand_as(filled), atol=1e-4)
    if channels in (2, 4):
        assert torch.equal(inpainted.images_BHWC[..., 3], given[..., -1])
    assert ("crops_resized" in kinds(inpainted)) == (size != (512, 512))
    assert [len(faces) for faces, _ in filler.seen] == [2, 1]


def test_white_pixels_count_without_a_mask_only(photo):
    white = with_white(photo, HOLE)
    by_white = inpaint_aligned(white, restorer=Filler())
    assert torch.equal(by_white.masks_BHW, HOLE)
    by_mask = inpaint_aligned(white, restorer=Filler(), mask_BHW=rectangle(0, 0, 9, 9))
    assert torch.equal(by_mask.images_BHWC[:, 20:], white[:, 20:])
    almost = torch.where(HOLE[..., None] > 0.5, torch.tensor(254 / 255), photo)
    assert torch.equal(inpaint_aligned(almost, restorer=Filler()).images_BHWC, almost)


def test_only_marked_crops_go_through_the_network(photo):
    three = torch.cat((photo, with_white(photo, HOLE), photo))
    filler = Filler()
    inpainted = inpaint_aligned(three, restorer=filler)
    assert [len(faces) for faces, _ in filler.seen] == [1]
    assert torch.equal(inpainted.images_BHWC[[0, 2]], three[[0, 2]])
    assert facts(inpainted) == [
        ("faces", None, {"filled": 1}),
        ("nothing_marked", 0, {}),
        ("filled_share", 1, {"share": pytest.approx(float(HOLE.mean()))}),
        ("nothing_marked", 2, {}),
        ("filled_by", None, {"restorer": "filler.pth"}),
        ("crops_resized", None, {"width": 260, "height": 180, "size": 512}),
    ]


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({}, "no_white_pixel"),
        ({"white_pixels": False}, "no_mask"),
        ({"mask_BHW": torch.zeros(1, 64, 64)}, "empty_mask"),
    ],
)
def test_nothing_marked_changes_nothing_and_it_is_said(photo, options, kind):
    filler = Filler()
    inpainted = inpaint_aligned(photo, restorer=filler, **options)
    assert torch.equal(inpainted.images_BHWC, photo) and not inpainted.masks_BHW.any()
    assert filler.seen == [] and facts(inpainted) == [(kind, None, {})]
    whole = inpaint_photo(photo, restorer=filler, face_source=NoDetector(), **options)
    assert torch.equal(whole.images_BHWC, photo) and not whole.masks_BHW.any() and whole.faces.count == 0
    assert filler.seen == [] and whole.events == inpainted.events


def test_a_mask_of_another_size_is_stretched_and_one_serves_all(photo):
    two = torch.cat((photo, photo.flip(1)))
    small = rectangle(2, 3, 2, 4, (9, 13))
    inpainted = inpaint_aligned(two, restorer=Filler(), mask_BHW=small)
    assert torch.equal(inpainted.masks_BHW[0], inpainted.masks_BHW[1])
    assert inpainted.masks_BHW[0, 45:75, 65:135].min() == 1 and 0.05 < inpainted.masks_BHW.mean() < 0.09
    each = inpaint_aligned(two, restorer=Filler(), mask_BHW=torch.cat((small, small.flip(1))))
    assert torch.equal(each.masks_BHW[1], each.masks_BHW[0].flip(0))
    assert torch.equal(inpaint_aligned(two, restorer=Filler(), mask_BHW=small[0]).masks_BHW, inpainted.masks_BHW)


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (torch.zeros(3, 9, 9), r"\(1 or 2, height, width\), got \(3, 9, 9\).*Give one mask for each image"),
        (torch.zeros(1, 1, 9, 9), r"the mask must have the shape"),
        (torch.full((1, 9, 9), torch.nan), "the mask holds values that are NaN"),
    ],
)
def test_masks_that_do_not_fit_are_refused(photo, mask, words):
    two = torch.cat((photo, photo))
    with pytest.raises(ValueError, match=words):
        inpaint_aligned(two, restorer=Filler(), mask_BHW=mask)
    with pytest.raises(ValueError, match=words):
        inpaint_photo(two, mask_BHW=mask)


def test_a_face_of_which_nothing_is_left_is_invented_and_it_is_said(photo):
    whole = inpaint_aligned(photo, restorer=Filler(), mask_BHW=torch.ones(1, 8, 8))
    assert facts(whole, "filled_share", "face_gone") == [("filled_share", 0, {"share": 1}), ("face_gone", 0, {})]
    assert "face_gone" not in kinds(inpaint_aligned(photo, restorer=Filler(), mask_BHW=HOLE))
    covered = inpaint_photo(photo, mask_BHW=rectangle(20, 20, 130, 130))
    assert Event("face_gone", 0, FACE) in covered.events
    half_SS = torch.zeros(512, 512, dtype=torch.bool)
    half_SS[:, :256] = True
    assert covered_face(half_SS) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("task", ["restoration", "colorization", "autoencoder"])
def test_a_model_of_another_task_is_refused_with_the_one_to_choose(photo, task):
    words = rf"filler\.pth is a model for {task}; inpainting .*: choose codeformer_inpainting\.pth"
    with pytest.raises(ValueError, match=words):
        inpaint_aligned(photo, restorer=Filler(tasks=(task,)))
    with pytest.raises(ValueError, match=words):
        inpaint_photo(photo, restorer=Filler(tasks=(task,)), face_source=NoDetector())


def test_an_inpainting_model_restores_nothing(photo):
    with pytest.raises(ValueError, match=r"filler\.pth is a model for inpainting; .*choose codeformer\.pth"):
        cf.restore_aligned(photo, restorer=Filler())


# --- the mark does not reach the network -----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(200, 160), (900, 1100)])
def test_nothing_of_the_mark_is_left_outside_the_hole_after_resizing(size):
    clean = torch.rand(1, *size, 3) * 0.6
    mask_1HW = rectangle(50, 31, 37, 41, size)
    seen = {}
    for name, given in (("clean", clean), ("marked", with_white(clean, mask_1HW))):
        filler = Filler()
        inpaint_aligned(given, restorer=filler, mask_BHW=mask_1HW)
        seen[name] = filler.seen[0]
    outside_HW = seen["clean"][1][0, 0] == 0
    assert 0.9 < outside_HW.float().mean() < 1
    difference = (seen["clean"][0] - seen["marked"][0])[0, :, outside_HW].abs().max()
    assert difference < 2.1 / 255


@pytest.mark.parametrize("eye_distance", [13, 26, 160, 420])
def test_nothing_of_the_mark_is_left_outside_the_hole_in_crops(eye_distance):
    """Faces smaller and larger than their crops, the largest averaged down."""
    face = placed_face(500, 450, eye_distance, 17)
    matrix = estimate_alignment(face)
    clean_HW3 = torch.rand(900, 1000, 3) * 0.6
    hole_1HW = rectangle(430, 480, 6, 30, (900, 1000)) > 0.5
    hole_SS = hole_in_crop(hole_1HW[0], matrix)
    assert hole_SS.any() and not hole_SS.all()
    marked_HW3 = with_white(clean_HW3[None], hole_1HW.float())[0]
    difference_3SS = (crop_face(marked_HW3, matrix) - crop_face(clean_HW3, matrix)).abs()
    assert difference_3SS[:, hole_SS].max() > 0.3
    assert difference_3SS[:, ~hole_SS].max() < 1.1 / 255


def test_the_soft_edge_is_whole_on_the_hole_and_gone_a_few_pixels_away():
    soft_HW = with_soft_edge(rectangle(30, 30, 10, 20, (80, 90)) > 0.5)[0]
    assert soft_HW[29:41, 29:51].min() == 1
    assert soft_HW.count_nonzero() == (10 + 12) * (20 + 12)
    assert 0 < soft_HW[26, 40] < 1 and soft_HW[23, 40] == 0


# --- whole pictures --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("marked_by", ["mask", "white"])
def test_a_hole_in_a_face_is_filled_and_nothing_else_changes(photo, marked_by):
    given = with_white(photo, HOLE)
    before = given.clone()
    inpainted = inpaint_photo(given, **({"mask_BHW": HOLE} if marked_by == "mask" else {}))
    assert torch.equal(given, before) and inpainted.images_BHWC.shape == given.shape
    hole_BHW = HOLE > 0.5
    assert (inpainted.images_BHWC[hole_BHW] - FILL).abs().max() < 0.01
    assert inpainted.masks_BHW[hole_BHW].min() > 0.98
    far_BHW = with_soft_edge(hole_BHW) == 0
    assert torch.equal(inpainted.images_BHWC[far_BHW], given[far_BHW]) and not inpainted.masks_BHW[far_BHW].any()
    # Next to the hole the crop is a view of the picture as it was: nothing of the mark, little of the fill.
    edge_BHW = ~far_BHW & ~hole_BHW
    assert (inpainted.images_BHWC - photo)[edge_BHW].abs().mean() < 0.1
    assert inpainted.faces.per_image == ((FACE,),)
    assert facts(inpainted) == [
        ("faces", 0, {"found": 1, "filled": 1}),
        ("detector", None, {"detector": "given"}),
        ("filled_by", None, {"restorer": "filler.pth"}),
    ]


def test_a_thin_line_across_a_large_face_is_filled_and_the_face_stays_sharp():
    """The crop is coarser than the picture: it may be seen in the line and next to it, no further."""
    picture = torch.rand((1, 1200, 1200, 3), generator=torch.Generator().manual_seed(1)) * 0.2 + 0.4
    line = rectangle(600, 500, 1, 200, (1200, 1200))
    given = with_white(picture, line)
    inpainted = inpaint_photo(given, placed_face(600, 600, 300))
    # A line thinner than a pixel of the crop is drawn with some of what lies beside it.
    assert (inpainted.images_BHWC[line > 0.5] - FILL).abs().max() < 0.12
    changed_1HW = (inpainted.images_BHWC != given).any(-1)
    assert changed_1HW.any() and not changed_1HW[with_soft_edge(line > 0.5) == 0].any()


def test_a_hole_beside_the_face_is_filled_as_far_as_its_crop_reaches(photo):
    """In the hair, on the neck: the crop shows more than the face's outline."""
    beside = rectangle(108, 60, 8, 14)
    inpainted = inpaint_photo(with_white(photo, beside))
    assert (inpainted.images_BHWC[beside > 0.5] - FILL).abs().max() < 0.02


def test_what_lies_on_no_face_stays_and_it_is_said(photo):
    marks = torch.maximum(HOLE, rectangle(70, 200, 20, 26))
    inpainted = inpaint_photo(with_white(photo, marks))
    assert (inpainted.images_BHWC[:, 70:90, 200:226] == 1).all() and inpainted.masks_BHW[0, 80, 210] == 0
    (beside,) = facts(inpainted, "mask_beside_faces", "mask_without_face")
    assert beside == ("mask_beside_faces", 0, {"share": pytest.approx(0.5, abs=0.05)})


def test_a_face_that_is_not_found_can_be_given(photo):
    given = with_white(photo, HOLE)
    missed = inpaint_photo(given, face_source=GivenDetector(((),)))
    assert torch.equal(missed.images_BHWC, given)
    assert facts(missed, "mask_without_face") == [("mask_without_face", 0, {"share": 1})]
    inpainted = inpaint_photo(given, face_source=FaceBatch.of(photo, [[FACE]]))
    assert torch.equal(inpainted.images_BHWC, inpaint_photo(given).images_BHWC)
    assert steps(inpainted) == {0: {"given": 1, "filled": 1}}


def test_only_faces_with_a_mark_are_worked_on(photo):
    other = placed_face(200, 90, 20)
    three = torch.cat((photo, with_white(photo, HOLE), photo))
    three = torch.cat((three, torch.rand(three[..., :1].shape)), -1)
    filler = Filler()
    inpainted = inpaint_photo(three, FACE, other, restorer=filler)
    assert inpainted.images_BHWC.shape == three.shape
    assert torch.equal(inpainted.images_BHWC[..., 3], three[..., 3])
    assert torch.equal(inpainted.images_BHWC[[0, 2]], three[[0, 2]])
    assert inpainted.faces.per_image == ((), (FACE,), ())
    assert [len(faces) for faces, _ in filler.seen] == [1]


def test_overlapping_faces_are_both_filled(photo):
    near = placed_face(100, 84, 24)
    inpainted = inpaint_photo(with_white(photo, HOLE), FACE, near)
    assert (inpainted.images_BHWC[HOLE > 0.5] - FILL).abs().max() < 0.02
    assert inpainted.faces.count == 2


def test_a_gray_photo_stays_gray(photo):
    gray = photo.mean(-1, keepdim=True).expand(-1, -1, -1, 3)
    red = torch.where(HOLE[..., None] > 0.5, torch.tensor((1.0, 0.0, 0.0)), gray)
    inpainted = inpaint_photo(red, mask_BHW=HOLE)
    filled = inpainted.images_BHWC[HOLE > 0.5]
    assert (filled.amax(-1) - filled.amin(-1)).max() < 0.02
    assert filled.mean() == pytest.approx(0.453, abs=0.02)  # the luma of FILL


def test_a_face_half_outside_the_picture(photo):
    given = with_white(photo, rectangle(60, 0, 30, 20))
    inpainted = inpaint_photo(given, placed_face(0, 75, 26))
    assert inpainted.images_BHWC.shape == given.shape and inpainted.images_BHWC.isfinite().all()
    assert (inpainted.images_BHWC[:, 65:85, 2:15] - FILL).abs().max() < 0.02
