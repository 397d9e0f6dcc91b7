"""The pipeline around the networks: pictures in, the same pictures out with their faces restored, and nothing else."""

from __future__ import annotations

import dataclasses
import logging
import math

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

import codeformer_core as cf
from codeformer_core.faces.events import METHOD_KINDS
from codeformer_core.faces.types import Face
from codeformer_core.pipeline.align import align_face

from .conftest import as_it_is, placed_face
from .facts import facts, kinds, steps, why
from .restoring import (
    BOTH,
    FACE,
    HEIGHT,
    OTHER,
    SMALL,
    WIDTH,
    UpperHalfParser,
    WatchedRestorer,
    finds,
    pictures,
    restore,
)
from .test_geometry import waves_picture

# --- pictures in, pictures out ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("count", [1, 3])
def test_as_many_pictures_of_the_same_size(count, channels):
    given = pictures(count, channels)
    result = restore(given)
    assert result.images_BHWC.shape == (count, HEIGHT, WIDTH, 4 if channels in (2, 4) else 3)
    assert result.masks_BHW.shape == (count, HEIGHT, WIDTH)
    assert result.images_BHWC.dtype == result.masks_BHW.dtype == torch.float32
    assert len(result.faces) == len(result.skipped) == count
    assert len(result.crops) == 2 * count
    assert result.images_BHWC.isfinite().all() and result.masks_BHW.min() >= 0 and result.masks_BHW.max() <= 1


def test_only_faces_change():
    given = pictures()
    result = restore(given)
    untouched_HW = result.masks_BHW[0] == 0
    assert 0.3 < untouched_HW.float().mean() < 0.99
    assert torch.equal(result.images_BHWC[0][untouched_HW], given[0][untouched_HW])
    for x, y in ((70, 60), (150, 80)):
        assert result.masks_BHW[0, y, x] > 0.99
        assert torch.allclose(result.images_BHWC[0, y, x], 1 - given[0, y, x], atol=0.02)


@pytest.mark.parametrize("parity", [False, True])
@pytest.mark.parametrize("options", [{}, {"upscale": 2.0}, {"mask": "box", "opacity": 0.5}, {"background": "given"}])
def test_what_was_given_is_not_written_to(options, parity):
    given = pictures(2, 4)
    before = given.clone()
    background = {"background": given} if "background" in options else {}
    result = restore(given, parity=parity, parser=UpperHalfParser(), **{**options, **background})
    assert torch.equal(given, before)
    result.images_BHWC.zero_()
    result.masks_BHW.zero_()
    assert torch.equal(given, before)


def test_a_batch_of_stride_0_is_read_and_not_written_to():
    one = pictures()
    result = restore(one.expand(3, -1, -1, -1))
    expected = restore(one)
    assert all(torch.equal(image_HWC, expected.images_BHWC[0]) for image_HWC in result.images_BHWC)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_pictures_of_another_precision(dtype):
    given = pictures().to(dtype)
    result = restore(given)
    assert result.images_BHWC.dtype == torch.float32
    assert torch.equal(result.images_BHWC, restore(given.float()).images_BHWC)


def test_pictures_that_carry_gradients_come_back_without():
    def upscaler(images_BHW3: Tensor) -> Tensor:
        return images_BHW3 * torch.ones((), requires_grad=True)

    for result in (
        restore(pictures().requires_grad_(), background=upscaler, face_upscaler=upscaler, upscale=2.0).images_BHWC,
        cf.restore_aligned(pictures().requires_grad_(), restorer=WatchedRestorer()).images_BHWC,
    ):
        assert not result.requires_grad
        result.numpy()


def test_a_batch_gives_what_its_pictures_give_alone():
    given = pictures(3)
    faces = ((FACE,), (), BOTH)
    together = restore(given, *faces, batch_size=4)
    for index in range(3):
        alone = restore(given[index : index + 1], *faces, batch_size=1)
        assert torch.equal(together.images_BHWC[index], alone.images_BHWC[0])
        assert torch.equal(together.masks_BHW[index], alone.masks_BHW[0])
        assert together.faces[index] == alone.faces[0] == faces[index]
    assert [crop.aligned.image for crop in together.crops] == [0, 2, 2]


