"""The pipeline around the networks: pictures in, the same pictures out with their faces restored, and nothing else."""

from __future__ import annotations

import dataclasses
import logging
import math
from dataclasses import dataclass, field

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

import codeformer_core as cf
from codeformer_core.faces.events import METHOD_KINDS
from codeformer_core.faces.types import Face
from codeformer_core.pipeline.align import align_face
from codeformer_core.runtime import memory
from codeformer_core.runtime.memory import GIB, NotEnoughMemory

from .conftest import GivenDetector, as_it_is, placed_face
from .facts import facts, kinds, steps, why
from .test_geometry import waves_picture

HEIGHT, WIDTH = 140, 200
FACE = placed_face(70, 60, 20)
OTHER = placed_face(150, 80, 16, degrees=15)
SMALL = placed_face(30, 110, 8)
BOTH = (FACE, OTHER)


@dataclass
class WatchedRestorer:
    """Inverts faces and notes what it is asked; out of memory above `most` faces at a time."""

    most: int = 1000
    name: str = "watched.pth"
    tasks: tuple[str, ...] = ("restoration",)
    uses_fidelity: bool = True
    recommended_fidelity: float = 0.5
    needs_landmarks: bool = False
    at_once: int = 1
    batches: list[int] = field(default_factory=list)
    fidelities: list[float] = field(default_factory=list)

    def faces_at_once(self) -> int:
        return self.at_once

    def restore(self, faces_B3HW: Tensor, fidelity: float = 0.5, component_boxes_B44: Tensor | None = None) -> Tensor:
        assert faces_B3HW.shape[1:] == (3, 512, 512) and faces_B3HW.dtype == torch.float32
        self.batches.append(len(faces_B3HW))
        self.fidelities.append(fidelity)
        if len(faces_B3HW) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return -faces_B3HW


@dataclass(frozen=True)
class UpperHalfParser:
    """Calls the upper half of every crop skin."""

    name: str = "upper half"
    module: None = None

    def parse(self, faces_B3HW: Tensor) -> Tensor:
        assert faces_B3HW.shape[1:] == (3, 512, 512)
        labels_BHW = torch.zeros((len(faces_B3HW), 512, 512), dtype=torch.uint8)
        labels_BHW[:, :256] = 1
        return labels_BHW


def finds(*per_image: tuple[Face, ...]) -> GivenDetector:
    """The same faces in every picture, or for picture i (see `pictures`) the i-th faces."""
    return GivenDetector(per_image)


def pictures(count: int = 1, channels: int = 3) -> Tensor:
    """Colourful ones (gray ones of 1 and 2 channels); the first pixel's red tells the detector which it is."""
    waves_HW3 = waves_picture(HEIGHT, WIDTH)
    batch_BHW3 = torch.stack([waves_HW3.roll(9 * index, 1) for index in range(count)])
    batch_BHW3[:, 0, 0, 0] = torch.arange(count) / 255
    colour_BHWC = batch_BHW3 if channels >= 3 else batch_BHW3[..., :1]
    if channels in (1, 3):
        return colour_BHWC.clone()
    alpha_BHW1 = torch.linspace(0, 1, WIDTH).expand(count, HEIGHT, WIDTH)[..., None]
    return torch.cat((colour_BHWC, alpha_BHW1), -1)


def restore(images_BHWC: Tensor, *faces: tuple[Face, ...], **options) -> cf.RestoredImages:
    options.setdefault("restorer", WatchedRestorer())
    options.setdefault("detector", finds(*faces or (BOTH,)))
    return cf.restore_images(images_BHWC, **as_it_is(**options))


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


