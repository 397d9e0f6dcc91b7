"""Identity with a tiny ONNX network, the ONNX reader, and landmarks with a detector that is told what it sees."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from codeformer_core.faces.types import Face
from codeformer_core.metrics.identity import (
    ARCFACE_XY,
    Identity,
    align_for_arcface,
    fitted_similarity,
)
from codeformer_core.metrics.landmarks import LandmarkDistance
from codeformer_core.metrics.onnx_shapes import read_onnx_shapes
from codeformer_core.weights.reading import WeightsError

onnx = pytest.importorskip("onnx")


def write_network(
    path: Path, shape=(1, 3, 112, 112), outputs: int = 8, legacy: bool = False, rank: int = 2
) -> np.ndarray:
    """A linear network of the picture's pixels; returns its weights (numbers, outputs)."""
    numbers = int(np.prod([side for side in shape[1:] if isinstance(side, int)]))
    weights = (np.random.default_rng(0).normal(size=(numbers, outputs)) / 100).astype(np.float32)
    tensor = onnx.TensorProto.FLOAT
    nodes = [
        onnx.helper.make_node("Flatten", ["picture"], ["flat"], axis=1),
        onnx.helper.make_node("MatMul", ["flat", "weights"], ["embedding"]),
    ]
    inputs = [onnx.helper.make_tensor_value_info("picture", tensor, list(shape))]
    if legacy:  # older exporters list the weights too
        inputs.append(onnx.helper.make_tensor_value_info("weights", tensor, weights.shape))
    given = [shape[0], outputs]
    if rank == 4:
        nodes[-1].output[0] = "flat_embedding"
        nodes.append(onnx.helper.make_node("Reshape", ["flat_embedding", "sides"], ["embedding"]))
        given = [1, 2, 2, outputs // 4]
    graph = onnx.helper.make_graph(
        nodes,
        "graph",
        inputs,
        [onnx.helper.make_tensor_value_info("embedding", tensor, given)],
        [onnx.numpy_helper.from_array(weights, "weights")]
        + ([onnx.numpy_helper.from_array(np.array(given, np.int64), "sides")] if rank == 4 else []),
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, path)
    return weights


def faces(seed: int, size: int = 128) -> torch.Tensor:
    coarse = torch.rand((2, 3, 8, 8), generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, (size, size), mode="bicubic").clamp(0, 1)


def test_it_is_the_cosine_of_the_networks_outputs(tmp_path):
    weights = write_network(tmp_path / "face.onnx")
    restored, clean = faces(1), faces(2)
    metric = Identity(tmp_path / "face.onnx")

    def embedding(batch: torch.Tensor) -> np.ndarray:
        levels = align_for_arcface(batch).numpy() * 255
        return ((levels - 127.5) / 127.5).reshape(len(batch), -1) @ weights

    a, b = embedding(restored), embedding(clean)
    expected = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    np.testing.assert_allclose(metric.measure(restored, clean), expected, atol=1e-4)
    np.testing.assert_allclose(metric.measure(clean, clean), 1, atol=1e-6)


def test_the_similarity_is_the_least_squares_one():
    angle, scale, shift = 0.3, 1.7, np.array([5.0, -2.0])
    turn = scale * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    exact = fitted_similarity(ARCFACE_XY, ARCFACE_XY @ turn.T + shift)
    np.testing.assert_allclose(exact, np.column_stack((turn, shift)), atol=1e-9)
    noisy = ARCFACE_XY + np.random.default_rng(0).normal(size=(5, 2))
    found = fitted_similarity(ARCFACE_XY, noisy)
    rows = [[x, -y, 1, 0] for x, y in ARCFACE_XY] + [[y, x, 0, 1] for x, y in ARCFACE_XY]
    a, b, u, v = np.linalg.lstsq(np.array(rows), np.concatenate((noisy[:, 0], noisy[:, 1])), rcond=None)[0]
    np.testing.assert_allclose(found, [[a, -b, u], [b, a, v]], atol=1e-9)


@pytest.mark.parametrize("size", [512, 256])
def test_landmarks_of_the_template_come_to_arcfaces_places(size):
    """A blob at each of the template's points is found where the similarity puts it, near insightface's point.

    The two templates have other proportions: the nose misses by two pixels.
    """
    from codeformer_core.faces.geometry import TEMPLATE_XY

    to_crop = fitted_similarity(TEMPLATE_XY, ARCFACE_XY)
    y, x = np.mgrid[0:size, 0:size]
    rows, columns = np.mgrid[0:112, 0:112]
    for point, wanted in zip(TEMPLATE_XY, ARCFACE_XY, strict=True):
        u, v = (point + 0.5) * size / 512 - 0.5
        blob = np.exp(-((x - u) ** 2 + (y - v) ** 2) / (2 * (size / 40) ** 2))
        crop = align_for_arcface(torch.from_numpy(blob).float().expand(1, 3, -1, -1))[0, 0].double().numpy()
        found = ((columns * crop).sum() / crop.sum(), (rows * crop).sum() / crop.sum())
        np.testing.assert_allclose(found, to_crop @ (*point, 1), atol=0.05)
        assert math.dist(found, wanted) < 2.5


def test_a_batch_size_left_open_and_weights_among_the_inputs_are_fine(tmp_path):
    write_network(tmp_path / "open.onnx", shape=("N", 3, 112, 112))
    write_network(tmp_path / "legacy.onnx", legacy=True)
    clean = faces(1)
    for name in ("open", "legacy"):
        np.testing.assert_allclose(Identity(tmp_path / f"{name}.onnx").measure(clean, clean), 1, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((1, 3, 64, 64), r"picture \(1, 3, 64, 64\)"),
        ((1, 112, 112, 3), r"picture \(1, 112, 112, 3\)"),
        ((1, 1, 112, 112), r"picture \(1, 1, 112, 112\)"),
        ((4, 3, 112, 112), r"picture \(4, 3, 112, 112\)"),
    ],
)
def test_other_inputs_are_named(tmp_path, shape, words):
    write_network(tmp_path / "other.onnx", shape=shape)
    with pytest.raises(WeightsError, match=rf"other\.onnx takes {words}, expected one input of \(1, 3, 112, 112\)"):
        Identity(tmp_path / "other.onnx")


