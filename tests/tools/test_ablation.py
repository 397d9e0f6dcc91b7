"""The ablation: what is counted, what is written, and the program."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from codeformer_core.degradation import LEVELS
from codeformer_core.models.saving import save_network
from codeformer_core.networks.codeformer import CodeFormer
from codeformer_core.networks.vqgan import VQAutoencoder
from tools.ablation.__main__ import main
from tools.ablation.comparison import METHODS, Ablation, HeadTraining, run_ablation
from tools.ablation.results import write_ablation

from ..core.training.patterns import CONFIG, PatternFaces


@pytest.fixture(scope="module")
def network() -> CodeFormer:
    torch.manual_seed(0)
    return CodeFormer(CONFIG).eval()


@pytest.fixture(scope="module")
def teacher(network) -> VQAutoencoder:
    torch.manual_seed(1)
    teacher = VQAutoencoder(CONFIG.autoencoder).eval()
    teacher.codebook.load_state_dict(network.codebook.state_dict())
    return teacher


@pytest.mark.slow
def test_the_ablation_counts_codes_and_trains_its_head(network, teacher):
    train, held_out, training = PatternFaces(16, seed=1), PatternFaces(3), HeadTraining(60, 4, 3e-3)
    before = {name: parameter.clone() for name, parameter in network.state_dict().items()}
    seen = []
    found = run_ablation(
        network,
        teacher,
        train,
        held_out,
        training,
        levels={"x2": LEVELS["x2"], "x30": LEVELS["x30"]},
        on_progress=lambda done, total, what: seen.append((done, total)),
    )
    assert found.faces == 3 and list(found.accuracies) == ["x2", "x30"]
    assert seen[-1] == (66, 66)
    # It learns: its loss falls below that of guessing, and it beats a transformer and a nearest code nobody trained.
    assert np.mean(found.head_losses[-10:]) < 0.9 * found.head_losses[0]
    for row in found.accuracies.values():
        assert tuple(row) == METHODS
        assert row["convolutional head"] > max(row["transformer"], row["nearest, trained encoder"]) + 0.05
    x2 = found.accuracies["x2"]
    assert x2["nearest, teacher's encoder"] > found.accuracies["x30"]["nearest, teacher's encoder"]
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    again = run_ablation(network, teacher, train, held_out, HeadTraining(3, 4, 3e-3), levels={"x2": LEVELS["x2"]})
    once_more = run_ablation(network, teacher, train, held_out, HeadTraining(3, 4, 3e-3), levels={"x2": LEVELS["x2"]})
    assert again.head_losses == once_more.head_losses and again.accuracies == once_more.accuracies


def test_the_ablation_refuses_what_tells_nothing(network, teacher):
    with pytest.raises(ValueError, match="are those it is measured with"):
        run_ablation(network, teacher, PatternFaces(2), PatternFaces(2), HeadTraining(1, 1, 1e-3))
    with pytest.raises(ValueError, match="nothing to compare: 0 faces to train on"):
        run_ablation(network, teacher, PatternFaces(0), PatternFaces(2), HeadTraining(1, 1, 1e-3))
    with pytest.raises(ValueError, match=r"face00\.png: cut off"):
        run_ablation(network, teacher, PatternFaces(1, 1, broken=(0,)), PatternFaces(2), HeadTraining(1, 1, 1e-3))
    with pytest.raises(ValueError, match=r"got 0, 1 and 0\.001"):
        HeadTraining(0, 1, 1e-3)


def test_the_ablations_files(tmp_path):
    shares = {"x2": dict.fromkeys(METHODS, 0.5), "x30": dict.fromkeys(METHODS, 0.25)}
    paths = write_ablation(Ablation(shares, 7, (1.0,)), tmp_path / "ablation")
    assert [path.name for path in paths] == ["ablation.csv", "ablation.png", "ablation.svg"]
    with paths[0].open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 8 and rows[0] == {"level": "x2", "method": METHODS[0], "accuracy": "0.5", "faces": "7"}
    with Image.open(paths[1]) as plot:
        assert plot.width > 800 and np.asarray(plot.convert("RGB")).std() > 5
    svg = paths[2].read_text(encoding="utf-8")
    assert "<svg" in svg and "matplotlib.pyplot" not in svg


def written(folder: Path, seed: int) -> Path:
    folder.mkdir()
    faces = PatternFaces(3, seed)
    for index, name in enumerate(faces.names):
        Image.fromarray(faces.read(index)).save(folder / name)
    return folder


def test_the_program(network, teacher, tmp_path, capsys):
    save_network(tmp_path / "network.safetensors", network, CONFIG, "restoration")
    save_network(tmp_path / "teacher.safetensors", teacher, CONFIG.autoencoder, "autoencoder")
    train, held_out = written(tmp_path / "train", 1), written(tmp_path / "val", 2)
    words = [tmp_path / "network.safetensors", "--teacher", tmp_path / "teacher.safetensors", "--device", "cpu"]
    words += ["--train-faces", train, "--faces", held_out, "-o", tmp_path / "out", "--head-steps", 2]
    assert main([str(word) for word in words]) == 0
    printed = capsys.readouterr().out
    assert all(method in printed for method in METHODS) and "ablation.svg" in printed
    assert (tmp_path / "out" / "ablation.svg").is_file()
    assert main([str(word) for word in words]) == 2
    assert "ablation.csv: exists already" in capsys.readouterr().err