# --- upscale and background ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("upscale", [1.5, 2.0, 3.3])
def test_upscaled(upscale):
    given = pictures(2)
    result = restore(given, upscale=upscale)
    height, width = round(HEIGHT * upscale), round(WIDTH * upscale)
    assert result.images_BHWC.shape == (2, height, width, 3) and result.masks_BHW.shape == (2, height, width)
    enlarged = F.interpolate(given.permute(0, 3, 1, 2), size=(height, width), mode="bicubic").clamp(0, 1)
    untouched_BHW = result.masks_BHW == 0
    assert torch.allclose(result.images_BHWC[untouched_BHW], enlarged.permute(0, 2, 3, 1)[untouched_BHW], atol=1e-5)
    for x, y in ((70, 60), (150, 80)):
        x, y = round((x + 0.5) * upscale - 0.5), round((y + 0.5) * upscale - 0.5)
        assert result.masks_BHW[0, y, x] > 0.99
        assert torch.allclose(result.images_BHWC[0, y, x], 1 - enlarged[0, :, y, x], atol=0.03)
    # Faces are told in pixels of the pictures that came in.
    assert result.faces[0] == BOTH


@dataclass(frozen=True)
class UntouchingRestorer:
    name: str = "untouching"
    tasks: tuple[str, ...] = ("restoration",)
    uses_fidelity: bool = True
    recommended_fidelity: float = 0.5
    needs_landmarks: bool = False

    def faces_at_once(self) -> int:
        return 2

    def restore(self, faces_B3HW: Tensor, fidelity: float = 0.5, component_boxes_B44: Tensor | None = None) -> Tensor:
        return faces_B3HW


@pytest.mark.parametrize("upscale", [1.0, 1.37, 1.5, 2.0, 2.996])
@pytest.mark.parametrize("shape", [(HEIGHT, WIDTH), (101, 167)])
def test_untouched_faces_leave_no_trace(upscale, shape):
    """Faces lie exactly where they were, also where the result's size had to be rounded.

    Slopes, because no resize bends them: half a pixel off would show as 3e-3.
    """
    y_HW, x_HW = torch.meshgrid(*(torch.linspace(0.1, 0.9, side) for side in shape), indexing="ij")
    given = torch.stack((y_HW, x_HW, 1 - y_HW), -1)[None]
    faces = (placed_face(shape[1] - 25, shape[0] - 25, 9, 10), placed_face(55, 50, 16, -20))
    result = restore(given, faces, restorer=UntouchingRestorer(), upscale=upscale)
    enlarged = restore(given, (), upscale=upscale)
    assert (result.masks_BHW > 0.99).any() and len(result.crops) == 2
    assert (result.images_BHWC - enlarged.images_BHWC).abs().max() < 6e-4


@pytest.mark.parametrize("size", [(HEIGHT, WIDTH), (2 * HEIGHT, 2 * WIDTH), (70, 90), (601, 333)])
@pytest.mark.parametrize("count", [1, 2])
def test_a_background_of_any_size(count, size):
    given = pictures(2)
    colours = torch.tensor([[0.9, 0.1, 0.2], [0.1, 0.2, 0.9]])[:count]
    background = colours.view(count, 1, 1, 3).expand(count, *size, 3)
    result = restore(given, (FACE,), upscale=2.0, background=background)
    assert result.images_BHWC.shape == (2, 2 * HEIGHT, 2 * WIDTH, 3)
    for index in range(2):
        untouched_HW = result.masks_BHW[index] == 0
        expected = colours[index % count].expand(int(untouched_HW.sum()), 3)
        assert torch.allclose(result.images_BHWC[index][untouched_HW], expected, atol=1e-5)
        # The face is the picture's, not the background's.
        assert torch.allclose(result.images_BHWC[index, 120, 140], 1 - given[index, 60, 70], atol=0.03)


@pytest.mark.parametrize("channels", [1, 4])
def test_a_background_of_other_channels_lends_its_colour(channels):
    background = torch.full((1, HEIGHT, WIDTH, channels), 0.25)
    result = restore(pictures(), (), background=background)
    assert result.images_BHWC.shape[-1] == 3
    assert torch.allclose(result.images_BHWC, torch.tensor(0.25))


