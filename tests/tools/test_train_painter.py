"""The painters' training: every task learns, is ended, goes on, and hands out its average."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from codeformer_core.networks.painter import Painter, PainterConfig
from tools.train_painter import faces, losses
from tools.train_painter.__main__ import main
from tools.train_painter.damage import damaged

SIDE = 128


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Five coloured faces, and painters that are small enough for them."""
    monkeypatch.setattr(faces, "SIDE", SIDE)
    monkeypatch.setattr("tools.train_painter.__main__.SIDE", SIDE)
    monkeypatch.setattr(losses, "CUT", SIDE // 2)
    for task in losses.TASKS.values():
        monkeypatch.setattr(task, "config", PainterConfig(patch=4, widths=(8, 12)))
    pixels = np.random.default_rng(0).integers(0, 255, (5, 4, 4, 3), dtype=np.uint8)
    (tmp_path / "faces").mkdir()
    for number, levels in enumerate(pixels):
        Image.fromarray(levels).resize((SIDE, SIDE)).save(tmp_path / "faces" / f"{number}.png")
    return tmp_path / "faces"


@pytest.mark.parametrize("task", list(losses.TASKS))
def test_a_task_is_learned_and_goes_on_where_it_ended(task, folder, tmp_path, monkeypatch):
    output = tmp_path / "painter.safetensors"

    def train(steps: int) -> dict[str, torch.Tensor]:
        words = ["train_painter", task, folder, output, "--steps", steps, "--batch", 2, "--validation", folder]
        monkeypatch.setattr("sys.argv", [str(word) for word in words])
        main()
        return load_file(output)

    # From the second of two steps on the discriminator has a say.
    first = train(2)
    config = losses.TASKS[task].config
    Painter(config).load_state_dict(first)
    assert torch.load(output.with_suffix(".checkpoint"), weights_only=True)["step"] == 2
    second = train(3)
    assert torch.load(output.with_suffix(".checkpoint"), weights_only=True)["step"] == 3
    assert any(not torch.equal(first[name], second[name]) for name in first)
    assert all(torch.isfinite(value).all() for value in second.values())


def test_faces_are_damaged_each_in_its_way_and_alike_for_a_seed():
    clean_B3SS = torch.full((6, 3, SIDE, SIDE), -1 / 255)
    clean_B3SS[..., ::2] = 1
    one, again, other = (damaged(clean_B3SS, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, again) and not torch.equal(one, other)
    assert one.shape == clean_B3SS.shape and float(one.abs().max()) <= 1
    assert float((one - clean_B3SS).abs().mean()) > 0.01
