"""The starter detector's network, decoding and behaviour; how well it finds faces is measured by benchmarks."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from codeformer_core.faces.detection import ViewSize
from codeformer_core.faces.detectors.starter.decode import UNIT_STRIDES, cells, decode, is_nested, merged
from codeformer_core.faces.detectors.starter.detector import (
    Candidates,
    StarterDetector,
    build_starter_detector,
    is_starter_detector,
)
from codeformer_core.faces.detectors.starter.network import OUTPUTS, STRIDES, Block, StarterNetwork, fold_norms


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(0)
    return StarterNetwork().state_dict()


@pytest.fixture(scope="module")
def detector(state):
    return build_starter_detector(state)


class OneCell(torch.nn.Module):
    """Answers as if there was one face, in the coarse grid's cell in row 2, column 3 of every view."""

    def __init__(self, logit: float) -> None:
        super().__init__()
        self.logit = torch.nn.Parameter(torch.tensor(logit), requires_grad=False)

    def forward(self, views_B3HW):
        batch, _, height, width = views_B3HW.shape
        outputs = [torch.zeros(batch, OUTPUTS, height // stride, width // stride) for stride in STRIDES]
        for output in outputs:
            output[:, 0] = -20
        if outputs[2].shape[2] > 10:  # the fine view only
            outputs[2][:, 0, 2, 3] = self.logit
            outputs[2][:, 5:, 2, 3] = torch.linspace(-0.4, 0.4, 10)
        return outputs


def test_it_is_small_enough_to_ship():
    count = sum(parameter.numel() for parameter in StarterNetwork().parameters())
    assert 100_000 <= count <= 300_000
    assert 4 * count < 1_200_000


@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 96), (320, 32)])
def test_every_cell_of_every_grid_answers(height, width):
    outputs = StarterNetwork().eval()(torch.zeros(2, 3, height, width))
    assert [output.shape for output in outputs] == [
        (2, OUTPUTS, height // stride, width // stride) for stride in STRIDES
    ]
    answers = decode(outputs, cells(height, width))
    assert answers.boxes_BA4.shape == (2, len(cells(height, width).units_A), 4)
    assert answers.points_BA52.shape[2:] == (5, 2)
    # With the first weights nothing is a face.
    assert float(answers.logits_BA.detach().sigmoid().max()) < 0.1


def test_folding_the_norms_changes_nothing():
    torch.manual_seed(1)
    network = StarterNetwork(has_norms=True)
    norms = [module.norm for module in network.modules() if isinstance(module, Block) and module.norm is not None]
    assert len(norms) == 11
    for norm in norms:
        for tensor, low, high in ((norm.weight.data, 0.5, 2), (norm.bias.data, -1, 1), (norm.running_mean, -1, 1)):
            tensor.uniform_(low, high)
        norm.running_var.uniform_(0.3, 3)
    network.eval()
    folded = fold_norms(network)
    assert not any("norm" in key for key in folded.state_dict())
    views_B3HW = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        for before, after in zip(network(views_B3HW), folded(views_B3HW), strict=True):
            torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)


