"""What the training's tests share: a few made-up faces, and a configuration that takes milliseconds a step."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from codeformer_core.training.config import RunConfig, read_config

from .drawing import draw_face

TINY = {
    "network": {
        "image_size": 32,
        "base_channels": 32,
        "channel_multipliers": [1, 1, 1],
        "residual_blocks": 1,
        "attention_sizes": [8],
        "codebook_size": 16,
        "code_channels": 32,
        "width": 32,
        "layers": 1,
        "heads": 4,
        "mlp_width": 32,
        "fuse_sizes": [8, 16],
        "pixel_path": None,
    },
    "stages": {"stage3": {"train": ["encoder", "transformer", "head", "fusion"], "rate_factors": None}},
    "engine": {"log_every": 2, "save_every": 4, "validate_every": 1000, "device": "cpu"},
}


@pytest.fixture(autouse=True)
def _one_thread_and_default_modes():
    """Sums in a fixed order; and what a run switches on is off again for the next test."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    if torch.are_deterministic_algorithms_enabled():  # asking for it costs seconds when it is the first time
        torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="session")
def made_up_faces(tmp_path_factory) -> Path:
    """24 smooth 32x32 pictures, each another."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("made_up_faces")
    generator = np.random.default_rng(0)
    for number in range(24):
        coarse = Image.fromarray(generator.integers(0, 256, (5, 5, 3), dtype=np.uint8))
        coarse.resize((32, 32), Image.Resampling.BICUBIC).save(folder / f"face{number:02}.png")
    return folder


@pytest.fixture(scope="session")
def drawn_faces(tmp_path_factory) -> Path:
    """A folder with train/ and val/: 480 and 60 drawings of a face, 32x32, each another.

    What a small network can learn from them as from real faces: where the parts of a face lie, that skin, lips and hair
    have their colours, and that light comes from one side.
    """
    folder = tmp_path_factory.mktemp("drawn_faces")
    generator = np.random.default_rng(0)
    for split, count in (("train", 480), ("val", 60)):
        (folder / split).mkdir()
        for number in range(count):
            draw_face(generator).save(folder / split / f"{number:03}.png")
    return folder


@pytest.fixture(scope="session")
def tiny(made_up_faces) -> Callable[..., RunConfig]:
    """tiny("stages.stage1.iterations=4", ...) -> a configuration for the made-up faces."""

    def make(*changes: str, **sections: Any) -> RunConfig:
        return read_config("smoke", changes, {**TINY, "data": {"faces": str(made_up_faces)}, **sections})

    return make


@pytest.fixture(scope="session")
def run_stage() -> Callable[..., Any]:
    """run_stage(config, "stage2", folder, teacher=...) -> the run's result, in this process on the CPU."""
    from codeformer_core.training.engine.processes import joined
    from codeformer_core.training.run import train
    from codeformer_core.training.setup import RunFiles

    def run(config: RunConfig, name: str, folder: Path, **files: Any) -> Any:
        with joined("cpu") as processes:
            return train(config, name, RunFiles(folder, **files), processes)

    return run


@pytest.fixture(scope="session")
def tiny_teacher(tiny, run_stage, tmp_path_factory) -> Path:
    """The run folder of a stage I of four steps."""
    folder = tmp_path_factory.mktemp("tiny_teacher") / "stage1"
    run_stage(tiny("stages.stage1.iterations=4"), "stage1", folder)
    return folder


@pytest.fixture(scope="session")
def tiny_codes_run(tiny, run_stage, tiny_teacher, tmp_path_factory) -> Path:
    """The run folder of a stage II of four steps, taught by `tiny_teacher`."""
    folder = tmp_path_factory.mktemp("tiny_codes") / "stage2"
    run_stage(tiny("stages.stage2.iterations=4"), "stage2", folder, teacher=tiny_teacher)
    return folder


@pytest.fixture
def copy_of() -> Callable[[Path, Path], Path]:
    def copy(source: Path, target: Path) -> Path:
        shutil.copytree(source, target)
        return target

    return copy


@pytest.fixture(scope="session")
def assert_same_training() -> Callable[[dict, dict], None]:
    """Two checkpoints of one step hold the same gradients and weights, but for rounding.

    Adam's first moment is a tenth of the first step's gradient. Where a gradient is nothing but rounding noise, Adam
    blows it up to a whole step: a weight in a thousand may differ, and biases in front of a norm do.
    """

    def check(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
        gradients = [name for name in first if "optimizer." in name and name.endswith("exp_avg")]
        weights = [name for name in first if name.startswith("network.") and name.endswith("weight")]
        assert len(gradients) > 30 and len(weights) > 30
        for name in gradients:
            scale = float(first[name].abs().max())
            torch.testing.assert_close(
                second[name],
                first[name],
                rtol=1e-3,
                atol=1e-6 + 1e-4 * scale,
                msg=lambda text, name=name: f"{name}: {text}",
            )
        moved = [(first[name] - second[name]).abs() > 1e-5 + 1e-3 * first[name].abs() for name in weights]
        assert torch.cat([each.flatten() for each in moved]).float().mean() < 1e-3

    return check
