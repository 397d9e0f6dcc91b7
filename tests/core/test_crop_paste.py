"""Cutting faces out and pasting crops back, and which pictures faces belong to."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import codeformer_core as cf
from codeformer_core.faces.batch import unlike_images
from codeformer_core.faces.choices import REGIONS
from codeformer_core.faces.regions import blurred, grown, parse_regions, region_masks
from codeformer_core.imaging.gray import with_luma_of
from codeformer_core.pipeline.color_match import LOW_FREQUENCY_SIGMA, match_color
from tests.core.conftest import InvertingRestorer, as_it_is, placed_face

from .facts import facts, kinds, steps

HEIGHT, WIDTH = 220, 260
FACES = (placed_face(80, 90, 30, 12), placed_face(190, 120, 36, -8))


@pytest.fixture(scope="module")
def photo(astronaut: Tensor) -> Tensor:
    """(1, 220, 260, 3): a detailed picture; the faces' places in it are made up."""
    return astronaut[None, 40 : 40 + HEIGHT, 100 : 100 + WIDTH].clone()


def faces_of(images_BHWC: Tensor, *per_image: tuple[cf.Face, ...]) -> cf.FaceBatch:
    return cf.FaceBatch.of(images_BHWC, per_image or [FACES] * len(images_BHWC))