def test_numbers_are_counted_in_strides_from_the_cells_middle():
    outputs = [torch.zeros(1, OUTPUTS, 64 // stride, 64 // stride) for stride in STRIDES]
    outputs[1][0, 1:5, 1, 2] = torch.tensor([0.5, -0.25, math.log(0.5), 0.0])
    outputs[1][0, 5:7, 1, 2] = torch.tensor([0.25, 0.125])
    answers = decode(outputs, cells(64, 64))
    index = (64 // 8) ** 2 + 1 * (64 // 16) + 2
    unit = UNIT_STRIDES * 16
    center = torch.tensor([2.5 * 16 - 0.5, 1.5 * 16 - 0.5])
    torch.testing.assert_close(answers.centers_BA2[0, index], center + torch.tensor([0.5, -0.25]) * unit)
    torch.testing.assert_close(answers.sizes_BA2[0, index], torch.tensor([0.5, 1.0]) * unit)
    torch.testing.assert_close(answers.points_BA52[0, index, 0], center + torch.tensor([0.25, 0.125]) * unit)
    torch.testing.assert_close(answers.points_BA52[0, index, 4], center)


def test_candidates_of_one_face_become_their_mean_by_weight():
    boxes_N4 = np.array([[0.0, 0, 10, 10], [50, 50, 60, 60], [1, 0, 11, 10]])
    points_N52 = np.stack([np.full((5, 2), value) for value in (4.0, 55.0, 8.0)])
    scores_N, weights_N = np.array([0.75, 0.9, 0.5]), np.array([3.0, 1, 1])
    boxes, points, scores = merged(boxes_N4, points_N52, scores_N, weights_N, iou=0.4)
    np.testing.assert_allclose(scores, [0.9, 0.75])
    np.testing.assert_allclose(boxes, [[50, 50, 60, 60], [0.25, 0, 10.25, 10]])
    np.testing.assert_allclose(points[:, 0, 0], [55, 5])


def test_a_smaller_box_inside_a_face_is_a_part_of_it():
    face, mouth = [100.0, 100, 200, 220], [130.0, 160, 170, 200]
    beside, as_wide, half_outside = [300.0, 100, 340, 140], [105.0, 110, 195, 200], [180.0, 150, 220, 190]
    nested_N = is_nested(np.array([mouth, face, beside, as_wide, half_outside]))
    assert nested_N.tolist() == [True, False, False, False, False]
    assert is_nested(np.zeros((0, 4))).tolist() == []


def test_nothing_merges_to_nothing():
    boxes, points, scores = merged(np.zeros((0, 4)), np.zeros((0, 5, 2)), np.zeros(0), np.zeros(0), iou=0.4)
    assert (boxes.shape, points.shape, scores.shape) == ((0, 4), (0, 5, 2), (0,))


@pytest.mark.parametrize("side", [640, 1280, 160])
def test_faces_come_back_in_pixels_of_the_picture(side):
    """The middle of a view's pixel is that of the picture's area it stands for, not its corner."""
    found = StarterDetector(OneCell(2.0)).detect(torch.zeros(1, side, side, 3))
    (face,) = found[0]
    factor = side / 640
    expected = [(value + 0.5) * factor - 0.5 for value in (3.5 * 32 - 0.5, 2.5 * 32 - 0.5)]
    assert face.center_xy == pytest.approx(expected, abs=1e-3)
    assert face.width == pytest.approx(UNIT_STRIDES * 32 * factor, rel=1e-4)
    assert face.score == pytest.approx(1 / (1 + math.exp(-2)), abs=1e-5)
    first = (3.5 * 32 - 0.4 * UNIT_STRIDES * 32) * factor - 0.5
    assert face.landmarks_xy[0][0] == pytest.approx(first, abs=1e-2)


def test_of_two_views_the_larger_counts_more():
    small, large = ViewSize(320, 320, 0.5), ViewSize(640, 640, 1.0)
    looks = [
        Candidates(np.array([box]), np.full((1, 5, 2), box[0]), np.array([0.8]), np.array([0.8]))
        for box in ((100.0, 100, 200, 200), (52.25, 49.75, 102.25, 99.75))
    ]
    enlarged = looks[1].enlarged(small, large)
    np.testing.assert_allclose(enlarged.boxes_N4, [[105, 100, 205, 200]])
    both = looks[0].followed_by(enlarged)
    boxes, points, scores = merged(both.boxes_N4, both.points_N52, both.scores_N, both.weights_N, iou=0.4)
    np.testing.assert_allclose(boxes, [[101, 100, 201, 200]])
    np.testing.assert_allclose(points, np.full((1, 5, 2), 101))
    assert scores.tolist() == [0.8]


def test_only_faces_above_the_confidence_count():
    weak = StarterDetector(OneCell(0.0))  # a score of one half
    picture = torch.zeros(1, 640, 640, 3)
    assert len(weak.detect(picture, 0.49)[0]) == 1
    assert weak.detect(picture, 0.51) == [[]]


def test_a_batch_answers_as_its_pictures_alone(detector):
    torch.manual_seed(2)
    pictures = torch.rand(3, 96, 128, 3)
    together = detector.detect(pictures, 0.0)
    assert len(together) == 3 and all(together)
    for picture, faces in zip(pictures, together, strict=True):
        (alone,) = detector.detect(picture[None], 0.0)
        assert len(alone) == len(faces)
        np.testing.assert_allclose([face.score for face in alone], [face.score for face in faces], atol=1e-5)
        np.testing.assert_allclose([face.box_xyxy for face in alone], [face.box_xyxy for face in faces], atol=0.05)
        points_N52 = [face.landmarks_array() for face in alone]
        np.testing.assert_allclose(points_N52, [face.landmarks_array() for face in faces], atol=0.05)


@pytest.mark.parametrize("shape", [(1, 1, 300, 3), (2, 300, 1, 3), (1, 7, 7, 3), (1, 8, 900, 1), (1, 33, 65, 4)])
def test_pictures_of_any_size_are_looked_at(detector, shape):
    assert detector.detect(torch.rand(*shape)) == [[] for _ in range(shape[0])]


@pytest.mark.parametrize("confidence", [-0.1, 1.1, math.nan])
def test_a_confidence_outside_0_and_1_is_refused(detector, confidence):
    with pytest.raises(ValueError, match="within 0 and 1"):
        detector.detect(torch.zeros(1, 32, 32, 3), confidence)


def test_broken_weights_are_noticed(state):
    broken = build_starter_detector({key: torch.full_like(tensor, math.nan) for key, tensor in state.items()})
    with pytest.raises(RuntimeError, match="starter_detector answered with non-finite"):
        broken.detect(torch.zeros(1, 64, 64, 3))


def test_files_are_told_by_their_keys(state):
    assert is_starter_detector(state)
    assert is_starter_detector({f"module.{key}": tensor for key, tensor in state.items()})
    assert not is_starter_detector({"body.stage1.0.0.weight": torch.zeros(1)})


def test_keys_that_do_not_fit_are_named(state):
    first = next(iter(state))
    with pytest.raises(ValueError, match=f"starter_detector.*missing: {first}"):
        build_starter_detector({key: tensor for key, tensor in state.items() if key != first})
    with pytest.raises(ValueError, match="unexpected: something"):
        build_starter_detector({**state, "something": torch.zeros(1)})
    with pytest.raises(ValueError, match="wrong shape"):
        build_starter_detector({**state, first: torch.zeros(1)})


def test_memory_grows_with_the_batch(detector):
    one, two = (detector.bytes_for(torch.zeros(count, 64, 64, 3)) for count in (1, 2))
    assert 0 < one < two
    assert detector.module is not None and detector.name == "starter_detector"
