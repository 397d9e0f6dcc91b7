"""Where a restorer that works part by part (DFDNet) learns where the parts lie: in pictures, and in crops."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import Tensor

import codeformer_core as cf
from codeformer_core.faces.batch import FaceBatch
from codeformer_core.faces.components import boxes_from_68, boxes_from_five
from codeformer_core.faces.geometry import TEMPLATE_XY
from codeformer_core.faces.types import Face
from codeformer_core.networks.dfdnet import DFDNet, DFDNetConfig
from codeformer_core.pipeline.aligned_faces import restore_aligned
from codeformer_core.pipeline.components import (
    aligned_crops,
    component_boxes,
    placed_by,
    stacked,
)
from codeformer_core.pipeline.crop import crop_faces
from codeformer_core.runtime.errors import problem_of
from codeformer_core.study.restorers import compare_restorers

from .conftest import GivenDetector, InvertingRestorer, placed_face
from .facts import facts

PLACED = ("components_68", "components_5")
PROBLEMS = ("landmarks_lost", "points_outside")
# Any 68 points in the crop whose parts lie elsewhere than the template's.
LANDMARKS_682 = np.random.default_rng(3).uniform(60, 440, (68, 2))


@dataclass(frozen=True)
class RecordingRestorer:
    """Gives faces back as they came and notes the boxes it was told."""

    name: str = "recording"
    tasks: tuple[str, ...] = ("restoration",)
    uses_fidelity: bool = True
    recommended_fidelity: float = 0.5
    needs_landmarks: bool = True
    told: list[Tensor] = field(default_factory=list)

    def faces_at_once(self) -> int:
        return 2

    def restore(self, faces_B3HW: Tensor, fidelity: float = 0.5, component_boxes_B44: Tensor | None = None) -> Tensor:
        assert (component_boxes_B44 is not None) == self.needs_landmarks
        if component_boxes_B44 is not None:
            assert len(component_boxes_B44) == len(faces_B3HW)
            self.told.extend(component_boxes_B44)
        return faces_B3HW

    @property
    def boxes(self) -> list[list[list[int]]]:
        return [box_44.tolist() for box_44 in self.told]


class FindsThem:
    """The same 68 landmarks in every face."""

    name = "landmarks.pth"
    module = torch.nn.Identity()

    def bytes_for(self, faces_B3HW: Tensor) -> int:
        return 0

    def find(self, faces_B3HW: Tensor) -> np.ndarray:
        return np.stack([LANDMARKS_682] * len(faces_B3HW))


def face_with_68(x: float, y: float, eye_distance: float = 50, landmarks_682: np.ndarray = LANDMARKS_682) -> Face:
    """An undistorted face whose 68 landmarks lie at `landmarks_682` of its crop."""
    face = placed_face(x, y, eye_distance)
    five_52 = face.landmarks_array()
    scale = (five_52[1, 0] - five_52[0, 0]) / (TEMPLATE_XY[1, 0] - TEMPLATE_XY[0, 0])
    placed_682 = (landmarks_682 - TEMPLATE_XY[0]) * scale + five_52[0]
    return dataclasses.replace(face, landmarks_68_xy=tuple(map(tuple, placed_682.tolist())))


def restored(images_BHW3: Tensor, faces: list[list[Face]], restorer, **options) -> cf.RestoredImages:
    given = FaceBatch.of(images_BHW3, faces)
    return cf.restore_images(images_BHW3, restorer=restorer, detector=given, mask="outline", **options)


@pytest.fixture(scope="module")
def images_BHW3() -> Tensor:
    return torch.rand((2, 400, 600, 3), generator=torch.Generator().manual_seed(1))


def test_68_landmarks_of_the_picture_place_the_parts_in_the_crop(images_BHW3):
    restorer = RecordingRestorer()
    result = restored(
        images_BHW3, [[face_with_68(200, 200), placed_face(450, 150, 40)], [face_with_68(300, 200)]], restorer
    )
    expected_44, plain_44 = boxes_from_68(LANDMARKS_682), boxes_from_five(TEMPLATE_XY)
    assert np.abs(np.array(restorer.boxes) - np.stack([expected_44, plain_44, expected_44])).max() <= 1
    assert np.abs(expected_44 - plain_44).max() > 20
    assert facts(result, *PLACED) == [("components_68", None, {"count": 2}), ("components_5", None, {"count": 1})]
    assert not facts(result, *PROBLEMS) and [len(faces) for faces in result.faces] == [2, 1]


def test_one_kind_of_landmarks(images_BHW3):
    result = restored(images_BHW3, [[], [face_with_68(300, 200)]], RecordingRestorer())
    assert facts(result, *PLACED) == [("components_68", None, {"count": 1})]
    detector = GivenDetector(((placed_face(300, 200, 50),),))
    plain = cf.restore_images(images_BHW3, restorer=RecordingRestorer(), detector=detector, mask="outline")
    assert facts(plain, *PLACED) == [("components_5", None, {"count": 2})]
    other = restored(images_BHW3, [[], [face_with_68(300, 200)]], InvertingRestorer())
    assert not facts(other, *PLACED)


def test_landmarks_grow_with_an_enlarged_picture():
    """The published recipe enlarges small pictures first."""
    small_1HW3 = torch.rand((1, 200, 200, 3), generator=torch.Generator().manual_seed(2))
    face = face_with_68(100, 100, 40)
    restorer = RecordingRestorer()
    result = restored(small_1HW3, [[face]], restorer, parity=True)
    assert np.abs(np.array(restorer.boxes[0]) - boxes_from_68(LANDMARKS_682)).max() <= 1
    assert np.allclose(np.array(result.faces[0][0].landmarks_68_xy), np.array(face.landmarks_68_xy), atol=1e-6)


def without_mouth(value: float) -> np.ndarray:
    lost_682 = LANDMARKS_682.copy()
    lost_682[48:] = value
    return lost_682


@pytest.mark.parametrize("value", [np.nan, np.inf, 2000.0])
def test_a_lost_mouth_is_told_and_the_face_restored(images_BHW3, value):
    restorer = RecordingRestorer()
    result = restored(images_BHW3, [[], [face_with_68(300, 200, landmarks_682=without_mouth(value))]], restorer)
    assert np.abs(np.array(restorer.boxes[0]) - boxes_from_five(TEMPLATE_XY)).max() <= 1
    assert [len(faces) for faces in result.faces] == [0, 1] and not any(result.skipped)
    assert facts(result, *PROBLEMS) == [("landmarks_lost", 1, {"components": ("mouth",)})]
    assert [event.face for event in result.events if event.kind == "landmarks_lost"] == [result.faces[1][0]]


def test_a_mouth_that_the_detector_put_outside_the_crop_is_told(images_BHW3):
    face = placed_face(300, 200, 50)
    eye_left, eye_right, nose, mouth_left, (x, y) = face.landmarks_xy
    missed = dataclasses.replace(face, landmarks_xy=(eye_left, eye_right, nose, mouth_left, (x, y + 250)))
    restorer = RecordingRestorer()
    result = restored(images_BHW3, [[missed], []], restorer)
    assert np.abs(np.array(restorer.boxes[0]) - boxes_from_five(TEMPLATE_XY)).max() <= 1
    assert facts(result, *PROBLEMS) == [("points_outside", 0, {"points": ("right mouth corner",)})]


def test_a_face_needs_68_of_them():
    with pytest.raises(ValueError, match="must be 68 points or None, got 5"):
        dataclasses.replace(placed_face(0, 0, 10), landmarks_68_xy=placed_face(0, 0, 10).landmarks_xy)


# --- crops by themselves ---------------------------------------------------------------------------------------------


def test_crops_take_the_parts_of_their_faces(images_BHW3):
    nobody = placed_face(400, 300, 40)
    faces = FaceBatch.of(images_BHW3, [[nobody, face_with_68(200, 200)], [placed_face(300, 200, 40)]])
    cropped = crop_faces(images_BHW3, faces)
    cropped.crops_NHW3[0] = 0
    restorer = RecordingRestorer()
    made = restore_aligned(cropped.crops_NHW3, restorer=restorer, faces=cropped.faces)
    # The first crop is of one colour and has no turn.
    boxes = component_boxes(aligned_crops(cropped.faces, 3))[1:]
    assert restorer.boxes == stacked(boxes).tolist()
    assert facts(made, "components_68", "components_5") == facts(placed_by(boxes))
    assert facts(placed_by(boxes)) == [("components_68", None, {"count": 1}), ("components_5", None, {"count": 1})]
    # A restorer that knows no parts isn't told any.
    plain = restore_aligned(cropped.crops_NHW3, restorer=InvertingRestorer(), faces=cropped.faces)
    assert facts(plain, "components_68", "components_5") == []


def test_crops_that_come_alone_have_their_parts_where_the_template_has_them_or_somebody_finds_them(images_BHW3):
    crops_NHW3 = crop_faces(images_BHW3, FaceBatch.of(images_BHW3, [[placed_face(300, 200, 40)], []])).crops_NHW3
    restorer = RecordingRestorer()
    made = restore_aligned(crops_NHW3, restorer=restorer)
    assert restorer.boxes == [boxes_from_five(TEMPLATE_XY).tolist()]
    assert facts(made, "components_68", "components_5") == [("components_5", None, {"count": 1})]
    made = restore_aligned(crops_NHW3, restorer=restorer, landmark_detector=FindsThem())
    assert restorer.boxes[1:] == [boxes_from_68(LANDMARKS_682).tolist()]
    assert facts(made, "components_68", "components_5") == [("components_68", None, {"count": 1})]


def test_crops_of_other_faces_are_refused_and_the_placeholder_is_not(images_BHW3):
    faces = FaceBatch.of(images_BHW3, [[placed_face(300, 200, 40)], []])
    with pytest.raises(ValueError, match=r"^3 crops came with 1 faces\. Give the faces of these crops") as caught:
        aligned_crops(faces, 3)
    assert problem_of(caught.value) == "crops_of_other_faces"
    assert aligned_crops(faces.with_faces([[], []]), 1) == () and placed_by([]) == []


def test_compared_restorers_are_told_too(images_BHW3):
    restorer = RecordingRestorer()
    faces = FaceBatch.of(images_BHW3, [[], [face_with_68(300, 200, landmarks_682=without_mouth(np.nan))]])
    compared = compare_restorers(images_BHW3, restorers=[InvertingRestorer(), restorer], faces=faces)
    assert np.abs(np.array(restorer.boxes) - boxes_from_five(TEMPLATE_XY)).max() <= 1
    assert facts(compared, *PROBLEMS) == [("landmarks_lost", 1, {"components": ("mouth",)})]


# --- the network itself ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dfdnet() -> cf.Restorer:
    torch.manual_seed(0)
    config = DFDNetConfig(image_size=512, widths=(8, 8, 8, 8, 8), atoms=3, part_sizes=(80, 80, 50, 110))
    # Torch's own start would make the parts differ by less than a float's rounding.
    state = {key: 2.4 * value if value.ndim == 4 else value for key, value in DFDNet(config).state_dict().items()}
    return cf.load_restorer(state)


def test_the_network_sees_other_parts(dfdnet, images_BHW3):
    with_68 = restored(images_BHW3[:1], [[face_with_68(200, 200)]], dfdnet)
    with_five = restored(images_BHW3[:1], [[placed_face(200, 200, 50)]], dfdnet)
    crop, plain = with_68.crops[0], with_five.crops[0]
    assert torch.equal(crop.crop_3HW, plain.crop_3HW)
    expected = dfdnet.restore(crop.crop_3HW[None] * 2 - 1, 0.5, torch.from_numpy(boxes_from_68(LANDMARKS_682))[None])
    assert (crop.restored_3HW - (expected[0] + 1) / 2).abs().max() < 0.02
    assert (crop.restored_3HW - plain.restored_3HW).abs().max() > 1e-3


@pytest.mark.parametrize("place", [(0, 0), (599, 399), (300, -10), (605, 200)])
def test_faces_at_the_border_are_restored(dfdnet, images_BHW3, place):
    far_682 = LANDMARKS_682.copy()
    # A brow and a lip that a detector pushed out of the crop.
    far_682[[17, 18, 57]] -= 300
    faces = [face_with_68(*place), face_with_68(*place, landmarks_682=far_682), placed_face(*place, 50)]
    for face in faces:
        result = restored(images_BHW3[:1], [[face]], dfdnet)
        assert len(result.faces[0]) == 1 and result.skipped == ((),) and result.images_BHWC.isfinite().all()
        assert not torch.equal(result.images_BHWC, images_BHW3[:1])