def test_a_background_that_enlarges():
    asked: list[tuple[int, ...]] = []

    def upscaler(images_BHW3: Tensor) -> Tensor:
        asked.append(tuple(images_BHW3.shape))
        return F.interpolate(images_BHW3.permute(0, 3, 1, 2), scale_factor=4.0).permute(0, 2, 3, 1) * 0 + 0.5

    result = restore(pictures(3, 4), (FACE,), upscale=2.0, background=upscaler)
    # One picture at a time, colour only; its own factor of 4 is made to fit.
    assert asked == [(1, HEIGHT, WIDTH, 3)] * 3
    assert result.images_BHWC.shape == (3, 2 * HEIGHT, 2 * WIDTH, 4)
    assert torch.allclose(result.images_BHWC[..., :3][result.masks_BHW == 0], torch.tensor(0.5))


def test_a_background_that_hands_back_what_it_got_is_not_written_to():
    given = pictures()
    before = given.clone()
    result = restore(given, background=lambda images_BHW3: images_BHW3)
    assert torch.equal(given, before)
    assert torch.equal(result.images_BHWC, restore(given).images_BHWC)


@pytest.mark.parametrize(
    ("background", "complaint"),
    [
        (torch.zeros(3, 9, 9, 3), "there are 2 images but 3 backgrounds: give one for each, or one for all"),
        (torch.zeros(9, 9, 3), "backgrounds must be a tensor of shape"),
        (torch.zeros((2, 9, 9, 3), dtype=torch.uint8), "backgrounds must be floats"),
        (torch.tensor([0.0, torch.nan]).view(2, 1, 1, 1), "backgrounds: number 2 holds 1 values that are NaN"),
        (lambda images: images[0], "backgrounds must be a tensor of shape"),
        (lambda images: images.expand(2, -1, -1, -1), "there are 1 images but 2 backgrounds"),
        (lambda images: None, "backgrounds must be a tensor of shape .*got NoneType"),
    ],
)
def test_bad_backgrounds(background, complaint):
    restorer = WatchedRestorer()
    with pytest.raises(ValueError, match=complaint):
        restore(pictures(2), background=background, restorer=restorer)
    assert restorer.batches == []


def test_a_face_upscaler_is_asked_only_when_something_grows():
    asked: list[tuple[int, ...]] = []

    def double(images_BHW3: Tensor) -> Tensor:
        asked.append(tuple(images_BHW3.shape))
        return F.interpolate(images_BHW3.permute(0, 3, 1, 2), scale_factor=2.0, mode="bilinear").permute(0, 2, 3, 1)

    given = pictures()
    restore(given, (FACE,), face_upscaler=double)
    # Twice as large, this face still has fewer pixels than its crop.
    restore(given, (FACE,), face_upscaler=double, upscale=2.0)
    assert asked == []
    grown = restore(given, (FACE,), face_upscaler=double, parser=UpperHalfParser(), upscale=8.0)
    assert asked == [(1, 512, 512, 3)]
    plain = restore(given, (FACE,), parser=UpperHalfParser(), upscale=8.0)
    assert (grown.images_BHWC - plain.images_BHWC).abs().mean() < 0.001
    assert (grown.masks_BHW - plain.masks_BHW).abs().mean() < 0.001


# --- mask and opacity ------------------------------------------------------------------------------------------------


def test_the_parsed_shape_or_the_box():
    shaped = restore(pictures(), (FACE,), parser=UpperHalfParser()).masks_BHW[0]
    box = restore(pictures(), (FACE,), parser=UpperHalfParser(), mask="box").masks_BHW[0]
    assert torch.equal(box, restore(pictures(), (FACE,), mask="box").masks_BHW[0])
    assert (shaped <= box + 1e-6).all()
    assert shaped[50, 70] > 0.99 and shaped[75, 70] < 1e-3 and box[75, 70] > 0.99