def test_other_outputs_are_named(tmp_path):
    write_network(tmp_path / "map.onnx", rank=4)
    with pytest.raises(WeightsError, match=r"map\.onnx gives \(1, 2, 2, 2\) for one face"):
        Identity(tmp_path / "map.onnx")


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_code_and_other_files_are_refused(tmp_path):
    torch.save({"weight": torch.zeros(2)}, tmp_path / "weights.pth")
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "script.onnx")
    for name in ("weights.pth", "script.onnx"):
        with pytest.raises(WeightsError, match=rf"{name}: TorchScript and pickles are code"):
            Identity(tmp_path / name)
    (tmp_path / "text.onnx").write_bytes(b"hello " * 100)
    with pytest.raises(WeightsError, match=r"text\.onnx is not an ONNX model"):
        Identity(tmp_path / "text.onnx")
    (tmp_path / "empty.onnx").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"empty\.onnx is an empty file"):
        Identity(tmp_path / "empty.onnx")
    with pytest.raises(WeightsError, match=r"nowhere\.onnx is not there"):
        Identity(tmp_path / "nowhere.onnx")


def test_cut_files_are_refused(tmp_path):
    write_network(tmp_path / "whole.onnx", outputs=2)
    data = (tmp_path / "whole.onnx").read_bytes()
    for length in (1, 5, 40, len(data) // 2, len(data) - 3):
        (tmp_path / "cut.onnx").write_bytes(data[:length])
        with pytest.raises(WeightsError, match=r"cut\.onnx"):
            Identity(tmp_path / "cut.onnx")


def test_shapes_are_read_as_onnx_reads_them(tmp_path):
    write_network(tmp_path / "a.onnx", shape=("N", 3, 112, 112), legacy=True)
    graph = onnx.load(tmp_path / "a.onnx").graph
    found = read_onnx_shapes(tmp_path / "a.onnx")
    assert found.inputs == {"picture": (None, 3, 112, 112)}
    assert list(found.outputs) == [output.name for output in graph.output] == ["embedding"]
    assert found.outputs["embedding"] == (None, 8)


def test_faces_must_be_square(tmp_path):
    with pytest.raises(ValueError, match="square"):
        align_for_arcface(torch.rand(1, 3, 64, 48))


class Told:
    """Finds in a picture what its first red value says: an index into the given lists."""

    name, default_confidence, module = "told", 0.5, None

    def __init__(self, *found: list[Face]) -> None:
        self.found = found

    def bytes_for(self, images_BHWC: torch.Tensor) -> int:
        return 0

    def detect(self, images_BHWC: torch.Tensor, confidence: float | None = None) -> list[list[Face]]:
        return [self.found[round(float(image[0, 0, 0]) * 255)] for image in images_BHWC]


def face_at(x: float, y: float, spread: float = 10, score: float = 0.9) -> Face:
    places = ((-1, -1), (1, -1), (0, 0), (-0.7, 1), (0.7, 1))
    points = tuple((x + spread * u, y + spread * v) for u, v in places)
    return Face((x - 2 * spread, y - 2 * spread, x + 2 * spread, y + 2 * spread), points, score)  # type: ignore[arg-type]


def marked(*indices: int) -> torch.Tensor:
    pictures = torch.zeros((len(indices), 3, 64, 64))
    pictures[:, 0, 0, 0] = torch.tensor(indices) / 255
    return pictures


def test_landmark_distance_in_percent_of_the_eye_distance():
    metric = LandmarkDistance(Told([face_at(32, 32)], [face_at(35, 28)], [], [face_at(5, 5, score=1), face_at(33, 32)]))
    values = metric.measure(marked(1, 0, 2, 0, 3), marked(0, 0, 0, 2, 0))
    # All points moved by (3, -4), that is 5 pixels; the eyes are 20 apart.
    assert values[:2].tolist() == pytest.approx([25.0, 0.0])
    assert values[2:4].isnan().all()
    # Of two faces the one in the middle counts, not the one with the better score.
    assert float(values[4]) == pytest.approx(5.0)
