"""A photo's own detail comes back, its noise doesn't, and what the restorer painted stays."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import codeformer_core as cf
from codeformer_core.degradation import PRESETS, degrade_on_cpu, draw
from codeformer_core.faces.geometry import TEMPLATE_XY, crop_face
from codeformer_core.faces.types import Face
from codeformer_core.models.detail_gates import open_gates
from codeformer_core.networks.detail_gates import SIGMAS, DetailGates
from codeformer_core.networks.pixel_path import gaussian_blur
from codeformer_core.pipeline.align import align_face
from codeformer_core.pipeline.detail import PhotoDetail, with_photos_detail
from tests.face_pictures import large_faces

from .conftest import InvertingRestorer, as_it_is
from .facts import facts

BLUR = 2.5


@pytest.fixture(scope="module")
def faces() -> list[np.ndarray]:
    return [np.array(Image.open(path).convert("RGB")) for path in large_faces()[:4]]


def as_tensor(levels_HW3: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(levels_HW3)).permute(2, 0, 1).float() / 255


def damaged(levels_HW3: np.ndarray, name: str, seed: int) -> Tensor:
    drawn = draw(PRESETS[name], 512, torch.Generator().manual_seed(seed))
    return as_tensor(degrade_on_cpu(levels_HW3, drawn))


def blurred(face_3SS: Tensor) -> Tensor:
    """What a restorer makes that knows the truth, but paints no detail."""
    return gaussian_blur(face_3SS[None], BLUR)[0]


def psnr(first: Tensor, second: Tensor) -> float:
    return -10 * math.log10(float((first - second).square().mean()))


def gains(faces: list[np.ndarray], name: str) -> list[float]:
    """dB that the photo's detail brings to a blurred face."""
    found = []
    for seed, levels_HW3 in enumerate(faces):
        clean_3SS = as_tensor(levels_HW3)
        made_3SS = blurred(clean_3SS)
        kept_3SS = PhotoDetail.of(damaged(levels_HW3, name, seed)).given_back(made_3SS, 1.0)
        found.append(psnr(kept_3SS, clean_3SS) - psnr(made_3SS, clean_3SS))
    return found


@pytest.mark.parametrize(("name", "least"), [("clean", 4.0), ("photo", 0.5), ("small", -0.1), ("large", -0.1)])
def test_detail_comes_back_as_far_as_the_photo_has_it(faces, name, least):
    found = gains(faces, name)
    assert np.mean(found) > least and min(found) > -0.3


@pytest.mark.parametrize(("noise", "most"), [(6, 0.35), (15, 0.2)])
def test_noise_stays_away(faces, noise, most):
    """White noise over a face: the share of it that is found in what comes back. Lines bring what lies on them."""
    clean_3SS = as_tensor(faces[0])
    made_3SS = blurred(clean_3SS)
    noise_3SS = torch.randn((1, 512, 512), generator=torch.Generator().manual_seed(0)) * noise / 255
    kept_3SS = PhotoDetail.of((clean_3SS + noise_3SS).clamp(0, 1)).given_back(made_3SS, 1.0)
    came_back = float(((kept_3SS - made_3SS) * noise_3SS).mean() / noise_3SS.square().mean())
    assert came_back < most
    assert psnr(kept_3SS, clean_3SS) > psnr(made_3SS, clean_3SS) - 0.2


def test_what_the_restorer_painted_stays(faces):
    clean_3SS = as_tensor(faces[0])
    kept_3SS = PhotoDetail.of(blurred(clean_3SS)).given_back(clean_3SS, 1.0)
    assert psnr(kept_3SS, clean_3SS) > 45


def test_nothing_comes_back_at_0_and_half_at_one_half(faces):
    photo_3SS = as_tensor(faces[0])
    made_3SS = blurred(photo_3SS) * 0.9 + 0.05
    assert PhotoDetail.of(photo_3SS).given_back(made_3SS, 0.0) is made_3SS
    half, whole = (PhotoDetail.of(photo_3SS).given_back(made_3SS, amount) - made_3SS for amount in (0.5, 1.0))
    assert (half - whole / 2).abs().max() < 1e-5


def test_gates_have_a_value_for_every_band_and_pixel(faces):
    gates_NSS = open_gates(as_tensor(faces[0])[:1])
    assert gates_NSS.shape == (len(SIGMAS), 512, 512)
    assert gates_NSS.min() >= 0 and gates_NSS.max() <= 1
    assert isinstance(DetailGates()(torch.zeros(1, 1, 64, 64)), Tensor)