@pytest.mark.parametrize(("shape", "upscale"), [((1, 1), 1.0), ((1, 90), 1.0), ((90, 1), 2.0), ((3, 2), 1.5)])
def test_the_smallest_pictures(shape, upscale):
    given = torch.rand(1, *shape, 3)
    result = restore(given, (placed_face(0, 0, 20),), upscale=upscale)
    expected = (1, round(shape[0] * upscale), round(shape[1] * upscale), 3)
    assert result.images_BHWC.shape == expected and result.images_BHWC.isfinite().all()


# --- no face, some faces ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_without_a_face_the_pictures_come_back_as_they_were_and_it_is_said(channels):
    given = pictures(2, channels)
    given[0, 5, 5] = 1.75  # what hosts hand on may lie outside [0, 1]
    restorer = WatchedRestorer()
    result = restore(given, (), restorer=restorer)
    expected = given if channels >= 3 else torch.cat((given[..., :1].expand(-1, -1, -1, 3), given[..., 1:]), -1)
    assert torch.equal(result.images_BHWC, expected)
    assert not result.masks_BHW.any() and result.crops == () and restorer.batches == []
    nobody = {"found": 0, "restored": 0}
    assert steps(result) == {0: nobody, 1: nobody} and kinds(result) == {"faces", "detector"}


def test_some_pictures_with_faces_and_some_without():
    given = pictures(4)
    result = restore(given, (), (FACE,), (), BOTH)
    for index, faces in enumerate(((), (FACE,), (), BOTH)):
        assert result.faces[index] == faces
        assert torch.equal(result.images_BHWC[index], given[index]) == (not faces)
    assert [entry["restored"] for entry in steps(result).values()] == [0, 1, 0, 2]


@pytest.mark.parametrize(
    ("which", "restored"), [("all", (FACE, OTHER, SMALL)), ("largest", (FACE,)), ("center", (OTHER,))]
)
def test_which_faces(which, restored):
    middle = placed_face(105, 70, 14)
    faces = (SMALL, FACE, middle if which == "center" else OTHER)
    result = restore(pictures(), faces, faces=which)
    assert result.faces[0] == ((middle,) if which == "center" else restored)
    assert len(result.skipped[0]) == 3 - len(result.faces[0])


def test_the_smallest_face():
    result = restore(pictures(), (FACE, SMALL), min_face_size=30)
    assert result.faces[0] == (FACE,)
    assert result.skipped[0][0].face == SMALL
    assert steps(result) == {0: {"found": 2, "restored": 1}}
    assert [event.face for event in result.events if event.kind == "too_small"] == [SMALL]


def test_identical_boxes_are_one_face():
    result = restore(pictures(), (FACE, FACE))
    assert result.faces[0] == (FACE,) and len(result.crops) == 1
    assert torch.equal(result.images_BHWC, restore(pictures(), (FACE,)).images_BHWC)
    assert why(result.skipped[0]) == [("duplicate", {})]


def test_landmarks_that_form_no_face_are_skipped_and_it_is_said():
    unplaced = Face((10, 10, 60, 60), ((math.nan, math.nan),) * 5, 0.9)
    result = restore(pictures(), (unplaced, FACE))
    assert result.faces[0] == (FACE,)
    assert why(result.skipped[0]) == [("not_finite", {})]


@pytest.mark.parametrize(("x", "y"), [(0, 60), (WIDTH - 1, 60), (70, 0), (70, HEIGHT - 1), (0, 0)])
def test_a_face_half_outside_the_picture(x, y):
    given = pictures()
    result = restore(given, (placed_face(x, y, 20),))
    assert result.masks_BHW[0, y, x] > 0.99
    assert result.images_BHWC.isfinite().all()
    untouched_HW = result.masks_BHW[0] == 0
    assert torch.equal(result.images_BHWC[0][untouched_HW], given[0][untouched_HW])


