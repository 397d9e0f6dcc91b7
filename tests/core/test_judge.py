"""A face that comes out worse than it was is shown less, or not at all, and the report says so."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import codeformer_core as cf
from codeformer_core.degradation import PRESETS, degrade_on_cpu, draw
from codeformer_core.faces.geometry import TEMPLATE_XY
from codeformer_core.faces.types import Face
from codeformer_core.networks.pixel_path import gaussian_blur
from codeformer_core.pipeline.align import align_face
from codeformer_core.pipeline.detail import PhotoDetail
from codeformer_core.pipeline.judge import Judgement, judge
from tests.face_pictures import large_faces

from .conftest import InvertingRestorer
from .facts import facts, steps


@dataclass(frozen=True)
class Blurring(InvertingRestorer):
    name: str = "blurring"
    sigma: float = 6.0

    def restore(self, faces_B3HW: Tensor, fidelity: float = 0.5, component_boxes_B44: Tensor | None = None) -> Tensor:
        return gaussian_blur(faces_B3HW, self.sigma)


@dataclass(frozen=True)
class Someone(InvertingRestorer):
    """Paints the same face whoever is asked for, as sharp as a photo."""

    face_3SS: Tensor | None = None
    name: str = "someone"

    def restore(self, faces_B3HW: Tensor, fidelity: float = 0.5, component_boxes_B44: Tensor | None = None) -> Tensor:
        assert self.face_3SS is not None
        return (self.face_3SS * 2 - 1).expand_as(faces_B3HW)


@pytest.fixture(scope="module")
def levels() -> list[np.ndarray]:
    return [np.array(Image.open(path).convert("RGB")) for path in large_faces()[:4]]


def as_tensor(levels_HW3: np.ndarray) -> Tensor:
    return torch.from_numpy(levels_HW3.copy()).permute(2, 0, 1).float() / 255


def damaged(levels_HW3: np.ndarray, name: str) -> Tensor:
    return as_tensor(degrade_on_cpu(levels_HW3, draw(PRESETS[name], 512, torch.Generator().manual_seed(1))))


def judged(made_3SS: Tensor, photo_3SS: Tensor) -> Judgement:
    return judge(made_3SS, photo_3SS, PhotoDetail.of(photo_3SS))


def test_a_face_as_it_was_is_no_worse(levels):
    for levels_HW3 in levels:
        found = judged(as_tensor(levels_HW3), as_tensor(levels_HW3))
        assert found.sharpness == pytest.approx(1) and found.identity < 0.01 and found.recognisable == 1
        assert [found.shown(when) for when in ("fade", "leave", "paste")] == [1, 1, 1]


def test_a_truth_in_place_of_a_damaged_face_is_no_worse(levels):
    """Noise and blocks that are gone are no sharpness that was lost, nor is a blurred face anybody."""
    for levels_HW3 in levels:
        for damage in ("photo", "small", "large"):
            assert judged(as_tensor(levels_HW3), damaged(levels_HW3, damage)).shown("fade") > 0.95, damage


def test_the_more_a_sharp_face_is_blurred_the_less_of_it_shows(levels):
    photo_3SS = as_tensor(levels[0])
    found = [judged(gaussian_blur(photo_3SS[None], sigma)[0], photo_3SS) for sigma in (0.5, 2.0, 3.0, 6.0)]
    assert sorted((one.sharpness for one in found), reverse=True) == [one.sharpness for one in found]
    shares = [one.shown("fade") for one in found]
    assert shares == sorted(shares, reverse=True) and shares[0] == 1 and shares[-1] == 0
    assert found[-1].fault == "already_sharper" and found[-1].shown("leave") == 0 and found[-1].shown("paste") == 1


def test_another_person_is_left_where_the_photo_tells_who_it_is(levels):
    photo_3SS, other_3SS = as_tensor(levels[0]), as_tensor(levels[1])
    found = judged(other_3SS, photo_3SS)
    assert found.identity > 0.6 and found.fault == "other_person" and found.shown("fade") == 0
    hardly = judged(other_3SS, gaussian_blur(photo_3SS[None], 12.0)[0])
    assert hardly.recognisable == 0 and hardly.shown("fade") == 1


def restored(photo_3SS: Tensor, restorer, **options) -> cf.RestoredImages:
    left, right, nose, mouth_left, mouth_right = ((x, y) for x, y in TEMPLATE_XY.tolist())
    aligned = align_face(0, Face((0, 0, 512, 512), (left, right, nose, mouth_left, mouth_right), 1.0))
    assert aligned is not None
    options = {"mask": "box", "detail": 0.0, **options}
    return cf.restore_images(photo_3SS.permute(1, 2, 0)[None], restorer=restorer, detector=[aligned], **options)


def test_in_the_pipeline(levels):
    photo_3SS = as_tensor(levels[0])
    photo_1HW3 = photo_3SS.permute(1, 2, 0)[None]
    left = restored(photo_3SS, Blurring())
    assert torch.equal(left.images_BHWC, photo_1HW3) and left.masks_BHW.max() == 0 and left.faces == ((),)
    (skipped,) = left.skipped[0]
    assert skipped.kind == "already_sharper" and skipped.values["sharpness"] < 0.5
    assert steps(left) == {0: {"given": 1, "restored": 0}} and not facts(left, "judged", "restored_by")

    faded = restored(photo_3SS, Blurring(sigma=2.2))
    (fact,) = facts(faded, "faded_softer")
    share = fact[2]["share"]
    assert 0.1 < share < 0.95 and faded.masks_BHW.max() == pytest.approx(share, abs=1e-4)
    assert facts(faded, "judged") and faded.crops[0].judgement is not None
    assert faded.crops[0].judgement.shown("fade") == share
    assert faded.judgements == ((faded.crops[0].judgement,),) and left.judgements == ((),)

    pasted = restored(photo_3SS, Blurring(), when_worse="paste")
    assert pasted.masks_BHW.max() > 0.99 and pasted.judgements == ((None,),)
    assert not facts(pasted, "judged", "faded_softer")


def test_each_pasted_face_can_be_watched(levels):
    shown: list[torch.Tensor] = []
    photo_3SS = as_tensor(levels[0])
    done = restored(
        photo_3SS, Blurring(), when_worse="paste", on_pasted=lambda image_HW3: shown.append(image_HW3.clone())
    )
    assert len(shown) == 1 and torch.equal(shown[0], done.images_BHWC[0])
    shown.clear()
    restored(photo_3SS, Blurring(), on_pasted=shown.append)
    assert shown == [], "what is left as it was is not shown"


def test_all_or_nothing(levels):
    photo_3SS = as_tensor(levels[0])
    for sigma, whole in ((1.2, True), (6.0, False)):
        shown = restored(photo_3SS, Blurring(sigma=sigma), when_worse="leave").masks_BHW.max()
        assert shown > 0.99 if whole else shown == 0


def test_somebody_else(levels):
    stranger = Someone(face_3SS=as_tensor(levels[1]))
    (skipped,) = restored(as_tensor(levels[0]), stranger).skipped[0]
    assert skipped.kind == "other_person" and skipped.values["identity"] > 0.6
    assert restored(gaussian_blur(as_tensor(levels[0])[None], 12.0)[0], stranger).faces[0]


def test_detail_keeps_a_blurring_restorer_from_doing_harm(levels):
    result = restored(as_tensor(levels[0]), Blurring(sigma=2.5), detail=1.0)
    assert result.masks_BHW.max() > 0.99
    assert restored(as_tensor(levels[0]), Blurring(sigma=2.5)).masks_BHW.max() < 0.8


def test_the_official_recipe_judges_nothing(levels):
    result = restored(as_tensor(levels[0]), Blurring(), parity=True)
    assert result.masks_BHW.max() > 0.99 and not facts(result, "judged")


@dataclass(frozen=True)
class Tinting(InvertingRestorer):
    """Shifts colours and brightness, as small networks do in dark faces."""

    name: str = "tinting"

    def restore(self, faces_B3HW: Tensor, fidelity: float = 0.5, component_boxes_B44: Tensor | None = None) -> Tensor:
        return faces_B3HW + torch.tensor((0.2, 0.1, -0.1)).view(3, 1, 1)


@pytest.mark.parametrize("brightness", [1.0, 0.25])
def test_colours_stay_the_photos(levels, brightness):
    photo_3SS = as_tensor(levels[2]) * brightness
    photo_HW3 = photo_3SS.permute(1, 2, 0)
    face = (slice(150, 400), slice(150, 360))
    shift = {
        how: (restored(photo_3SS, Tinting(), **options).images_BHWC[0] - photo_HW3)[face].mean((0, 1)).abs().max()
        for how, options in {
            "automatic": {},
            "off": {"paste": cf.PasteOptions(mask="box", color_match="off")},
            "parity": {"parity": True},
        }.items()
    }
    assert shift["automatic"] < 0.01 and shift["off"] > 0.05 and shift["parity"] > 0.05
