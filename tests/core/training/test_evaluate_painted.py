"""Evaluating colorization and inpainting: what stands beside the network, where it may paint, and the commands."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch
from PIL import Image

import codeformer_core as cf
from codeformer_core import cli
from codeformer_core.metrics.colours import ColorShift
from codeformer_core.metrics.pixels import Psnr
from codeformer_core.models.saving import save_network
from codeformer_core.networks.painter import Painter
from codeformer_core.training.evaluation.choose import Metrics
from codeformer_core.training.evaluation.faces import seeded
from codeformer_core.training.evaluation.painted import (
    COLORIZED,
    FILLED,
    GRAY,
    NAVIER_STOKES,
    ONE_TONE,
    TELEA,
    evaluate_colorization,
    evaluate_inpainting,
    strokes,
)

from ..others import SMALL_PAINTER, filled

METRICS = Metrics((Psnr(), ColorShift()), (), ())


class SkinFaces:
    """Two faces of the network's size: skin in the middle, blue around it."""

    names = ("one", "two")

    def __len__(self) -> int:
        return len(self.names)

    def read(self, index: int) -> np.ndarray:
        face_SS3 = np.full((512, 512, 3), (40, 60, 160), np.uint8)
        face_SS3[100:500, 100:412] = (200 - 60 * index, 150 - 50 * index, 120 - 40 * index)
        return face_SS3


@pytest.fixture
def painter_file(tmp_path):
    def save(task: str):
        network = Painter(SMALL_PAINTER)
        network.load_state_dict(filled(network))
        path = tmp_path / f"{task}.safetensors"
        save_network(path, network, SMALL_PAINTER, task)
        return path

    return save


def means(evaluation, metric: str) -> dict[str, float]:
    return {mean.group.method: mean.values[metric] for mean in evaluation.means}


def test_colours_are_measured_inside_the_face(painter_file):
    evaluation = evaluate_colorization(cf.load_restorer(painter_file("colorization")), SkinFaces(), METRICS, samples=1)
    errors = means(evaluation, "colour (a,b)")
    assert list(errors) == [GRAY, ONE_TONE, COLORIZED]
    assert errors[ONE_TONE] < errors[GRAY] and errors[COLORIZED] > 0
    (sample,) = evaluation.samples
    clean, *made = (image.astype(int) for _, image in sample.images)
    for image in made:
        assert np.array_equal(image[:90, :90], clean[:90, :90]), "outside the face's outline nothing is painted"


def test_holes_are_filled_three_ways_and_nothing_else_is_touched(painter_file):
    evaluation = evaluate_inpainting(cf.load_restorer(painter_file("inpainting")), SkinFaces(), METRICS, seed=7)
    nearness = means(evaluation, "PSNR")
    assert list(nearness) == ["holes", TELEA, NAVIER_STOKES, FILLED]
    assert nearness[TELEA] > nearness["holes"]
    for sample in evaluation.samples:
        images = dict(sample.images)
        kept = ~strokes(512, seeded(7, "strokes", sample.face))
        for name in (TELEA, NAVIER_STOKES, FILLED):
            assert np.array_equal(images[name][kept], images["clean"][kept]), name


def test_strokes_cover_a_part_of_the_face():
    shares = [strokes(512, torch.Generator().manual_seed(seed)).mean() for seed in range(12)]
    assert all(0.05 <= share <= 0.25 for share in shares) and len(set(shares)) > 6


@pytest.mark.parametrize(
    ("verb", "task", "methods"),
    [("colorize", "colorization", 3), ("inpaint", "inpainting", 4)],
)
def test_the_commands(tmp_path, painter_file, capsys, verb, task, methods):
    faces = tmp_path / "faces"
    faces.mkdir()
    Image.fromarray(SkinFaces().read(0)).save(faces / "one.png")
    file = painter_file(task)
    assert cli.main(["evaluate", verb, str(file), "--faces", str(faces), "-o", str(tmp_path / "out")]) == 0
    assert "colour (a,b)" in capsys.readouterr().out
    with open(tmp_path / "out" / "summary.csv", newline="") as stream:
        assert len(list(csv.DictReader(stream))) == methods
    other = "inpaint" if verb == "colorize" else "colorize"
    assert cli.main(["evaluate", other, str(file), "--faces", str(faces), "-o", str(tmp_path / "no")]) == 1
    assert f"is a model for {task}" in capsys.readouterr().err


def test_no_face_at_all(painter_file):
    class Nobody(SkinFaces):
        names: tuple[str, ...] = ()

    with pytest.raises(ValueError, match="none of the faces can be read"):
        evaluate_colorization(cf.load_restorer(painter_file("colorization")), Nobody(), METRICS)