def test_a_face_outside_the_picture_is_not_called_restored():
    given = pictures()
    result = restore(given, (placed_face(-400, 60, 20), FACE))
    assert result.faces == ((FACE,),) and len(result.crops) == 1
    assert why(result.skipped[0]) == [("outside_image", {})]


def test_the_result_says_with_what():
    assert facts(restore(pictures(), fidelity=0.25), *METHOD_KINDS) == [
        ("restored_by", None, {"restorer": "watched.pth"}),
        ("fidelity", None, {"fidelity": 0.25}),
        ("mask_outline_instead", None, {}),
        ("detector", None, {"detector": "given"}),
    ]
    official = restore(pictures(), parser=UpperHalfParser(), parity=True)
    assert facts(official, "mask_face", "official_recipe") == [
        ("mask_face", None, {"parser": "upper half"}),
        ("official_recipe", None, {}),
    ]
    assert "mask_box" in kinds(restore(pictures(), mask="box", parser=UpperHalfParser()))
    assert "mask_outline" in kinds(restore(pictures(), mask="outline", parser=UpperHalfParser()))
    assert {"mask_box_instead", "official_recipe"} <= kinds(restore(pictures(), parity=True))


# --- colour and alpha ------------------------------------------------------------------------------------------------


def test_gray_pictures_stay_gray():
    for channels in (1, 2):
        result = restore(pictures(1, channels))
        rgb_BHW3 = result.images_BHWC[..., :3]
        assert result.masks_BHW.max() > 0.99
        assert (rgb_BHW3 - rgb_BHW3.mean(-1, keepdim=True)).abs().max() < 1e-5
        assert rgb_BHW3.min() >= 0 and rgb_BHW3.max() <= 1


def test_a_gray_faces_tones_are_its_inputs():
    given = pictures(1, 1)
    crop = restore(given, (FACE,)).crops[0]
    assert torch.allclose(crop.restored_3HW.mean((1, 2)), crop.crop_3HW.mean((1, 2)), atol=0.02)
    assert torch.allclose(crop.restored_3HW.std((1, 2)), crop.crop_3HW.std((1, 2)), atol=0.02)


@pytest.mark.parametrize("upscale", [1.0, 2.0])
@pytest.mark.parametrize("channels", [2, 4])
def test_alpha_comes_back_and_grows_with_the_picture(channels, upscale):
    given = pictures(2, channels)
    result = restore(given, upscale=upscale)
    alpha_BHW = result.images_BHWC[..., 3]
    assert alpha_BHW.shape == (2, HEIGHT * upscale, WIDTH * upscale)
    if upscale == 1:
        assert torch.equal(alpha_BHW, given[..., -1])
    assert (alpha_BHW[:, :, 0] < 0.01).all() and (alpha_BHW[:, :, -1] > 0.99).all()
    assert (alpha_BHW.diff(dim=2) >= 0).all()


# --- progress, batches, memory ---------------------------------------------------------------------------------------


def test_progress_is_told_between_batches():
    told: list[tuple[str, int, int]] = []
    restore(pictures(6), batch_size=8, on_progress=lambda *step: told.append(step))
    assert told == [
        ("finding faces", 0, 6),
        ("finding faces", 4, 6),
        ("finding faces", 6, 6),
        ("restoring faces", 0, 12),
        ("restoring faces", 8, 12),
        ("restoring faces", 12, 12),
    ]
    told.clear()
    restore(pictures(), (), on_progress=lambda *step: told.append(step))
    assert told == [("finding faces", 0, 1), ("finding faces", 1, 1)]


class Cancelled(BaseException):
    """As hosts do, not an Exception."""


@pytest.mark.parametrize(
    ("stop", "batches"),
    [(("finding faces", 0), 0), (("finding faces", 2), 0), (("restoring faces", 0), 0), (("restoring faces", 2), 2)],
)
def test_a_raising_progress_cancels(stop, batches):
    restorer = WatchedRestorer()
    given = pictures(2)
    before = given.clone()

    def cancel(stage: str, done: int, total: int) -> None:
        if (stage, done) == stop:
            raise Cancelled

    with pytest.raises(Cancelled):
        restore(given, restorer=restorer, on_progress=cancel, batch_size=1)
    assert len(restorer.batches) == batches
    assert torch.equal(given, before)