def test_the_outline_stands_in_for_the_parser():
    box = restore(pictures(), (FACE, OTHER), mask="box").masks_BHW[0]
    outline = restore(pictures(), (FACE, OTHER)).masks_BHW[0]
    asked_for = restore(pictures(), (FACE, OTHER), mask="outline", parser=UpperHalfParser()).masks_BHW[0]
    assert torch.equal(outline, asked_for)
    assert (outline <= box + 1e-6).all() and outline.sum() < 0.7 * box.sum()
    for face in (FACE, OTHER):
        for x, y in face.landmarks_xy:
            assert outline[round(y), round(x)] > 0.99
    # The published recipe has no such shape.
    parity, parity_box = (restore(pictures(), (FACE,), mask=mask, parity=True) for mask in ("face", "box"))
    assert torch.equal(parity.images_BHWC, parity_box.images_BHWC)


def test_the_outline_grows_with_the_picture():
    shifted = UntouchingRestorer()
    result = cf.restore_images(pictures(), restorer=shifted, detector=finds((FACE,)), **as_it_is(upscale=2.0))
    at_1 = cf.restore_images(pictures(), restorer=shifted, detector=finds((FACE,)), **as_it_is())
    grown = F.interpolate(at_1.masks_BHW[None], scale_factor=2.0, mode="bilinear", align_corners=False)[0]
    assert (result.masks_BHW - grown).abs().max() < 0.1


@pytest.mark.parametrize("opacity", [0.0, 0.5])
def test_opacity(opacity):
    given = pictures()
    whole, part = restore(given), restore(given, opacity=opacity)
    assert torch.allclose(part.masks_BHW, opacity * whole.masks_BHW)
    if opacity == 0:
        assert torch.equal(part.images_BHWC, given)
    assert (part.images_BHWC[0, 60, 70] - given[0, 60, 70].lerp(1 - given[0, 60, 70], opacity)).abs().max() < 0.02


# --- crops -----------------------------------------------------------------------------------------------------------


def test_crops_are_kept_or_not():
    result = restore(pictures(2))
    assert [(crop.aligned.image, crop.aligned.face) for crop in result.crops] == [
        (0, FACE),
        (0, OTHER),
        (1, FACE),
        (1, OTHER),
    ]
    for crop in result.crops:
        assert crop.crop_3HW.shape == crop.restored_3HW.shape == (3, 512, 512)
        assert torch.allclose(crop.restored_3HW, 1 - crop.crop_3HW, atol=1e-6)
        assert not crop.aligned.matrix.flags.writeable
    without = restore(pictures(2), keep_crops=False)
    assert without.crops == ()
    assert torch.equal(without.images_BHWC, result.images_BHWC)


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan, math.inf])
def test_fidelity_and_opacity_outside_0_to_1(value):
    for name in ("fidelity", "opacity"):
        with pytest.raises(ValueError, match=f"{name} must be from 0"):
            restore(pictures(), **{name: value})
    with pytest.raises(ValueError, match="fidelity must be from 0"):
        cf.restore_aligned(pictures(), restorer=WatchedRestorer(), fidelity=value)


