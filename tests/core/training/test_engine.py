"""Checkpoints, averages, boards, stopping: what a long night depends on."""

from __future__ import annotations

import csv
import json
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from codeformer_core.networks.discriminator import Discriminator, DiscriminatorConfig
from codeformer_core.training.config import read_config
from codeformer_core.training.engine.board import Board
from codeformer_core.training.engine.checkpoint import Checkpoints, Meta, read_meta
from codeformer_core.training.engine.grids import from_levels, image_grid, to_levels
from codeformer_core.training.engine.processes import Processes, joined
from codeformer_core.training.engine.stopping import StopRequest
from codeformer_core.training.engine.trainer import NotFinite
from codeformer_core.training.engine.validation import face_psnr
from codeformer_core.training.losses.perceptual import gradient_replacement
from codeformer_core.training.networks import read_network
from codeformer_core.training.run import train
from codeformer_core.training.setup import RunFiles

ALONE = Processes(0, 1, torch.device("cpu"))


def checkpoint_tensors(run: Path) -> dict[str, torch.Tensor]:
    checkpoints = Checkpoints(run / "checkpoints", 9, ALONE)
    newest = checkpoints.newest()
    assert newest is not None
    return checkpoints.load(newest)


def test_a_checkpoint_comes_back_bit_by_bit(tmp_path):
    tensors = {
        "network.a": torch.randn(3, 4),
        "network.b": torch.randn(2, 3, 5, 5).contiguous(memory_format=torch.channels_last).contiguous(),
        "optimizer.a.step": torch.tensor(7.0),
        "code_uses": torch.arange(5),
        "random.0.cpu": torch.get_rng_state(),
    }
    checkpoints = Checkpoints(tmp_path, 3, ALONE)
    path = checkpoints.save(tensors, Meta(12, "stage1", {"x": 1}))
    assert path.name == "step-000000012" and read_meta(path) == Meta(12, "stage1", {"x": 1})
    loaded = checkpoints.load(path)
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(loaded[name], tensor) and loaded[name].dtype == tensor.dtype
    # No file in it is a pickle.
    assert sorted(file.suffix for file in path.iterdir()) == [".json", ".safetensors"]


def test_the_newest_are_kept_and_unfinished_ones_cleared_away(tmp_path):
    checkpoints = Checkpoints(tmp_path, 2, ALONE)
    (tmp_path / ".unfinished-000000001").mkdir()
    (tmp_path / "step-000000099").mkdir()  # without meta.json: no checkpoint
    for step in (1, 2, 3):
        checkpoints.save({"a": torch.tensor([step])}, Meta(step, "stage1", {}))
    assert [path.name for path in checkpoints.all()] == ["step-000000002", "step-000000003"]
    assert not (tmp_path / ".unfinished-000000001").exists()


def test_a_failing_disk_leaves_the_earlier_checkpoint(tmp_path, monkeypatch):
    """As torch says it: an exception that is none, with the disk's own inside."""
    from torch.distributed.checkpoint import state_dict_saver
    from torch.distributed.checkpoint.api import CheckpointException

    checkpoints = Checkpoints(tmp_path, 1, ALONE)
    checkpoints.save({"a": torch.tensor([1.0])}, Meta(1, "stage1", {}))

    def full(*args, **options):
        raise CheckpointException("write", {0: (OSError(28, "No space left on device"), None)})

    monkeypatch.setattr(state_dict_saver, "save", full)
    with pytest.raises(OSError, match=r"No space left.*step-000000001") as error:
        checkpoints.save({"a": torch.tensor([2.0])}, Meta(2, "stage1", {}))
    assert error.value.errno == 28
    newest = checkpoints.newest()
    assert newest is not None and torch.equal(checkpoints.load(newest)["a"], torch.tensor([1.0]))
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000001"], "nothing half-written is left"


def test_a_curve_that_cannot_be_written_ends_no_run(tmp_path, caplog):
    board = Board(tmp_path, 0)
    board._file.close()

    class Full:
        def flush(self):
            raise OSError(28, "No space left on device")

        def close(self):
            pass

    board._file = Full()
    board._rows = csv.writer((tmp_path / "other.csv").open("w"))
    for step in (1, 2):
        board.scalars(step, {"a": 1.0})
    board.close()
    assert sum("No space left" in message for message in caplog.messages) == 1