@pytest.mark.parametrize(("batch_size", "batches"), [(1, [1] * 6), (4, [4, 2]), (100, [6]), (None, [1] * 6)])
def test_faces_of_all_pictures_share_batches(batch_size, batches):
    restorer = WatchedRestorer()
    restore(pictures(3), restorer=restorer, batch_size=batch_size, fidelity=0.3)
    # None on a CPU: one at a time, as more are no faster.
    assert restorer.batches == batches
    assert restorer.fidelities == [0.3] * len(batches)


def test_the_restorer_says_how_many_faces_at_once():
    restorer = WatchedRestorer(at_once=4)
    restore(pictures(3), restorer=restorer)
    assert restorer.batches == [4, 2]


def test_out_of_memory_goes_on_with_smaller_batches(caplog):
    given = pictures(4)
    restorer = WatchedRestorer(most=2)
    told: list[int] = []
    with caplog.at_level(logging.WARNING):
        result = restore(
            given, restorer=restorer, batch_size=8, on_progress=lambda stage, done, total: told.append(done)
        )
    assert restorer.batches == [8, 4, 2, 2, 2, 2]
    assert told[-5:] == [0, 2, 4, 6, 8]
    assert "continuing with 2" in caplog.text
    assert torch.equal(result.images_BHWC, restore(given, batch_size=8).images_BHWC)
    assert len(result.crops) == 8


def test_out_of_memory_with_a_single_face_is_told():
    with pytest.raises(torch.OutOfMemoryError):
        restore(pictures(), restorer=WatchedRestorer(most=0))


# --- the published recipe --------------------------------------------------------------------------------------------


def in_enlarged_pixels(face: Face, factor: float) -> Face:
    return dataclasses.replace(
        face,
        box_xyxy=tuple(value * factor for value in face.box_xyxy),
        landmarks_xy=tuple((x * factor, y * factor) for x, y in face.landmarks_xy),
    )


def test_parity_enlarges_small_pictures_and_tells_faces_in_the_given_pixels():
    given = pictures(1, 4)
    enlarged_by = 512 / HEIGHT
    result = restore(given, (in_enlarged_pixels(FACE, enlarged_by),), parity=True)
    assert result.images_BHWC.shape == (1, 512, int(WIDTH * enlarged_by), 4)
    assert result.faces[0][0].box_xyxy == pytest.approx(FACE.box_xyxy)
    assert sum(result.faces[0][0].landmarks_xy, ()) == pytest.approx(sum(FACE.landmarks_xy, ()))
    levels = result.images_BHWC[..., :3] * 255
    assert torch.allclose(levels, levels.round(), atol=1e-3)


@pytest.mark.parametrize(("height", "width"), [(140, 200), (200, 140), (141, 333), (511, 513), (21, 91), (512, 600)])
def test_parity_enlarges_as_opencv_does(height, width):
    """By the factor of the shorter side, sizes rounded; the official program gives cv2.resize a factor, not a size."""
    levels_HW3 = (waves_picture(height, width) * 255).round()
    factor = max(512 / min(height, width), 1)
    expected = cv2.resize(
        levels_HW3.to(torch.uint8).numpy(), None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR
    )
    result = restore(levels_HW3[None] / 255, (), parity=True)
    assert np.array_equal((result.images_BHWC[0] * 255).round().numpy(), expected)
    doubled = restore(levels_HW3[None] / 255, (), parity=True, upscale=2.0).images_BHWC
    assert doubled.shape[1:3] == (2 * expected.shape[0], 2 * expected.shape[1])


def test_parity_measures_the_smallest_face_in_the_given_pixels():
    seen_large = in_enlarged_pixels(FACE, 512 / HEIGHT)
    for smallest, kept in ((FACE.width - 1, 1), (FACE.width + 1, 0)):
        assert len(restore(pictures(), (seen_large,), parity=True, min_face_size=smallest).faces[0]) == kept


# --- with a network --------------------------------------------------------------------------------------------------