@pytest.mark.parametrize("upscale", [0.99, 0, -2, math.nan, -math.inf])
def test_upscale_below_1(upscale):
    with pytest.raises(ValueError, match=r"upscale must be from 1 to 64, got .*; resize the result instead"):
        restore(pictures(), upscale=upscale)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"mask": "oval"}, "mask must be one of face, outline, box, got 'oval'"),
        ({"faces": "biggest"}, "which faces must be one of all, largest, center, got 'biggest'"),
        ({"min_face_size": -1}, "smallest face must be 0 or more"),
        ({"min_face_size": math.nan}, "smallest face must be 0 or more"),
        ({"batch_size": 0}, "batch size must be 1 or more, got 0"),
    ],
)
def test_other_options(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        restore(pictures(), **options)


@pytest.mark.parametrize("task", ["colorization", "inpainting", "autoencoder"])
def test_a_model_for_another_task_is_refused(task):
    restorer = WatchedRestorer(name="codeformer_colorization.pth", tasks=(task,))
    complaint = f"codeformer_colorization.pth is a model for {task}; .* choose codeformer.pth"
    with pytest.raises(ValueError, match=complaint):
        restore(pictures(), restorer=restorer)
    with pytest.raises(ValueError, match=complaint):
        cf.restore_aligned(pictures(), restorer=restorer)


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        (torch.zeros(HEIGHT, WIDTH, 3), "must be a tensor of shape"),
        (torch.zeros((1, 9, 9, 3), dtype=torch.uint8), "divide 8-bit values by 255"),
        (torch.zeros(1, 0, 9, 3), "nothing to work on"),
        (torch.zeros(1, 9, 9, 5), "1 to 4 channels"),
        (torch.full((1, 9, 9, 3), torch.nan), "243 values that are NaN"),
        (torch.full((1, 9, 9, 3), torch.inf), "NaN or infinite"),
        ([1, 2], "got list"),
    ],
)
@pytest.mark.parametrize("parity", [False, True])
def test_bad_pictures(bad, complaint, parity):
    with pytest.raises(ValueError, match=complaint):
        restore(bad, parity=parity)
    with pytest.raises(ValueError, match=complaint):
        cf.restore_aligned(bad, restorer=WatchedRestorer())


@pytest.mark.parametrize("upscale", [65, 1e308, math.inf])
def test_an_upscale_beyond_any_use(upscale):
    with pytest.raises(ValueError, match=r"upscale must be from 1 to 64, got "):
        restore(pictures(), upscale=upscale)


def test_aligned_faces_that_do_not_fit(monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda device: 4 * GIB)
    huge = torch.zeros(1, 1, 1, 1).expand(1, 20_000, 20_000, 3)
    with NothingComputed(), pytest.raises(NotEnoughMemory, match="a result of 20000x20000 pixels"):
        cf.restore_aligned(huge, restorer=WatchedRestorer())


