"""68 landmarks from facexlib's alignment network: heatmaps, places in pixels, its file, and what the pipeline asks."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import codeformer_core as cf
from codeformer_core.faces.components import boxes_from_68, boxes_from_five
from codeformer_core.faces.geometry import TEMPLATE_XY
from codeformer_core.faces.landmarks import HourglassLandmarkDetector, build_landmark_detector, peaks
from codeformer_core.weights.catalog import ALIGNER, find_entry

from .facts import facts
from .test_restore_parts import (
    LANDMARKS_682,
    GivenDetector,
    RecordingRestorer,
    face_with_68,
    placed_face,
    restored,
    without_mouth,
)


class Marked(nn.Module):
    """Stands for the network: the heatmap of landmark n has its peak at cell (n % 64, n // 2) of 64x64."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, faces_B3HW: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        assert faces_B3HW.shape[1:] == (3, 256, 256)
        assert faces_B3HW.min() >= 0 and faces_B3HW.max() <= 1
        heatmaps = torch.zeros(len(faces_B3HW), 99, 64, 64)
        for n in range(98):
            heatmaps[:, n, n // 2, n % 64] = 1
        return [torch.full_like(heatmaps, torch.nan), heatmaps], []


def test_peaks_lean_to_the_higher_neighbour():
    heatmaps = torch.zeros(1, 4, 8, 8)
    heatmaps[0, 0, 3, 5] = heatmaps[0, 1, 0, 7] = heatmaps[0, 2, 4, 4] = 1
    heatmaps[0, 0, 3, 6], heatmaps[0, 0, 2, 5] = 0.5, 0.25
    heatmaps[0, 3, 0, 0] = torch.nan
    points_42 = peaks(heatmaps)[0] * 8
    assert points_42[0].tolist() == [5.75, 3.25]
    # At the border the missing neighbour counts as high as the peak.
    assert points_42[1].tolist() == [7.75, 0.25]
    assert points_42[2].tolist() == [4.5, 4.5]
    assert points_42[3].isnan().all()


def test_points_are_pixels_of_the_faces_in_the_order_of_68():
    landmark_detector = HourglassLandmarkDetector(Marked())
    found_B682 = landmark_detector.find(torch.zeros(5, 3, 512, 512))
    assert found_B682.shape == (5, 68, 2) and found_B682.dtype == np.float64
    middle_982 = np.array([(n % 64, n // 2) for n in range(98)]) * 8 + 3.5
    # WFLW's jaw has every second point of ours; corners of eyes and mouth are points of both.
    inner = slice(2, 14)
    assert np.allclose(found_B682[:, :17][:, inner], middle_982[:33:2][inner], atol=2.01)
    for ours, theirs in ((36, 60), (39, 64), (42, 68), (45, 72), (48, 76), (54, 82), (60, 88), (30, 54)):
        assert np.allclose(found_B682[0, ours], middle_982[theirs], atol=2.01), ours
    # A brow's point lies between its upper and lower edge.
    assert np.allclose(found_B682[0, 19], (middle_982[35] + middle_982[40]) / 2, atol=2.01)
    assert landmark_detector.find(torch.zeros(0, 3, 512, 512)).shape == (0, 68, 2)
    assert np.allclose(landmark_detector.find(torch.zeros(1, 3, 64, 128))[0] + 0.5, (found_B682[0] + 0.5) / (4, 8))


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    # Here and not above: it takes long to import.
    from facexlib.alignment.awing_arch import FAN

    torch.manual_seed(0)
    return FAN(num_modules=4, num_landmarks=98, device="cpu").state_dict()


def test_the_network_is_filled_from_its_file_and_finds_68_points(weights, tmp_path):
    """Random weights, as published in a pickle under "state_dict"."""
    entry = find_entry(ALIGNER)
    assert entry is not None and entry.task == "alignment"
    (tmp_path / "facedetection").mkdir()
    torch.save({"state_dict": weights}, tmp_path / "facedetection" / entry.filename)
    landmark_detector = cf.load_landmark_detector(roots=[tmp_path])
    assert landmark_detector.name == ALIGNER and not landmark_detector.module.training
    assert all(torch.equal(tensor, weights[key]) for key, tensor in landmark_detector.module.state_dict().items())
    faces_B3HW = torch.rand((2, 3, 512, 512), generator=torch.Generator().manual_seed(1)) * 2 - 1
    found_B682 = landmark_detector.find(faces_B3HW)
    assert found_B682.shape == (2, 68, 2) and found_B682.min() >= -8 and found_B682.max() <= 520
    assert np.allclose(found_B682[1:], landmark_detector.find(faces_B3HW[1:]))
    assert not np.array_equal(found_B682[0], found_B682[1])


def test_other_weights_are_refused(weights):
    with pytest.raises(ValueError, match=r"do not fit facexlib_alignment \(missing: conv1.conv.weight"):
        build_landmark_detector({key: tensor for key, tensor in weights.items() if key != "conv1.conv.weight"})


# --- in the pipeline -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class GivenAligner:
    """Finds these landmarks in every crop; notes how many it saw."""

    landmarks_682: np.ndarray
    name: str = "given"
    module: nn.Module = field(default_factory=nn.Identity)
    seen: list[int] = field(default_factory=list)

    def bytes_for(self, faces_B3HW: Tensor) -> int:
        return 0

    def find(self, faces_B3HW: Tensor) -> np.ndarray:
        assert faces_B3HW.min() < -0.5 and faces_B3HW.shape[1:] == (3, 512, 512)
        self.seen.append(len(faces_B3HW))
        return np.stack([self.landmarks_682] * len(faces_B3HW))


OTHER_682 = LANDMARKS_682[::-1].copy()


@pytest.fixture(scope="module")
def images_BHW3() -> Tensor:
    return torch.rand((1, 400, 600, 3), generator=torch.Generator().manual_seed(1))


def test_faces_without_68_landmarks_get_them_from_the_aligner(images_BHW3):
    faces = [face_with_68(150, 150), placed_face(450, 150, 40), face_with_68(300, 250), face_with_68(450, 300)]
    restorer, landmark_detector = RecordingRestorer(), GivenAligner(OTHER_682)
    result = restored(images_BHW3, [faces], restorer, landmark_detector=landmark_detector)
    own_44, found_44 = boxes_from_68(LANDMARKS_682), boxes_from_68(OTHER_682)
    assert np.abs(np.array(restorer.boxes) - np.stack([own_44, found_44, own_44, own_44])).max() <= 1
    assert facts(result, "components_68", "components_5") == [("components_68", None, {"count": 4})]
    # Two faces go together; where both brought their own, nobody is asked.
    assert landmark_detector.seen == [2]


def test_the_aligner_helps_a_face_that_lost_its_mouth_and_may_fail_itself(images_BHW3):
    lost = face_with_68(300, 200, landmarks_682=without_mouth(np.nan))
    restorer = RecordingRestorer()
    result = restored(images_BHW3, [[lost]], restorer, landmark_detector=GivenAligner(OTHER_682))
    assert restorer.boxes == [boxes_from_68(OTHER_682).tolist()] and not facts(result, "landmarks_lost")
    blind = RecordingRestorer()
    result = restored(images_BHW3, [[lost]], blind, landmark_detector=GivenAligner(np.full((68, 2), np.nan)))
    assert np.abs(np.array(blind.boxes[0]) - boxes_from_five(TEMPLATE_XY)).max() <= 1
    lost_all = {"components": ("left eye", "right eye", "nose", "mouth")}
    assert facts(result, "landmarks_lost") == [("landmarks_lost", 0, lost_all)]


def test_only_a_restorer_that_asks_for_parts_costs_the_aligners_time(images_BHW3):
    landmark_detector = GivenAligner(OTHER_682)
    detector = GivenDetector(((placed_face(300, 200, 50),),))
    other = RecordingRestorer(needs_landmarks=False)
    result = cf.restore_images(
        images_BHW3, restorer=other, detector=detector, landmark_detector=landmark_detector, mask="outline"
    )
    assert landmark_detector.seen == [] and other.told == [] and not facts(result, "components_68", "components_5")