@pytest.mark.parametrize("damage", ["truncated", "missing", "meta"])
def test_a_damaged_checkpoint_is_named(tmp_path, damage):
    checkpoints = Checkpoints(tmp_path, 1, ALONE)
    path = checkpoints.save({"a": torch.randn(100)}, Meta(1, "stage1", {}))
    weights = next(path.glob("*.safetensors"))
    if damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:200])
    elif damage == "missing":
        weights.unlink()
    else:
        (path / "meta.json").write_text("{}")
    with pytest.raises(ValueError, match="step-000000001"):
        read_meta(path)
        checkpoints.load(path)


def test_too_small_a_disk_is_said_before_the_first_step(tiny, run_stage, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(ValueError, match=r"GiB free.*Make room"):
        run_stage(tiny("stages.stage1.iterations=1"), "stage1", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_exported_weights_are_the_average(tiny, run_stage, tmp_path):
    """After one step the average is the weights themselves; after two, decay * first + (1 - decay) * second."""
    states = []
    for steps in (1, 2):
        run_stage(
            tiny(f"stages.stage1.iterations={steps}", "stages.stage1.ema=0.75", "stages.stage1.schedule.kind=constant"),
            "stage1",
            tmp_path / str(steps),
        )
        states.append(checkpoint_tensors(tmp_path / str(steps)))
    first, second = states
    exported = read_network(tmp_path / "2").network.state_dict()
    for name, value in exported.items():
        expected = 0.75 * first[f"network.{name}"] + 0.25 * second[f"network.{name}"]
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-7)


def test_exported_weights_load_as_a_restorer(tiny_codes_run, tiny_teacher):
    import codeformer_core as cf

    restorer = cf.load_restorer(tiny_codes_run / "model.safetensors")
    assert (restorer.architecture, restorer.task, restorer.face_size) == ("codeformer", "restoration", 32)
    assert restorer.module.config.heads == 4
    restored = restorer.restore(torch.zeros(2, 3, 32, 32), 0.5)
    assert restored.shape == (2, 3, 32, 32) and restored.isfinite().all()
    assert cf.load_restorer(tiny_teacher / "model.safetensors").task == "autoencoder"


def test_a_resumed_run_equals_one_that_was_never_stopped(tiny, run_stage, tmp_path):
    """Across the discriminator's start and a revival of codes."""
    changes = ("stages.stage1.adversarial.starts_after=3", "stages.stage1.revive_codes_every=4")
    # The schedule looks at the last step, so a constant one can be stopped early.
    changes += ("stages.stage1.schedule.kind=constant",)
    run_stage(tiny("stages.stage1.iterations=8", *changes), "stage1", tmp_path / "whole")
    run_stage(tiny("stages.stage1.iterations=5", *changes), "stage1", tmp_path / "parts")
    run_stage(tiny("stages.stage1.iterations=8", *changes), "stage1", tmp_path / "parts", resume=True)
    whole, parts = checkpoint_tensors(tmp_path / "whole"), checkpoint_tensors(tmp_path / "parts")
    assert whole.keys() == parts.keys() and any(name.startswith("discriminator_optimizer") for name in whole)
    for name, tensor in whole.items():
        assert torch.equal(tensor, parts[name]), name


@pytest.mark.parametrize("stage", ["stage1", "stage2", "stage3"])
def test_accumulated_steps_equal_one_large_batch(
    stage, tiny, run_stage, tiny_teacher, tiny_codes_run, assert_same_training, tmp_path
):
    """But for the adaptive weight, which looks at a part of the batch each: it is off here."""
    files = {"stage1": {}, "stage2": {"teacher": tiny_teacher}}
    files["stage3"] = {"teacher": tiny_teacher, "start": tiny_codes_run}
    changes = (f"stages.{stage}.iterations=1", f"stages.{stage}.adversarial.starts_after=0")
    changes += (f"stages.{stage}.adversarial.adaptive_scale=0", f"stages.{stage}.revive_codes_every=1")
    for parts in (1, 2, 4):
        config = tiny(*changes, f"engine.accumulate={parts}")
        run_stage(config, stage, tmp_path / str(parts), **files[stage])
    for parts in (2, 4):
        assert_same_training(checkpoint_tensors(tmp_path / "1"), checkpoint_tensors(tmp_path / str(parts)))


def test_a_discriminator_whose_gradient_is_no_number_stops_the_run(tiny, run_stage, tmp_path, monkeypatch):
    from codeformer_core.training.engine import adversary

    true_loss = adversary.discriminator_loss
    # Finite, with an infinite gradient.
    monkeypatch.setattr(
        adversary,
        "discriminator_loss",
        lambda real, fake: true_loss(real, fake) + (real - real.detach()).abs().sqrt().sum(),
    )
    config = tiny("stages.stage1.iterations=6", "stages.stage1.adversarial.starts_after=4")
    with pytest.raises(NotFinite, match=r"step 5: .*discriminator_gradient (nan|inf).*step-000000004"):
        run_stage(config, "stage1", tmp_path / "run")
    assert all(tensor.isfinite().all() for tensor in checkpoint_tensors(tmp_path / "run").values())


def test_precomputed_codes_give_the_same_training(tiny, run_stage, tiny_teacher, tmp_path):
    from codeformer_core.training.data.sources import open_faces
    from codeformer_core.training.latent_codes import compute_codes, write_codes

    config = tiny("stages.stage2.iterations=4")
    teacher = read_network(tiny_teacher).network
    source = open_faces(config.data, "train", 32)
    codes = compute_codes(teacher, source, torch.device("cpu"), 5, lambda done, count: None)
    assert codes.shape == (24, 2, 64) and not torch.equal(codes[:, 0], codes[:, 1])
    write_codes(tmp_path / "codes.safetensors", codes, teacher, source)
    run_stage(config, "stage2", tmp_path / "fly", teacher=tiny_teacher)
    run_stage(config, "stage2", tmp_path / "given", teacher=tiny_teacher, codes=tmp_path / "codes.safetensors")
    fly, given = checkpoint_tensors(tmp_path / "fly"), checkpoint_tensors(tmp_path / "given")
    for name, tensor in fly.items():
        assert torch.equal(tensor, given[name]), name


def test_bfloat16_autocast_keeps_float32_weights_and_learns(tiny, run_stage, tiny_teacher, tmp_path):
    config = tiny("stages.stage2.iterations=3", "engine.precision=bfloat16")
    run_stage(config, "stage2", tmp_path / "run", teacher=tiny_teacher)
    state = checkpoint_tensors(tmp_path / "run")
    assert state["network.encoder.conv_in.weight"].dtype == torch.float32
    exact = tmp_path / "exact"
    run_stage(tiny("stages.stage2.iterations=3"), "stage2", exact, teacher=tiny_teacher)
    exact_state = checkpoint_tensors(exact)
    difference = state["network.encoder.conv_in.weight"] - exact_state["network.encoder.conv_in.weight"]
    assert 0 < difference.abs().max() < 0.02


def test_a_loss_that_is_no_number_stops_with_step_faces_and_checkpoint(tiny, run_stage, tmp_path, monkeypatch):
    from codeformer_core.training.stages import autoencoder

    true_loss, calls = autoencoder.codebook_loss, []

    def breaks_at_the_sixth(*args):
        calls.append(1)
        return true_loss(*args) * (float("nan") if len(calls) == 6 else 1)

    monkeypatch.setattr(autoencoder, "codebook_loss", breaks_at_the_sixth)
    with pytest.raises(NotFinite) as error:
        run_stage(tiny("stages.stage1.iterations=9"), "stage1", tmp_path / "run")
    text = str(error.value)
    assert "step 6" in text and "step-000000004" in text and "--resume" in text
    assert text.count("face") >= 8, "the batch's faces are named"
    assert all(tensor.isfinite().all() for tensor in checkpoint_tensors(tmp_path / "run").values())


def test_a_signal_is_noted_and_the_run_saved(tiny, tmp_path):
    def stop_at_third(progress):
        if progress.step == 3:
            signal.raise_signal(signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    with joined("cpu") as processes:
        result = train(
            tiny("stages.stage1.iterations=9"), "stage1", RunFiles(tmp_path / "run"), processes, stop_at_third
        )
    assert (result.steps, result.stopped_by) == (3, signal.SIGTERM)
    newest = Checkpoints(tmp_path / "run" / "checkpoints", 9, ALONE).newest()
    assert newest is not None and newest.name == "step-000000003"
    assert (tmp_path / "run" / "model.safetensors").is_file()
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_second_interrupt_ends_at_once():
    with StopRequest() as stop, pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
        assert stop.number == signal.SIGINT
        signal.raise_signal(signal.SIGINT)


def test_the_board_takes_back_what_was_lost(tmp_path):
    board = Board(tmp_path, 0)
    for step in (1, 2, 3):
        board.scalars(step, {"train/loss": step / 10})
    board.close()
    with (tmp_path / "scalars.csv").open("a") as stream:
        stream.write("4,train/lo")  # cut short
    board = Board(tmp_path, 2)
    board.scalars(3, {"train/loss": 0.7})
    board.image(3, "faces", np.zeros((4, 5, 3), np.uint8))
    board.close()
    with (tmp_path / "scalars.csv").open() as stream:
        rows = list(csv.reader(stream))
    assert rows == [
        ["step", "name", "value"],
        ["1", "train/loss", "0.1"],
        ["2", "train/loss", "0.2"],
        ["3", "train/loss", "0.7"],
    ]
    assert (tmp_path / "pictures" / "step-000000003-faces.png").is_file()


def test_tensorboard_gets_scalars_and_pictures(tiny, run_stage, tiny_teacher, made_up_faces, tmp_path):
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    config = tiny(
        "stages.stage3.iterations=2",
        "engine.validate_every=2",
        "stages.stage3.starts_from=teacher",
        data={"validation": None, "manifest": str(_manifest(made_up_faces, tmp_path))},
    )
    run_stage(config, "stage3", tmp_path / "run", teacher=tiny_teacher)
    events = event_accumulator.EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    scalars = set(events.Tags()["scalars"])
    assert {
        "train/loss",
        "train/code_accuracy",
        "train/perplexity",
        "train/codes_used",
        "train/faces_per_second",
    } <= scalars
    assert {"validation/mild/psnr_w0", "validation/mild/psnr_w1", "validation/strong/code_accuracy"} <= scalars
    assert set(events.Tags()["images"]) == {"mild", "strong", "faded", "inpainting"}


def _manifest(faces: Path, folder: Path) -> Path:
    path = folder / "manifest.csv"
    names = sorted(file.name for file in faces.iterdir())
    rows = [f"{faces / name},{'val' if number % 4 == 0 else 'train'}" for number, name in enumerate(names)]
    path.write_text("file,split\n" + "\n".join(rows) + "\n")
    return path


def test_grids_show_what_they_are_given():
    faces = torch.stack((torch.full((3, 130, 130), -1.0), torch.full((3, 130, 130), 1.0)))
    grid = image_grid({"clean": faces, "restored": -faces})
    assert grid.shape == (18 + 2 * 134, 2 * 134, 3)
    assert grid[18 + 60, 60, 0] == 0 and grid[18 + 60, 134 + 60, 0] == 255
    assert grid[18 + 134 + 60, 60, 0] == 255


def test_levels_round_trip():
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    assert torch.equal(to_levels(from_levels(levels)), levels)


def test_psnr_formula():
    clean, made = torch.zeros(1, 3, 4, 4), torch.full((1, 3, 4, 4), 0.2)
    assert float(face_psnr(made, clean)) == pytest.approx(10 * np.log10(1 / 0.1**2), rel=1e-5)


def test_the_discriminator_judges_alike_whatever_the_batch_with_group_norm():
    torch.manual_seed(0)
    pictures = torch.rand(4, 3, 32, 32) * 2 - 1
    network = Discriminator(DiscriminatorConfig(8, 2, "group"))
    torch.testing.assert_close(network(pictures)[:1], network(pictures[:1]), rtol=1e-4, atol=1e-6)
    with_batch = Discriminator(DiscriminatorConfig(8, 2, "batch"))
    assert not torch.allclose(with_batch(pictures)[:1], with_batch(pictures[:1]), atol=1e-3)


def test_config_is_kept_beside_the_run(tiny_teacher):
    assert json.loads((tiny_teacher / "config.json").read_text())["network"]["image_size"] == 32
    assert read_config(str(tiny_teacher / "config.json")).network.image_size == 32


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler (g++) for the CPU")
def test_compiled_training_equals_eager(tiny, run_stage, assert_same_training, tmp_path, monkeypatch):
    """With the discriminator on: the adaptive weight looks at gradients before the backward pass.

    Without a feature network: rounding takes some of its many ReLUs to the other side, and a hundredth of its gradient.
    """
    monkeypatch.setattr("codeformer_core.training.run.choose_perceptual", lambda _file, _device: gradient_replacement())
    changes = ("stages.stage1.iterations=1", "stages.stage1.adversarial.starts_after=0")
    # Each size of feature map is code of its own to compile.
    changes += ("network.image_size=16", "network.channel_multipliers=[1]", "network.fuse_sizes=[16]")
    changes += ("stages.inpainting.fuse_sizes=[16]", "network.attention_sizes=[16]")
    run_stage(tiny(*changes), "stage1", tmp_path / "eager")
    run_stage(tiny(*changes, "engine.compile=true"), "stage1", tmp_path / "compiled")
    eager, compiled = checkpoint_tensors(tmp_path / "eager"), checkpoint_tensors(tmp_path / "compiled")
    assert eager.keys() == compiled.keys()
    assert_same_training(eager, compiled)