def large_photo(levels_HW3: np.ndarray, side: int) -> Tensor:
    """(side, side, 3): a face with lines as fine as the photo's pixels."""
    enlarged = Image.fromarray(levels_HW3).resize((side, side), Image.Resampling.LANCZOS)
    photo_HW3 = torch.from_numpy(np.array(enlarged)).float() / 255
    lines_W = torch.sin(torch.arange(side) * math.pi / 1.5) * 0.1
    photo_HW3[side // 2 : side // 2 + side // 8] += lines_W[:, None]
    return photo_HW3.clamp(0, 1)


def test_a_face_larger_than_the_restorers_keeps_what_it_could_not_see(faces):
    photo_HW3 = large_photo(faces[0], 1500)
    points = ((TEMPLATE_XY + 0.5) * (1500 / 512) - 0.5).tolist()
    aligned = align_face(0, Face((0.0, 0.0, 1500.0, 1500.0), tuple(map(tuple, points)), 1.0))
    made_3SS = crop_face(photo_HW3, aligned.matrix)
    seen = PhotoDetail.of(made_3SS)
    face_3SS = with_photos_detail(made_3SS, seen, photo_HW3, aligned.matrix, 1.0, 1.0)
    assert face_3SS.shape == (3, 2048, 2048)
    truth_3SS = crop_face(photo_HW3, aligned.matrix, 2048)
    seen_3SS = torch.nn.functional.interpolate(made_3SS[None], (2048, 2048), mode="bicubic")[0]
    assert psnr(face_3SS, truth_3SS) > psnr(seen_3SS, truth_3SS) + 3
    assert with_photos_detail(made_3SS, seen, photo_HW3, aligned.matrix, 0.0, 0.0) is made_3SS


class Blurring(InvertingRestorer):
    name: str = "blurring"

    def restore(self, faces_B3HW: Tensor, fidelity: float = 0.5, component_boxes_B44: Tensor | None = None) -> Tensor:
        return gaussian_blur(faces_B3HW, BLUR)


def test_the_official_recipe_knows_no_detail():
    with pytest.raises(ValueError, match="knows no detail"):
        cf.RestoreOptions(parity=True, detail=0.5)
    assert cf.RestoreOptions(parity=True, detail=0.0).detail == 0


@pytest.mark.parametrize(
    ("options", "least", "most"),
    [
        ({"fidelity": 1.0}, 4, 99),
        ({"fidelity": 0.0}, -0.01, 0.01),
        ({"fidelity": 0.0, "detail": 1.0}, 4, 99),
        ({"fidelity": 1.0, "detail": 0.0}, -0.01, 0.01),
        ({"fidelity": 1.0, "parity": True}, -2, 0.5),
    ],
)
def test_in_the_pipeline(faces, options, least, most):
    """A restorer that blurs, on a sharp photo: dB against the same without detail."""
    photo_1HW3 = as_tensor(faces[1]).permute(1, 2, 0)[None]
    face = Face((0.0, 0.0, 512.0, 512.0), tuple(map(tuple, TEMPLATE_XY.tolist())), 1.0)
    aligned = align_face(0, face)

    def restored(**more) -> Tensor:
        options = as_it_is("box", **more)
        return cf.restore_images(photo_1HW3, restorer=Blurring(), detector=[aligned], **options).images_BHWC

    without = psnr(restored(detail=0.0), photo_1HW3)
    assert least <= psnr(restored(**options), photo_1HW3) - without <= most


def test_in_crops(faces):
    crop_1SS3 = as_tensor(faces[1]).permute(1, 2, 0)[None]
    off, half, whole = (
        psnr(cf.restore_aligned(crop_1SS3, restorer=Blurring(), **options).images_BHWC, crop_1SS3)
        for options in ({"fidelity": 0.0}, {"fidelity": 0.5}, {"fidelity": 0.0, "detail": 1.0})
    )
    assert off + 1 < half < whole - 1


def test_a_report_tells_how_much_a_restored_face_is_enlarged(faces):
    photo_HW3 = large_photo(faces[0], 1100)
    points = ((TEMPLATE_XY + 0.5) * (1100 / 512) - 0.5).tolist()
    face = Face((300.0, 400.0, 800.0, 1000.0), tuple(map(tuple, points)), 1.0)
    result = cf.restore_images(
        photo_HW3[None], restorer=Blurring(), detector=[align_face(0, face)], **as_it_is("box", fidelity=1.0)
    )
    ((_, image, values),) = facts(result, "face_enlarged")
    assert image == 0 and values == {"width": 500.0, "factor": pytest.approx(1100 / 512, rel=0.01)}
    # What the restorer could not see is there all the same.
    inside = (slice(200, 900), slice(200, 900))
    seen_3SS = crop_face(photo_HW3, align_face(0, face).matrix)
    seen_HW3 = torch.nn.functional.interpolate(seen_3SS[None], photo_HW3.shape[:2], mode="bicubic")[0].permute(1, 2, 0)
    assert psnr(result.images_BHWC[0][inside], photo_HW3[inside]) > psnr(seen_HW3[inside], photo_HW3[inside]) + 2