class TopParser:
    """Calls the crop's upper half skin, its lower half mouth."""

    name = "top"
    module = torch.nn.Identity()

    def bytes_for(self, faces_B3HW: Tensor) -> int:
        return 0

    def parse(self, faces_B3HW: Tensor) -> Tensor:
        labels_BHW = torch.ones((len(faces_B3HW), *faces_B3HW.shape[2:]), dtype=torch.uint8)
        labels_BHW[:, faces_B3HW.shape[2] // 2 :] = 11
        return labels_BHW


# --- crops -----------------------------------------------------------------------------------------------------------


def test_a_crop_for_each_face_in_the_pictures_order(photo):
    two = torch.cat((photo, photo.flip(2)))
    cropped = cf.crop_faces(two, faces_of(two, FACES, FACES[:1]))
    assert cropped.crops_NHW3.shape == (3, 512, 512, 3)
    assert [index for index, _ in cropped.faces.in_order()] == [0, 0, 1]
    assert torch.equal(cropped.crops_NHW3[2], cf.crop_faces(two, faces_of(two, (), FACES[:1])).crops_NHW3[0])
    assert steps(cropped) == {0: {"given": 2, "cropped": 2}, 1: {"given": 1, "cropped": 1}}


def test_no_face_gives_no_crop(photo):
    cropped = cf.crop_faces(photo, faces_of(photo, ()))
    assert cropped.crops_NHW3.shape == (0, 512, 512, 3) and steps(cropped) == {0: {"given": 0, "cropped": 0}}


def test_a_face_without_a_shape_is_left_out_and_it_is_said(photo):
    flat = cf.Face((10, 10, 20, 20), ((15, 15),) * 5, 0.9)
    cropped = cf.crop_faces(photo, faces_of(photo, (flat, FACES[0])))
    assert cropped.faces.per_image == ((FACES[0],),) and len(cropped.crops_NHW3) == 1
    assert facts(cropped) == [("faces", 0, {"given": 2, "cropped": 1}), ("no_face_shape", 0, {})]
    assert cropped.events[1].face == flat


def test_faces_of_other_pictures(photo):
    faces = faces_of(photo)
    with pytest.raises(ValueError, match="belong to 1 image, but 2 images came"):
        cf.crop_faces(torch.cat((photo, photo)), faces)
    with pytest.raises(ValueError, match=f"{WIDTH}x{HEIGHT} pixels, but these have {WIDTH}x{HEIGHT - 1}"):
        cf.crop_faces(photo[:, 1:], faces)
    assert ("other_image", 0, {}) in facts(cf.crop_faces(photo.flip(1), faces))


@pytest.mark.parametrize("change", [lambda p: p * 0.9, lambda p: p.mean(-1, keepdim=True).expand(-1, -1, -1, 3)])
def test_a_picture_worked_on_is_still_the_same(photo, change):
    assert unlike_images(faces_of(photo), change(photo)) == []
    assert unlike_images(faces_of(photo), photo.repeat_interleave(2, 1).repeat_interleave(2, 2)) == []


# --- paste -----------------------------------------------------------------------------------------------------------


def inverted_crops(images_BHWC: Tensor, faces: cf.FaceBatch) -> Tensor:
    return 1 - cf.crop_faces(images_BHWC, faces).crops_NHW3


def test_untouched_crops_give_the_picture_back(photo):
    faces = faces_of(photo)
    pasted = cf.paste_faces(photo, cf.crop_faces(photo, faces).crops_NHW3, faces)
    assert torch.equal(pasted.images_BHWC, photo) and not pasted.masks_BHW.any()
    assert pasted.pasted == 0 and kinds(pasted) == {"faces", "crop_unchanged"}


@pytest.mark.parametrize("as_8_bit", [torch.round, torch.floor])
def test_crops_that_were_saved_and_read_again_are_untouched(photo, as_8_bit):
    faces = faces_of(photo)
    read_again = as_8_bit(cf.crop_faces(photo, faces).crops_NHW3 * 255) / 255
    assert torch.equal(cf.paste_faces(photo, read_again, faces).images_BHWC, photo)


def test_where_nothing_shows_it_says_why(photo):
    faces = faces_of(photo)
    crops_NHW3 = inverted_crops(photo, faces)
    for options, kind in (
        ({"options": cf.PasteOptions(opacity=0.0)}, "opacity_zero"),
        ({"clip_mask_BHW": torch.zeros(1, 9, 9)}, "clip_mask_black"),
        ({"options": cf.PasteOptions(mask="outline", grow=-256)}, "mask_empty"),
    ):
        pasted = cf.paste_faces(photo, crops_NHW3, faces, **options)
        assert pasted.pasted == 0 and facts(pasted, kind) == [(kind, 0, {})] * 2


def test_values_stay_between_0_and_1(photo):
    faces = faces_of(photo)
    wild = torch.rand(2, 64, 64, 3).round() * 3 - 1
    for kind in ("off", "mean-std", "low-frequency"):
        images_BHW3 = cf.paste_faces(photo, wild, faces, options=cf.PasteOptions(color_match=kind)).images_BHWC
        assert images_BHW3.min() >= 0 and images_BHW3.max() <= 1


def test_faces_with_a_landmark_that_is_no_number_are_left_out(photo):
    good = FACES[0]
    for bad in (float("nan"), float("inf")):
        face = cf.Face(good.box_xyxy, ((bad, 1.0), *good.landmarks_xy[1:]), 0.95)
        assert cf.crop_faces(photo, faces_of(photo, (face, good))).faces.per_image == ((good,),)


def test_backgrounds_of_other_pictures_are_told(photo):
    two = torch.cat((photo, photo.flip(1)))
    faces = faces_of(two)
    crops_NHW3 = inverted_crops(two, faces)
    assert "other_image" not in kinds(cf.paste_faces(two, crops_NHW3, faces))
    others = cf.paste_faces(two.flip(0), crops_NHW3, faces)
    assert facts(others, "other_image") == [("other_image", 0, {}), ("other_image", 1, {})]


def test_what_a_crop_did_not_change_stays_the_pictures_own(photo):
    faces = faces_of(photo)
    crops_NHW3 = cf.crop_faces(photo, faces).crops_NHW3
    crops_NHW3[:, 200:300, 200:300] = 1
    pasted = cf.paste_faces(photo, crops_NHW3, faces, options=cf.PasteOptions(mask="box"))
    touched_HW = (pasted.images_BHWC != photo).any(-1)[0]
    # The hole is 100 of 512 pixels of crops that are about 122 and 146 pixels wide, and a margin.
    assert 24 * 24 < int(touched_HW.sum()) < 2 * 42 * 42
    assert torch.equal(touched_HW & (pasted.masks_BHW[0] == 0), torch.zeros_like(touched_HW))


@pytest.mark.parametrize("kind", ["outline", "box"])
def test_crop_restore_paste_is_face_restore(photo, kind):
    class Given:
        name, default_confidence, module = "given", 0.5, None

        def detect(self, images_BHWC: Tensor, confidence: float | None = None) -> list[list[cf.Face]]:
            return [list(FACES) for _ in images_BHWC]

    whole = cf.restore_images(photo, restorer=InvertingRestorer(), detector=Given(), **as_it_is(kind))
    faces = faces_of(photo)
    pasted = cf.paste_faces(photo, inverted_crops(photo, faces), faces, options=cf.PasteOptions(mask=kind))
    # Apart from places where the inverted face happens to equal the face.
    assert (pasted.images_BHWC - whole.images_BHWC).abs().mean() < 1e-3
    assert (pasted.masks_BHW > 0.99).sum() > 0.95 * (whole.masks_BHW > 0.99).sum()


def test_a_larger_background(photo):
    faces = faces_of(photo)
    large = torch.nn.functional.interpolate(photo.permute(0, 3, 1, 2), scale_factor=2).permute(0, 2, 3, 1)
    pasted = cf.paste_faces(large, inverted_crops(photo, faces), faces, options=cf.PasteOptions(mask="box"))
    small = cf.paste_faces(photo, inverted_crops(photo, faces), faces, options=cf.PasteOptions(mask="box"))
    assert pasted.images_BHWC.shape == (1, 2 * HEIGHT, 2 * WIDTH, 3)
    shrunk = torch.nn.functional.avg_pool2d(pasted.masks_BHW[:, None], 2)[:, 0]
    assert (shrunk - small.masks_BHW).abs().max() < 0.06


def test_one_background_for_all_and_alpha_is_kept(photo):
    two = torch.cat((photo, photo.flip(2)))
    faces = faces_of(two, FACES, ())
    alpha = torch.linspace(0, 1, WIDTH).expand(1, HEIGHT, WIDTH)[..., None]
    pasted = cf.paste_faces(torch.cat((photo, alpha), -1), inverted_crops(two, faces), faces)
    assert pasted.images_BHWC.shape == (2, HEIGHT, WIDTH, 4)
    assert torch.equal(pasted.images_BHWC[1, ..., :3], photo[0])
    assert torch.equal(pasted.images_BHWC[..., 3:], alpha.expand(2, -1, -1, -1))


def test_a_face_upscaler_redraws_crops_that_the_paste_would_enlarge(photo):
    faces = faces_of(photo)
    asked: list[tuple[int, ...]] = []

    def red(images_BHW3: Tensor) -> Tensor:
        asked.append(tuple(images_BHW3.shape))
        return torch.tensor((1.0, 0, 0)).expand(1, 1024, 1024, 3)

    crops_NHW3 = inverted_crops(photo, faces)
    enlarged = [
        torch.nn.functional.interpolate(photo.permute(0, 3, 1, 2), scale_factor=factor).permute(0, 2, 3, 1)
        for factor in (2, 6)
    ]
    # Crops of about 122 and 146 pixels: twice that is less than the 512 of the network.
    for background in (photo, enlarged[0]):
        cf.paste_faces(background, crops_NHW3, faces, face_upscaler=red)
    assert asked == []
    large = enlarged[1]
    pasted = cf.paste_faces(large, crops_NHW3, faces, options=cf.PasteOptions(mask="box"), face_upscaler=red)
    assert asked == [(1, 512, 512, 3)] * 2
    assert torch.allclose(pasted.images_BHWC[pasted.masks_BHW > 0.999], torch.tensor((1.0, 0, 0)), atol=2e-3)


def test_only_where_the_mask_allows(photo):
    faces = faces_of(photo)
    allowed = torch.zeros(1, 11, 13)
    allowed[:, :, :6] = 1
    pasted = cf.paste_faces(photo, inverted_crops(photo, faces), faces, clip_mask_BHW=allowed)
    changed_W = (pasted.images_BHWC != photo).any(-1).any(1)[0]
    assert changed_W[:110].any() and not changed_W[140:].any()


def test_opacity_and_regions(photo):
    faces = faces_of(photo)
    crops_NHW3 = inverted_crops(photo, faces)
    half = cf.paste_faces(photo, crops_NHW3, faces, options=cf.PasteOptions(mask="box", opacity=0.5))
    assert 0.49 < float(half.masks_BHW.max()) <= 0.5
    mouth = cf.paste_faces(photo, crops_NHW3, faces, options=cf.PasteOptions(regions=("mouth",)), parser=TopParser())
    skin = cf.paste_faces(photo, crops_NHW3, faces, options=cf.PasteOptions(regions=("skin",)), parser=TopParser())
    rows = torch.arange(HEIGHT)[:, None]
    centre = [float((p.masks_BHW[0] * rows).sum() / p.masks_BHW.sum()) for p in (skin, mouth)]
    assert centre[1] > centre[0] + 30
    assert ("mask_regions", None, {"regions": ("mouth",), "parser": "top"}) in facts(mouth)


def test_the_edge_grows_and_shrinks(photo):
    faces = faces_of(photo)
    crops_NHW3 = inverted_crops(photo, faces)
    covered = [
        float(
            cf.paste_faces(photo, crops_NHW3, faces, options=cf.PasteOptions(mask="outline", grow=grow)).masks_BHW.sum()
        )
        for grow in (-60, 0, 30)
    ]
    assert covered[0] < 0.8 * covered[1] and covered[2] > 1.05 * covered[1]


def test_feather_softens(photo):
    faces = faces_of(photo)
    crops_NHW3 = inverted_crops(photo, faces)

    def steepest(feather: float) -> float:
        pasted = cf.paste_faces(
            photo, crops_NHW3, faces, options=cf.PasteOptions(mask="box", grow=-80, feather=feather)
        )
        return float(pasted.masks_BHW.diff(dim=2).abs().max())

    assert steepest(120) < 0.5 * steepest(0)


def test_crops_of_other_sizes(photo):
    faces = faces_of(photo)
    crops_NHW3 = inverted_crops(photo, faces)
    larger = torch.nn.functional.interpolate(crops_NHW3.permute(0, 3, 1, 2), 1024).permute(0, 2, 3, 1)
    usual = cf.paste_faces(photo, crops_NHW3, faces)
    pasted = cf.paste_faces(photo, larger, faces)
    assert (pasted.images_BHWC - usual.images_BHWC).abs().mean() < 0.01 and facts(pasted) == facts(usual)
    stretched = cf.paste_faces(photo, larger[:, ::2], faces)
    sizes = {"width": 1024, "height": 512, "size": 512}
    assert facts(stretched, "crops_stretched") == [("crops_stretched", None, sizes)]


def test_nothing_to_paste_takes_any_crops(photo):
    faces = faces_of(photo, ())
    pasted = cf.paste_faces(photo, torch.zeros(1, 512, 512, 3), faces)
    assert torch.equal(pasted.images_BHWC, photo) and facts(pasted) == [("faces", 0, {"given": 0, "pasted": 0})]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"crops_NSSC": torch.rand(3, 512, 512, 3)}, "2 faces but 3 crops came"),
        ({"background_BHWC": torch.rand(2, HEIGHT, WIDTH, 3)}, "belong to 1 image, but there are 2 backgrounds"),
        ({"background_BHWC": torch.rand(1, WIDTH, HEIGHT, 3)}, "has other proportions"),
        ({"clip_mask_BHW": torch.rand(3, 5, 5)}, "one mask for each image"),
        ({"clip_mask_BHW": torch.full((1, 5, 5), torch.nan)}, "the mask holds values that are NaN"),
        ({"options": cf.PasteOptions(regions=("eyes",))}, "only be told apart by a face parser"),
        ({"crops_NSSC": torch.full((2, 512, 512, 3), torch.nan)}, "NaN"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_input(photo, change, complaint):
    faces = faces_of(photo)
    given = {"background_BHWC": photo, "crops_NSSC": inverted_crops(photo, faces), "faces": faces, **change}
    before = photo.clone()
    with pytest.raises(ValueError, match=complaint):
        cf.paste_faces(**given)
    assert torch.equal(photo, before)


def test_shapes_out_of_range():
    for options in (
        {"mask": "star"},
        {"opacity": 1.5},
        {"color_match": "sepia"},
        {"regions": ("chin",)},
        {"grow": 300},
        {"feather": -1},
    ):
        with pytest.raises(ValueError, match=r"must be|unknown"):
            cf.PasteOptions(**options)


# --- masks and colours -----------------------------------------------------------------------------------------------


def test_region_names():
    assert parse_regions(" Eyes, mouth;eyes ") == parse_regions("eyes\uff0cmouth") == ("eyes", "mouth")
    for text in ("", " , ", "eyes, chin"):
        with pytest.raises(ValueError, match="Give some of skin, eyes"):
            parse_regions(text)


def test_every_region_has_its_classes():
    labels_1SS = torch.arange(19, dtype=torch.uint8).repeat_interleave(20).expand(1, 380, 380)
    middles = torch.arange(19) * 20 + 10
    together = torch.zeros(19)
    for name, classes in REGIONS.items():
        mask_S = region_masks(labels_1SS, (name,))[0, 190, middles]
        assert [index for index in range(19) if mask_S[index] > 0.5] == sorted(classes)
        together += mask_S.round()
    assert together.tolist() == [0, *[1] * 17, 0]


def test_growing_masks():
    mask_1SS = torch.zeros(1, 40, 40)
    mask_1SS[:, 10:20, 10:20] = 1
    assert grown(mask_1SS, 3).sum() == 16 * 16 and grown(mask_1SS, -3).sum() == 4 * 4
    assert grown(mask_1SS, -6).sum() == 0 and torch.equal(grown(mask_1SS, 0), mask_1SS)
    assert grown(torch.ones(1, 40, 40), -5).sum() == 30 * 30


def test_colours_are_matched_under_the_mask():
    generator = torch.Generator().manual_seed(0)
    original = torch.rand(3, 64, 64, generator=generator) * torch.tensor((0.2, 0.4, 0.6)).view(3, 1, 1) + 0.1
    face = torch.rand(3, 64, 64, generator=generator)
    mask = torch.zeros(64, 64)
    mask[16:48, 16:48] = 1
    matched = match_color(face, original, mask, "mean-std")
    inside = slice(16, 48)
    for statistic in (torch.mean, torch.std):
        wanted = statistic(original[:, inside, inside], dim=(1, 2))
        assert torch.allclose(statistic(matched[:, inside, inside], dim=(1, 2)), wanted, atol=2e-3)
    assert torch.equal(match_color(face, original, mask, "off"), face)
    assert torch.equal(match_color(face, original, torch.zeros(64, 64), "mean-std"), face)


def test_low_frequency_keeps_details_and_takes_the_light():
    y, x = torch.meshgrid(torch.linspace(0, 1, 512), torch.linspace(0, 1, 512), indexing="ij")
    details = 0.05 * torch.sin(x * 400)
    face = (0.5 + details).expand(3, -1, -1)
    light = (0.3 + 0.3 * y).expand(3, -1, -1)
    matched = match_color(face, light, None, "low-frequency")
    middle = slice(120, 392)
    assert (matched - light - details)[:, middle, middle].abs().max() < 0.02


def test_low_frequency_equals_the_blur_at_full_size():
    generator = torch.Generator().manual_seed(0)
    noise = torch.nn.functional.interpolate(torch.randn(2, 3, 24, 24, generator=generator), (512, 512), mode="bicubic")
    face, light = 0.5 + 0.1 * noise[0], 0.45 + 0.1 * noise[1]
    y, x = torch.meshgrid(torch.arange(512.0), torch.arange(512.0), indexing="ij")
    mask = (1.4 - torch.hypot((x - 256) / 160, (y - 280) / 200)).mul(2.5).clamp(0, 1)
    weight = blurred(mask[None], LOW_FREQUENCY_SIGMA) + 1e-3
    wanted = (face + blurred((light - face) * mask, LOW_FREQUENCY_SIGMA) / weight).clamp(0, 1)
    made = match_color(face, light, mask, "low-frequency")
    assert ((made - wanted) * (mask > 0.02)).abs().max() < 1 / 255


def test_colour_goes_onto_brightness():
    gray_HW3 = torch.linspace(0, 1, 50).view(1, 50, 1).expand(4, 50, 3)
    colour_HW3 = torch.rand(4, 50, 3, generator=torch.Generator().manual_seed(1))
    mixed_HW3 = with_luma_of(colour_HW3, gray_HW3)
    luma = mixed_HW3 @ torch.tensor((0.2989, 0.5870, 0.1140)) / 0.9999
    assert (luma - gray_HW3[..., 0]).abs().max() < 1e-5
    assert mixed_HW3.min() >= -1e-6 and mixed_HW3.max() <= 1 + 1e-6
    assert (mixed_HW3.amax(-1) - mixed_HW3.amin(-1))[:, 10:40].mean() > 0.1


def test_feather_softens_a_box_too(photo):
    faces = faces_of(photo)
    crops_NHW3 = inverted_crops(photo, faces)
    hard, soft = (
        cf.paste_faces(photo, crops_NHW3, faces, options=cf.PasteOptions(mask="box", feather=feather)).masks_BHW
        for feather in (0.0, 200.0)
    )
    assert (soft <= hard + 1e-3).all() and soft.sum() < 0.98 * hard.sum() and soft.max() > 0.9
