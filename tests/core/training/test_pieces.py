"""Checkpoints in files of limited size: nothing is larger, and a run goes on as if it had been one file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from codeformer_core.training.config import read_config
from codeformer_core.training.config.reading import as_mapping, build
from codeformer_core.training.config.run import Engine
from codeformer_core.training.engine.checkpoint import Checkpoints, Meta
from codeformer_core.training.engine.pieces import MIB, divided
from codeformer_core.training.engine.processes import Processes

ALONE = Processes(0, 1, torch.device("cpu"))


def newest(run: Path) -> Path:
    path = Checkpoints(run / "checkpoints", 9, ALONE).newest()
    assert path is not None
    return path


def test_files_are_filled_in_order():
    overhead = 256 + 2
    sizes = {"a": 1000, "b": 500, "c": 400, "d": 1700}
    limit = 1900 + 2 * overhead
    assert divided(sizes, limit) == {"a": 1, "b": 1, "c": 2, "d": 3}
    assert divided(sizes, 10**6) == dict.fromkeys(sizes, 1)
    assert divided({}, 10) == {}


def test_no_file_is_larger_and_every_tensor_comes_back(tmp_path):
    """Many small tensors with long names, so that headers count, and some as large as a file allows."""
    generator = torch.Generator().manual_seed(0)
    tensors = {
        f"average.module.generator.blocks.{number}.convolution.weight.exp_avg_sq": torch.randn(
            9, 3, 3, 3, generator=generator
        )
        for number in range(4000)
    }
    tensors |= {f"large.{number}": torch.randn(MIB // 4 - 100, generator=generator) for number in range(3)}
    tensors["code_uses"] = torch.arange(5)
    checkpoints = Checkpoints(tmp_path, 3, ALONE, file_mib=1)
    checkpoints.require_pieces(tensors)
    path = checkpoints.save(tensors, Meta(7, "stage1", {}))
    sizes = [file.stat().st_size for file in path.iterdir()]
    assert len(sizes) > 8 and max(sizes) <= MIB
    # Whoever goes on may have another limit, or none.
    loaded = Checkpoints(tmp_path, 3, ALONE).load(path)
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(loaded[name], tensor) and loaded[name].dtype == tensor.dtype
    next(path.glob("*-00002-*.safetensors")).unlink()
    with pytest.raises(ValueError, match=r"step-000000007: the checkpoint is damaged \(\d+ of 4004 tensors\)"):
        checkpoints.load(path)


@pytest.mark.slow
def test_a_run_goes_on_from_its_pieces_alone(tiny, run_stage, tmp_path):
    """Carried are the checkpoint's folder and nothing else; the weights are made again."""
    changes = ("stages.stage1.adversarial.starts_after=3", "stages.stage1.schedule.kind=constant")
    pieces = (*changes, "engine.checkpoint_file_mib=1")
    run_stage(tiny("stages.stage1.iterations=6", *changes), "stage1", tmp_path / "whole")
    run_stage(tiny("stages.stage1.iterations=4", *pieces), "stage1", tmp_path / "here")
    carried = newest(tmp_path / "here")
    sizes = [file.stat().st_size for file in carried.iterdir()]
    assert len(sizes) > 3 and max(sizes) <= MIB
    (tmp_path / "there" / "checkpoints").mkdir(parents=True)
    carried.rename(tmp_path / "there" / "checkpoints" / carried.name)
    run_stage(tiny("stages.stage1.iterations=6", *pieces), "stage1", tmp_path / "there", resume=True)
    whole, there = (Checkpoints(tmp_path, 9, ALONE).load(newest(tmp_path / run)) for run in ("whole", "there"))
    assert whole.keys() == there.keys() and any(name.startswith("discriminator_optimizer") for name in whole)
    for name, tensor in whole.items():
        assert torch.equal(tensor, there[name]), name
    weights = tmp_path / "there" / "model.safetensors"
    weights.unlink()
    run_stage(tiny("stages.stage1.iterations=6", *pieces), "stage1", tmp_path / "there", resume=True)
    made_again, expected = load_file(weights), load_file(tmp_path / "whole" / "model.safetensors")
    assert made_again.keys() == expected.keys() and len(expected) > 10
    for name, tensor in expected.items():
        assert torch.equal(tensor, made_again[name]), name


def test_a_tensor_that_no_file_holds_is_named_before_the_first_step(tiny, run_stage, tmp_path):
    config = tiny("network.codebook_size=10000", "engine.checkpoint_file_mib=1")
    with pytest.raises(ValueError, match=r"network\.codebook\.weight takes 1\.22 MiB.*at least 2, or null"):
        run_stage(config, "stage1", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_option_has_its_range_and_older_runs_need_not_name_it():
    assert read_config("small").engine.checkpoint_file_mib == 15
    assert read_config("published").engine.checkpoint_file_mib is None
    with pytest.raises(ValueError, match="checkpoint_file_mib must be at least 1, got 0"):
        read_config("small", ["engine.checkpoint_file_mib=0"])
    older = as_mapping(read_config("published").engine)
    del older["checkpoint_file_mib"]
    assert build(Engine, older, "older") == read_config("published").engine