class NothingComputed(TorchDispatchMode):
    """Fails at the first operation on a tensor but for looking at it another way."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if not function.is_view:
            raise AssertionError(f"computed {function} before the memory was checked")
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("shape", "options", "said"),
    [
        ((1, 20_000, 20_000, 3), {}, "a result of 20000x20000 pixels needs about"),
        ((1, 20_000, 20_000, 4), {}, "a result of 20000x20000 pixels"),
        ((1, 10_000, 10_000, 1), {"upscale": 2.0}, "a result of 20000x20000 pixels"),
        ((400, 1024, 1024, 3), {}, "a result of 400 images of 1024x1024 pixels"),
        # A strip whose shorter side the published recipe enlarges to 512.
        ((1, 1, 5_000, 3), {"parity": True}, "a result of 2560000x512 pixels"),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_memory_is_stated_before_anything_starts(monkeypatch, shape, options, said, dtype):
    """The pictures have one pixel in memory; the first copy of them would take gigabytes."""
    monkeypatch.setattr(memory, "free_bytes", lambda device: 4 * GIB)
    huge = torch.zeros((1, 1, 1, 1), dtype=dtype).expand(shape)
    with NothingComputed(), pytest.raises(NotEnoughMemory) as caught:
        restore(huge, **options)
    assert said in str(caught.value) and "4.0 GiB are free on cpu. Use a smaller image" in str(caught.value)


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


# --- aligned faces ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [(512, 512), (96, 96), (80, 130)])
def test_aligned_faces_come_back_at_their_size(size, channels):
    given = F.interpolate(pictures(2, channels).permute(0, 3, 1, 2), size=size).permute(0, 2, 3, 1)
    before = given.clone()
    result = cf.restore_aligned(given, restorer=WatchedRestorer(), detail=0).images_BHWC
    assert result.shape == (2, *size, 4 if channels in (2, 4) else 3) and result.dtype == torch.float32
    assert torch.equal(given, before)
    if channels in (2, 4):
        assert torch.equal(result[..., 3], given[..., -1])
    if channels >= 3:
        assert (result[..., :3] - (1 - given[..., :3])).abs().mean() < 0.01
    else:
        assert (result[..., 0] - result[..., 1]).abs().max() < 1e-5
        assert torch.allclose(result[..., :3].mean(), given[..., 0].mean(), atol=0.03)


def test_aligned_faces_go_in_batches_with_progress():
    restorer = WatchedRestorer(most=2)
    told: list[tuple[str, int, int]] = []
    cf.restore_aligned(
        pictures(5), restorer=restorer, fidelity=0.1, batch_size=4, on_progress=lambda *step: told.append(step)
    )
    assert restorer.batches == [4, 2, 2, 1]
    assert restorer.fidelities == [0.1] * 4
    assert told == [("restoring faces", done, 5) for done in (0, 2, 4, 5)]


def test_without_a_fidelity_the_restorer_chooses():
    restorer = WatchedRestorer(recommended_fidelity=0.9)
    result = cf.restore_images(pictures(), restorer=restorer, detector=GivenDetector(((FACE,),)))
    crops = cf.restore_aligned(pictures(1), restorer=restorer)
    assert set(restorer.fidelities) == {0.9}
    assert facts(result, "fidelity") == facts(crops, "fidelity") == [("fidelity", None, {"fidelity": 0.9})]
    assert cf.RestoreOptions().fidelity is None


def test_a_crop_that_shows_nothing_stays_as_it_is():
    given = pictures(3)
    given[1] = 0.5
    restorer = WatchedRestorer()
    result = cf.restore_aligned(given, restorer=restorer).images_BHWC
    assert torch.equal(result[1], given[1]) and sum(restorer.batches) == 2
    assert not torch.equal(result[0], given[0]) and not torch.equal(result[2], given[2])


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


# --- what Paste Faces can do -----------------------------------------------------------------------------------------


def test_a_clip_mask_keeps_faces_out():
    given = pictures()
    half_1HW = torch.zeros(1, HEIGHT, WIDTH)
    half_1HW[:, :, : WIDTH // 2] = 1
    whole = restore(given).images_BHWC
    clipped = restore(given, clip_mask_BHW=half_1HW)
    right = (..., slice(WIDTH // 2 + 1, None), slice(None))
    assert torch.equal(clipped.images_BHWC[right], given[right])
    assert not torch.equal(clipped.images_BHWC, given) and not torch.equal(whole[right], given[right])


def test_paste_options_take_the_place_of_mask_and_opacity():
    given = pictures()
    chroma = restore(given, (FACE,), paste=cf.PasteOptions(mask="box", chroma_only=True))
    luma_3 = torch.tensor((0.2989, 0.5870, 0.1140))
    assert ((chroma.images_BHWC[..., :3] - given[..., :3]) @ luma_3).abs().max() < 2e-3
    assert not torch.equal(chroma.images_BHWC, given)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"paste": cf.PasteOptions(color_match="mean-std")}, "knows no color match"),
        ({"paste": cf.PasteOptions(feather=3.0, regions=("eyes",))}, "knows no feather, regions"),
        ({"clip_mask_BHW": torch.ones(1, HEIGHT, WIDTH)}, "knows no clip mask"),
    ],
)
def test_parity_refuses_what_the_official_program_does_not_know(options, words):
    with pytest.raises(ValueError, match=words):
        restore(pictures(), parity=True, **options)


@pytest.mark.parametrize("parity", [False, True])
def test_the_official_recipe_parses_the_finished_face(parity):
    """In 8-bit steps; the usual one parses what the network made."""
    seen: list[Tensor] = []

    class Watching(UpperHalfParser):
        def parse(self, faces_B3HW: Tensor) -> Tensor:
            seen.append(faces_B3HW)
            return super().parse(faces_B3HW)

    restore(pictures(), (FACE,), parser=Watching(), parity=parity)
    steps = (seen[0] + 1) / 2 * 255
    assert bool((steps - steps.round()).abs().max() < 1e-3) == parity


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