def test_a_real_network_in_the_pipeline(tiny_restorer, astronaut, astronaut_face):
    result = cf.restore_images(
        astronaut[None], restorer=tiny_restorer, detector=finds((astronaut_face,)), **as_it_is(fidelity=0.5)
    )
    crop = result.crops[0]
    expected_1HW = tiny_restorer.restore(crop.crop_3HW[None] * 2 - 1, 0.5)
    assert torch.equal(crop.restored_3HW, ((expected_1HW + 1) / 2)[0])
    assert result.masks_BHW.max() > 0.99


# --- faces that were found before ------------------------------------------------------------------------------------


def test_given_faces_are_all_restored_and_nothing_is_detected():
    given = pictures(2)
    one = cf.FaceBatch.of(given, [BOTH[:1], ()])
    result = cf.restore_images(
        given, restorer=WatchedRestorer(), detector=one, **as_it_is(min_face_size=1000, faces="largest")
    )
    assert result.faces == (BOTH[:1], ()) and "detector" not in kinds(result)
    assert torch.equal(result.images_BHWC[1], given[1])
    assert steps(result) == {0: {"given": 1, "restored": 1}, 1: {"given": 0, "restored": 0}}
    assert torch.equal(result.images_BHWC[0], restore(given, BOTH[:1], ()).images_BHWC[0])


def test_given_faces_in_the_published_recipe_lie_where_they_were():
    """It enlarges small pictures, and the faces with them."""
    given = pictures()
    result = cf.restore_images(given, restorer=WatchedRestorer(), detector=cf.FaceBatch.of(given, [BOTH]), parity=True)
    usual = restore(given, mask="box")
    assert result.masks_BHW.shape[1] == 512
    shrunk_BHW = torch.nn.functional.interpolate(result.masks_BHW[:, None], (HEIGHT, WIDTH), mode="area")[:, 0]
    usual_BHW = usual.masks_BHW
    assert (shrunk_BHW - usual_BHW).abs().mean() < 0.01 and usual_BHW.mean() > 0.1
    assert [face.score for face in result.faces[0]] == [face.score for face in usual.faces[0]]
    for face, same in zip(result.faces[0], usual.faces[0], strict=True):
        assert face.box_xyxy == pytest.approx(same.box_xyxy)


def test_given_faces_of_other_pictures_are_refused():
    faces = cf.FaceBatch.of(pictures(2), [BOTH, BOTH])
    with pytest.raises(ValueError, match="belong to 2 images, but 1 image came"):
        cf.restore_images(pictures(), restorer=WatchedRestorer(), detector=faces)


# --- aligned by somebody else ----------------------------------------------------------------------------------------


def test_faces_that_are_aligned_already_stay_so():
    """As a video's tracker hands them over: with its own matrices and tracks."""
    given = pictures()
    one = align_face(0, FACE)
    assert one is not None
    moved = dataclasses.replace(one, matrix=one.matrix + np.array([(0, 0, 7), (0, 0, -5)]), track=3)
    result = cf.restore_images(given, restorer=WatchedRestorer(), detector=[moved], **as_it_is("box"))
    (crop,) = result.crops
    assert crop.aligned.track == 3 and np.array_equal(crop.aligned.matrix, moved.matrix)
    assert result.faces[0] == (FACE,) and steps(result) == {0: {"given": 1, "restored": 1}}
    usual = restore(given, detector=cf.FaceBatch.of(given, [[FACE]]), mask="box")
    assert not torch.equal(result.images_BHWC, usual.images_BHWC)


@pytest.mark.parametrize("parity", [False, True])
def test_a_face_outside_the_image_is_skipped_before_any_network(parity):
    restorer = WatchedRestorer()
    result = restore(pictures(), (placed_face(5000, 5000, 20),), parity=parity, restorer=restorer)
    assert result.faces == ((),) and why(result.skipped[0]) == [("outside_image", {})]
    assert restorer.batches == []


def test_a_face_of_which_nothing_shows_is_skipped_with_the_reason():
    result = restore(pictures(), (FACE,), opacity=0.0)
    assert result.faces == ((),) and why(result.skipped[0]) == [("opacity_zero", {})]
