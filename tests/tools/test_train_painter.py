"""The painters' training: every task learns, is ended, goes on, and hands out its average."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from codeformer_core.models.loading import load_restorer
from codeformer_core.networks.painter import Painter, PainterConfig
from tools.train_painter import faces, gates, losses
from tools.train_painter.__main__ import main

SIDE = 128


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Five coloured faces, and painters that are small enough for them."""
    monkeypatch.setattr(faces, "SIDE", SIDE)
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

    def train(steps: int, *further: object) -> dict[str, torch.Tensor]:
        words = [
            "train_painter",
            task,
            folder,
            output,
            "--steps",
            steps,
            "--batch",
            2,
            "--validation",
            folder,
            *further,
        ]
        monkeypatch.setattr("sys.argv", [str(word) for word in words])
        main()
        return load_file(output)

    # From the second of two steps on the discriminator has a say.
    first = train(2, "--validation", folder)
    config = losses.TASKS[task].config
    Painter(config).load_state_dict(first)
    assert torch.load(output.with_suffix(".checkpoint"), weights_only=True)["step"] == 2
    second = train(3)
    assert torch.load(output.with_suffix(".checkpoint"), weights_only=True)["step"] == 3
    assert any(not torch.equal(first[name], second[name]) for name in first)
    assert all(torch.isfinite(value).all() for value in second.values())
    # Without a checkpoint it can begin with what another run, or the pack, has.
    output.with_suffix(".checkpoint").unlink()
    begun = tmp_path / "begun.safetensors"
    output.rename(begun)
    assert all(torch.equal(value, second[name]) for name, value in train(0, "--start", begun).items())


def test_the_gates_are_learned_and_the_painter_stays(folder, tmp_path, monkeypatch):
    config = losses.TASKS["restoration"].config
    monkeypatch.setattr(gates, "SIDE", SIDE)
    torch.manual_seed(0)
    painter, output = Painter(config), tmp_path / "made.safetensors"
    save_file(painter.state_dict(), tmp_path / "painter.safetensors")
    words = ["gates", tmp_path / "painter.safetensors", folder, output, "--steps", 2, "--painted-steps", "7"]
    monkeypatch.setattr("sys.argv", [str(word) for word in words])

    gates.main()

    restorer = load_restorer(output)
    assert restorer.tasks == ("restoration", "inpainting") and restorer.recommended_fidelity == 1
    made, begun = restorer.module.state_dict(), load_file(gates.STARTER)
    assert all(torch.allclose(made[key], value, atol=1e-3) for key, value in painter.state_dict().items())
    assert any(not torch.equal(made[key], begun[key].float()) for key in made if key.startswith(gates.PREFIX))
