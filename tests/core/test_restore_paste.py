"""How restored faces go into their images: masks, opacity, upscale, backgrounds."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import codeformer_core as cf

from .conftest import as_it_is, placed_face
from .restoring import BOTH, FACE, HEIGHT, OTHER, WIDTH, UpperHalfParser, WatchedRestorer, finds, pictures, restore

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
