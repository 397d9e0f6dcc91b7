"""The face mesh that comes with the pack: against TensorFlow Lite, as parser and landmark detector, where it fails."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

import codeformer_core as cf
from codeformer_core.faces import mesh_topology as mesh
from codeformer_core.faces.choices import REGIONS
from codeformer_core.faces.contour import contour_masks
from codeformer_core.faces.face_mesh import MIN_LOGIT, VIEW_LTRB, build_face_mesh, find_mesh
from codeformer_core.faces.geometry import CROP_SIZE, TEMPLATE_XY
from codeformer_core.faces.masks import face_shape_mask
from codeformer_core.faces.mesh_parsing import MESH_REGIONS, MeshParser, draw_labels, face_contour, mesh_shape_masks
from codeformer_core.networks.face_mesh import POINTS, SEEN_SIDE, FaceMesh
from codeformer_core.runtime.errors import InputError
from codeformer_core.weights.folders import ASSETS_FOLDER
from codeformer_core.weights.reading import WeightsError, read_state_dict

from ..face_pictures import large_faces
from .conftest import GOLDEN, GivenDetector, InvertingRestorer, face_at
from .facts import facts

FILE = ASSETS_FOLDER / "face_mesh.safetensors"
COUNT = 4


@pytest.fixture(scope="module")
def network() -> FaceMesh:
    return build_face_mesh(read_state_dict(FILE))


@pytest.fixture(scope="module")
def faces_B3HW() -> Tensor:
    """Different people, 512 px, RGB in [-1, 1]."""
    arrays = [np.asarray(Image.open(file).convert("RGB")) for file in large_faces()[:COUNT]]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float() / 127.5 - 1


@pytest.fixture(scope="module")
def parser(network) -> MeshParser:
    return MeshParser(network)


class Answering(nn.Module):
    """Stands for the network: these points in each face, and this flag for each in turn."""

    def __init__(self, points_N3: Tensor, *logits: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.points_N3, self.logits = points_N3, list(logits)

    def forward(self, faces_B3SS: Tensor) -> tuple[Tensor, Tensor]:
        assert faces_B3SS.shape[1:] == (3, SEEN_SIDE, SEEN_SIDE)
        assert faces_B3SS.min() >= 0 and faces_B3SS.max() <= 1
        logits = [self.logits.pop(0) for _ in faces_B3SS]
        return self.points_N3.expand(len(faces_B3SS), -1, -1), torch.tensor(logits)


# --- the network -----------------------------------------------------------------------------------------------------


def test_points_and_flag_are_those_of_tensorflow_lite(network, faces_B3HW):
    golden = load_file(GOLDEN / "face_mesh" / "face_mesh.safetensors")
    left, top, right, bottom = VIEW_LTRB
    view = (faces_B3HW[:, :, top:bottom, left:right] + 1) / 2
    seen = F.interpolate(view, (SEEN_SIDE, SEEN_SIDE), mode="bilinear", antialias=True)
    with torch.no_grad():
        points_BN3, logits_B = network(seen)
    assert points_BN3.shape == (COUNT, POINTS, 3) and logits_B.shape == (COUNT,)
    torch.testing.assert_close(points_BN3, golden["points_BN3"], rtol=0, atol=2e-3)
    torch.testing.assert_close(logits_B, golden["logits_B"], rtol=0, atol=2e-3)
    # In pixels of the 512 crop, found by the way that the pack takes.
    found = find_mesh(network, faces_B3HW)
    expected = golden["points_BN3"][..., :2].double().numpy() * (right - left) / SEEN_SIDE + (left, top) - 0.5
    assert found.is_face_B.all() and np.abs(found.points_BN2 - expected).max() < 5e-3


def test_the_file_is_in_half_precision_and_says_where_it_comes_from():
    from safetensors import safe_open

    with safe_open(FILE, "pt") as file:
        said = file.metadata()["source"]
    assert all(tensor.dtype == torch.float16 for tensor in read_state_dict(FILE).values())
    assert "mediapipe 0.10.14" in said and "Apache-2.0" in said
    assert "1055cb9d4a9ca8b8c688902a3a5194311138ba256bcc94e336d8373a5f30c814" in said


# --- points ----------------------------------------------------------------------------------------------------------


def test_the_points_lie_near_the_template(network, faces_B3HW):
    points_BN2 = find_mesh(network, faces_B3HW).points_BN2
    eyes = [points_BN2[:, list(corners)].mean(1) for corners in (mesh.LEFT_EYE, mesh.RIGHT_EYE)]
    tips = [points_BN2[:, one] for one in (mesh.NOSE_TIP, mesh.LEFT_MOUTH_CORNER, mesh.RIGHT_MOUTH_CORNER)]
    five_B52 = np.stack((*eyes, *tips), axis=1)
    assert np.linalg.norm(five_B52 - TEMPLATE_XY, axis=2).max() < 40
    assert np.linalg.norm(five_B52 - TEMPLATE_XY, axis=2).mean() < 12


@pytest.mark.parametrize(("height", "width"), [(512, 512), (256, 256), (1024, 512)])
def test_points_are_pixels_of_faces_of_any_size(network, faces_B3HW, height, width):
    resized = F.interpolate(faces_B3HW[:1], (height, width), mode="bilinear", antialias=True)
    whole_N2 = find_mesh(network, faces_B3HW[:1]).points_BN2[0]
    scale = np.array((width, height)) / CROP_SIZE
    assert np.abs((find_mesh(network, resized).points_BN2[0] + 0.5) / scale - 0.5 - whole_N2).max() < 3


def test_no_face_and_no_faces(network):
    found = find_mesh(network, torch.rand(1, 3, 512, 512, generator=torch.Generator().manual_seed(0)) * 2 - 1)
    assert not found.is_face_B.any()
    none = find_mesh(network, torch.zeros(0, 3, 512, 512))
    assert none.points_BN2.shape == (0, POINTS, 2) and none.is_face_B.shape == (0,)


def test_what_is_no_batch_of_faces_is_refused(network):
    with pytest.raises(ValueError, match=r"\(batch, 3, height, width\), got .*\(3, 512, 512\)"):
        find_mesh(network, torch.zeros(3, 512, 512))


def test_non_finite_answers_are_an_error():
    with pytest.raises(RuntimeError, match=r"face mesh .*non-finite .*float32 on cpu"):
        find_mesh(Answering(torch.full((POINTS, 3), torch.nan), 9.0), torch.zeros(1, 3, 64, 64))


# --- landmarks -------------------------------------------------------------------------------------------------------


def test_68_landmarks_of_an_aligned_face(faces_B3HW):
    detector = cf.load_landmark_detector("face_mesh")
    assert detector.name == "face_mesh" and not detector.module.training
    found_B682 = detector.find(faces_B3HW)
    assert found_B682.shape == (COUNT, 68, 2) and found_B682.dtype == np.float64
    middles = [found_B682[:, part].mean(1) for part in (slice(36, 42), slice(42, 48), slice(48, 60))]
    expected = (TEMPLATE_XY[0], TEMPLATE_XY[1], TEMPLATE_XY[3:].mean(0))
    assert np.linalg.norm(np.stack(middles) - np.stack(expected)[:, None], axis=2).max() < 25
    jaw_B2 = found_B682[:, 8]
    assert (jaw_B2[:, 1] > found_B682[:, :, 1].max(1) - 1e-6).all()


def test_landmarks_of_no_face_are_lost():
    from codeformer_core.faces.face_mesh import MeshLandmarkDetector

    found = MeshLandmarkDetector(Answering(torch.ones(POINTS, 3), MIN_LOGIT + 1, MIN_LOGIT - 1)).find(
        torch.zeros(2, 3, 512, 512)
    )
    assert np.isfinite(found[0]).all() and np.isnan(found[1]).all()


# --- parts -----------------------------------------------------------------------------------------------------------


def test_every_part_lies_where_it_belongs(parser, faces_B3HW):
    labels_BHW = parser.parse(faces_B3HW)
    assert labels_BHW.shape == (COUNT, 512, 512) and labels_BHW.dtype == torch.uint8
    seen = set(labels_BHW.unique().tolist())
    assert seen == {0, *(number for region in MESH_REGIONS for number in REGIONS[region])} - {3}
    for (x, y), region in zip(TEMPLATE_XY.round().astype(int), ("eyes", "eyes", "nose", "mouth", "mouth"), strict=True):
        near = labels_BHW[:, y - 16 : y + 17, x - 16 : x + 17]
        assert torch.isin(near, torch.tensor(REGIONS[region], dtype=torch.uint8)).flatten(1).any(1).all(), region
    # As seen in the picture: left eye, right eye, left brow, right brow; lips from top to bottom.
    columns = [(labels_BHW == label).nonzero()[:, 2].float().mean() for label in (4, 5, 6, 7)]
    assert columns[0] < 256 < columns[1] and columns[2] < 256 < columns[3]
    rows = [(labels_BHW == label).nonzero()[:, 1].float().mean() for label in (6, 4, 2, 11, 12)]
    assert rows == sorted(rows)


def drawn(contour_P2: np.ndarray) -> np.ndarray:
    """outline_HW, 0 or 1."""
    import cv2

    outline_HW = np.zeros((512, 512), np.uint8)
    cv2.fillPoly(outline_HW, [np.round(contour_P2 * 16).astype(np.int32)], 1, shift=4)
    return outline_HW


def test_the_parts_lie_within_the_contour_and_the_contour_is_convex(network, faces_B3HW):
    import cv2

    for points_N2 in find_mesh(network, faces_B3HW).points_BN2:
        contour_P2 = face_contour(points_N2)
        assert cv2.isContourConvex(contour_P2.astype(np.float32)[:, None])
        # The forehead goes on above the mesh's highest point, by about a tenth of the face.
        risen = points_N2[mesh.FOREHEAD, 1] - contour_P2[:, 1].min()
        assert 0.1 < risen / (points_N2[mesh.CHIN, 1] - points_N2[mesh.FOREHEAD, 1]) < 0.14
        labels_HW, outline_HW = draw_labels(points_N2, (512, 512)), drawn(contour_P2)
        assert (labels_HW[outline_HW == 1] > 0).all()
        # An ear's point or a brow's may lie a hair outside.
        near_HW = cv2.dilate(outline_HW, np.ones((9, 9), np.uint8))
        assert (labels_HW[near_HW == 0] == 0).all() and (labels_HW > 0).sum() < 1.01 * outline_HW.sum()


def test_a_turned_face_keeps_its_oval_whole(network, faces_B3HW):
    """Squeezed to one side the oval crosses itself; no hole is left where it does."""
    points_N2 = find_mesh(network, faces_B3HW[:1]).points_BN2[0].copy()
    far = points_N2[:, 0] > 270
    points_N2[far, 0] = 270 - 0.4 * (points_N2[far, 0] - 270)
    labels_HW = draw_labels(points_N2, (512, 512))
    assert (labels_HW[drawn(face_contour(points_N2)) == 1] > 0).all()


def test_loaded_by_its_name_and_from_a_file_of_any_name(tmp_path, faces_B3HW):
    by_name = cf.load_parser("face_mesh")
    assert by_name.name == "face_mesh" and by_name.bytes_for(faces_B3HW) > 0
    (tmp_path / "mine.safetensors").write_bytes(FILE.read_bytes())
    by_path = cf.load_parser(tmp_path / "mine.safetensors")
    assert torch.equal(by_name.parse(faces_B3HW[:1]), by_path.parse(faces_B3HW[:1]))
    state = read_state_dict(FILE)
    save_file({**state, "stem.weight": state["stem.weight"][:8].clone()}, tmp_path / "other.safetensors")
    for load in (cf.load_parser, cf.load_landmark_detector):
        with pytest.raises(WeightsError, match=r"other\.safetensors: these weights do not fit face_mesh .*stem"):
            load(tmp_path / "other.safetensors")


# --- the paste mask --------------------------------------------------------------------------------------------------


def test_the_mask_is_soft_and_follows_the_face(parser, faces_B3HW):
    landmarks_B52 = np.tile(TEMPLATE_XY, (COUNT, 1, 1))
    masks_BSS = mesh_shape_masks(parser, faces_B3HW, landmarks_B52)
    assert torch.equal(masks_BSS, face_shape_mask(parser.parse(faces_B3HW)))
    assert masks_BSS.min() >= 0 and masks_BSS.max() < 1 + 1e-5
    for x, y in TEMPLATE_XY.round().astype(int):
        assert (masks_BSS[:, y, x] > 0.9).all()
    assert (masks_BSS[:, :40] < 0.01).all() and (masks_BSS[:, :, :20] < 0.01).all()


def test_where_the_mesh_sees_no_face_or_a_profile_the_landmarks_draw_the_contour(network, faces_B3HW):
    profile = TEMPLATE_XY.copy()
    profile[2, 0] += 120
    half_turned = TEMPLATE_XY.copy()
    half_turned[2, 0] += 40
    landmarks_B52 = np.stack((TEMPLATE_XY, profile, half_turned))
    faces = torch.cat((torch.zeros(1, 3, 512, 512), faces_B3HW[:2]))
    masks_BSS = mesh_shape_masks(MeshParser(network), faces, landmarks_B52)
    assert torch.equal(masks_BSS[:2], contour_masks(landmarks_B52[:2]))
    assert torch.equal(masks_BSS[2:], face_shape_mask(MeshParser(network).parse(faces[2:])))


# --- in the pipeline -------------------------------------------------------------------------------------------------


def photo_with_a_face(faces_B3HW: Tensor) -> tuple[Tensor, cf.Face]:
    """The aligned face in the middle of 640 gray pixels."""
    photo = torch.full((1, 640, 640, 3), 0.5)
    photo[0, 64:576, 64:576] = ((faces_B3HW[0] + 1) / 2).permute(1, 2, 0)
    return photo, face_at(TEMPLATE_XY + 64)


class Unchanged(InvertingRestorer):
    """Hands its faces back as they are, so that the parser sees a face."""

    def restore(self, faces_B3HW, fidelity=0.5, component_boxes_B44=None):
        return faces_B3HW


def restored(faces_B3HW: Tensor, parser: object, **options: object) -> cf.RestoredImages:
    photo, face = photo_with_a_face(faces_B3HW)
    return cf.restore_images(
        photo, restorer=Unchanged(), detector=GivenDetector(((face,),)), parser=parser, detail=0.0, **options
    )


def test_the_mask_face_takes_it_and_says_so(parser, faces_B3HW):
    with_mesh = restored(faces_B3HW, parser)
    assert facts(with_mesh, "mask_mesh") == [("mask_mesh", None, {"parser": "face_mesh"})]
    assert "without hair" in cf.report(with_mesh)
    expected = mesh_shape_masks(parser, faces_B3HW[:1], TEMPLATE_XY[None])[0]
    pasted = with_mesh.masks_BHW[0, 64:576, 64:576]
    # Where the soft box is 1; the alignment samples at fractions of pixels.
    assert (pasted - expected)[100:412, 100:412].abs().max() < 0.02
    outline = restored(faces_B3HW, None)
    assert facts(outline, "mask_outline_instead") and not torch.equal(outline.masks_BHW, with_mesh.masks_BHW)


def test_the_official_recipe_does_not_know_it(parser, faces_B3HW):
    official = restored(faces_B3HW, parser, parity=True)
    without = restored(faces_B3HW, None, parity=True)
    assert facts(official, "mask_box_instead") and torch.equal(official.images_BHWC, without.images_BHWC)
    assert torch.equal(official.masks_BHW, without.masks_BHW)


def test_regions_that_it_sees_and_others(parser, faces_B3HW):
    eyes = restored(faces_B3HW, parser, paste=cf.PasteOptions(regions=("eyes",)))
    ((_, _, values),) = facts(eyes, "mask_regions")
    assert values == {"regions": ("eyes",), "parser": "face_mesh"}
    touched_HW = eyes.masks_BHW[0] > 0.05
    rows, columns = touched_HW.nonzero().unbind(1)
    assert rows.min() > 270 and rows.max() < 350 and columns.min() > 200 and columns.max() < 440
    with pytest.raises(InputError, match=r"face_mesh doesn't see the regions hair, ears, only skin, .*parsenet"):
        restored(faces_B3HW, parser, paste=cf.PasteOptions(regions=("hair", "eyes", "ears")))
