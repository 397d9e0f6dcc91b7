"""The mask "head": MediaPipe's selfie segmentation, and what of it is pasted."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import codeformer_core as cf
from codeformer_core.faces import person_mask
from codeformer_core.faces.batch import FaceBatch
from codeformer_core.faces.contour import contour_masks
from codeformer_core.faces.geometry import TEMPLATE_XY
from codeformer_core.faces.types import Face
from codeformer_core.pipeline.paste_masks import make_mask_maker

from ..face_pictures import large_faces

COUNT = 4
LANDMARKS_N52 = np.repeat(np.asarray(TEMPLATE_XY, float)[None], COUNT, 0)


@pytest.fixture(scope="module")
def faces_N3SS() -> Tensor:
    """Different people, 512 px, RGB in [-1, 1]."""
    arrays = [np.asarray(Image.open(file).convert("RGB")) for file in large_faces()[:COUNT]]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float() / 127.5 - 1


def masks(faces_N3SS: Tensor, kind: cf.MaskKind, photos_N3SS: Tensor | None = None) -> Tensor:
    make = make_mask_maker(cf.PasteOptions(mask=kind), None).make
    assert make is not None
    return make(faces_N3SS, LANDMARKS_N52[: len(faces_N3SS)], photos_N3SS)


def test_persons_with_their_hair(faces_N3SS: Tensor):
    masks_NSS = person_mask.person_masks(faces_N3SS)

    faces_NSS = contour_masks(LANDMARKS_N52) > 0.9
    assert masks_NSS.shape == (COUNT, 512, 512) and masks_NSS.min() >= 0 and masks_NSS.max() <= 1
    for mask_SS, face_SS in zip(masks_NSS, faces_NSS, strict=True):
        assert mask_SS[face_SS].mean() > 0.95
        assert mask_SS.mean() > 1.2 * face_SS.float().mean(), "hair and neck are seen, too"
    corners_N = masks_NSS[:, :40, :40].mean((1, 2))
    assert corners_N.min() < 0.1, "behind somebody there is nobody"


def test_gray_photos_and_other_sizes(faces_N3SS: Tensor):
    gray_13SS = faces_N3SS[:1].mean(1, keepdim=True).expand(-1, 3, -1, -1)
    small_13ss = torch.nn.functional.interpolate(faces_N3SS[:1], (128, 128), mode="area")

    coloured_SS = person_mask.person_masks(faces_N3SS[:1])[0]
    assert (person_mask.person_masks(gray_13SS)[0] - coloured_SS).abs().mean() < 0.05
    shrunk_ss = torch.nn.functional.interpolate(coloured_SS[None, None], (128, 128), mode="area")[0, 0]
    assert (person_mask.person_masks(small_13ss)[0] - shrunk_ss).abs().mean() < 0.05


def test_no_faces_and_nobody():
    assert person_mask.person_masks(torch.zeros(0, 3, 512, 512)).shape == (0, 512, 512)
    assert person_mask.person_masks(torch.zeros(1, 3, 512, 512)).mean() < 0.01


def test_the_mask_fades_at_the_edges_of_the_crop(faces_N3SS: Tensor):
    heads_NSS = masks(faces_N3SS, "head")

    rim = torch.ones(512, 512, dtype=torch.bool)
    rim[1:-1, 1:-1] = False
    assert heads_NSS[:, rim].max() < 0.01
    outlines_NSS = masks(faces_N3SS, "outline")
    assert (heads_NSS.mean((1, 2)) > outlines_NSS.mean((1, 2))).all()


def test_where_nobody_is_seen_the_face_counts():
    nobody_13SS = torch.zeros(1, 3, 512, 512)

    assert torch.equal(masks(nobody_13SS, "head"), masks(nobody_13SS, "outline"))


def test_the_photo_bounds_the_head_of_its_new_face(faces_N3SS: Tensor):
    news_N3SS, photos_N3SS = faces_N3SS[:2], faces_N3SS[2:]
    freely_NSS = masks(news_N3SS, "head")

    bounded_NSS = masks(news_N3SS, "head", photos_N3SS)

    assert (bounded_NSS <= person_mask.person_masks(photos_N3SS)).all()
    assert (bounded_NSS <= freely_NSS).all() and (bounded_NSS < freely_NSS).any()
    drawings_N3SS = torch.zeros_like(news_N3SS)
    assert torch.equal(masks(news_N3SS, "head", drawings_N3SS), freely_NSS)


def test_colour_beside_a_gray_head_is_not_pasted(faces_N3SS: Tensor, monkeypatch: pytest.MonkeyPatch):
    """A network that colours the background makes it look like a part of the head."""

    def persons(faces_N3SS: Tensor) -> Tensor:
        masks_NSS = torch.ones_like(faces_N3SS[:, 0])
        if torch.allclose(faces_N3SS[:, 0], faces_N3SS[:, 1]):
            masks_NSS[..., :100] = 0
        return masks_NSS

    monkeypatch.setattr("codeformer_core.pipeline.paste_masks.person_masks", persons)
    gray_1SS3 = (faces_N3SS[:1].mean(1, keepdim=True).expand(-1, 3, -1, -1).permute(0, 2, 3, 1) + 1) / 2
    left, right, nose, mouth_left, mouth_right = ((float(x), float(y)) for x, y in TEMPLATE_XY)
    landmarks_xy = left, right, nose, mouth_left, mouth_right
    found = FaceBatch.of(gray_1SS3, [[Face((100, 100, 412, 412), landmarks_xy, 0.9)]])

    pasted = cf.paste_faces(
        gray_1SS3,
        gray_1SS3 * torch.tensor([1, 0.8, 0.6]),
        found,
        options=cf.PasteOptions(mask="head", chroma_only=True),
    )

    assert pasted.masks_BHW[0, :, :90].max() < 0.01 and pasted.masks_BHW[0, 256, 256] > 0.9


def test_old_opencv_takes_the_face(faces_N3SS: Tensor, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("codeformer_core.pipeline.paste_masks.can_find_persons", lambda: False)

    maker = make_mask_maker(cf.PasteOptions(mask="head"), None)

    assert maker.event.kind == "mask_face_instead" and maker.make is not None
    assert torch.equal(maker.make(faces_N3SS, LANDMARKS_N52, None), masks(faces_N3SS, "outline"))


def test_a_damaged_file_is_named(faces_N3SS: Tensor, monkeypatch: pytest.MonkeyPatch, tmp_path):
    damaged = tmp_path / "selfie_segmentation.tflite"
    damaged.write_bytes(person_mask.WEIGHTS_PATH.read_bytes()[:1000])
    monkeypatch.setattr(person_mask, "WEIGHTS_PATH", damaged)

    with pytest.raises(RuntimeError, match="selfie_segmentation"):
        person_mask.person_masks(faces_N3SS)
