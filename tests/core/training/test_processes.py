"""Killed and resumed, alone and in two processes; and two processes against one: real processes, gloo, the CPU."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

from codeformer_core.training.config.reading import as_mapping
from codeformer_core.training.engine.checkpoint import Checkpoints
from codeformer_core.training.engine.processes import Processes, joined

ROOT = Path(__file__).parents[3]
ALONE = Processes(0, 1, torch.device("cpu"))
TIMEOUT = 240


def command(processes: int, *words: str) -> list[str]:
    launcher = [sys.executable]
    if processes > 1:
        launcher += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return [*launcher, "-m", "codeformer_core", "train", *words]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def run(processes: int, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(processes, *words), env=environment(), capture_output=True, text=True, timeout=TIMEOUT, check=False
    )


def run_well(processes: int, *words: str) -> None:
    done = run(processes, *words)
    assert done.returncode == 0, done.stderr


def newest(folder: Path) -> dict[str, torch.Tensor]:
    checkpoints = Checkpoints(folder / "checkpoints", 9, ALONE)
    path = checkpoints.newest()
    assert path is not None
    return checkpoints.load(path)


@pytest.fixture
def config_file(tiny, tmp_path):
    """config_file("stages.stage1.iterations=4", ...) -> a file for --config."""

    def write(*changes: str) -> str:
        path = tmp_path / "config.json"
        path.write_text(json.dumps(as_mapping(tiny(*changes))))
        return str(path)

    return write


def killed_in_the_middle(processes: int, folder: Path, *words: str) -> None:
    """Start a run and SIGKILL all of it as soon as its first checkpoint is there."""
    started = subprocess.Popen(
        command(processes, *words),
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        deadline = time.monotonic() + TIMEOUT
        while not Checkpoints(folder / "checkpoints", 9, ALONE).all():
            assert started.poll() is None, started.stderr and started.stderr.read().decode()
            assert time.monotonic() < deadline, "no checkpoint came"
            time.sleep(0.02)
    finally:
        if started.poll() is None:
            # torchrun's workers have sessions of their own.
            everybody = [*psutil.Process(started.pid).children(recursive=True), psutil.Process(started.pid)]
            for process in everybody:
                process.kill()
            started.wait()
            psutil.wait_procs(everybody)


@pytest.mark.parametrize("processes", [1, 2])
def test_killed_and_resumed_equals_never_stopped(processes, config_file, tiny_teacher, tmp_path):
    """Stage III: discriminator, codes-only steps, unused parameters, two optimisers; checkpoints in pieces."""
    config = config_file(
        "engine.checkpoint_file_mib=1",
        "stages.stage3.iterations=24",
        "stages.stage3.starts_from=teacher",
        "stages.stage3.adversarial.starts_after=6",
        "stages.stage3.mixture=[{until: 8, cycle: [{degradation: mild, fidelity: 1.0, steps: 1}]}, "
        "{until: null, cycle: [{degradation: mild, fidelity: 1.3, steps: 1}, "
        "{degradation: strong, fidelity: null, steps: 2}]}]",
    )
    words = ["stage3", "--config", config, "--teacher", str(tiny_teacher), "--device", "cpu"]
    run_well(processes, *words, "-o", str(tmp_path / "whole"))
    killed_in_the_middle(processes, tmp_path / "killed", *words, "-o", str(tmp_path / "killed"))
    path = Checkpoints(tmp_path / "killed" / "checkpoints", 9, ALONE).newest()
    assert path is not None and path.name < "step-000000024", "it was killed too late to show anything"
    run_well(processes, *words, "-o", str(tmp_path / "killed"), "--resume")
    whole, resumed = newest(tmp_path / "whole"), newest(tmp_path / "killed")
    assert whole.keys() == resumed.keys()
    assert sum(name.startswith("random.") for name in whole) == processes
    sizes = [file.stat().st_size for file in (tmp_path / "killed" / "checkpoints").glob("*/*")]
    assert len(sizes) > 9 and max(sizes) <= 2**20
    for name, tensor in whole.items():
        assert torch.equal(tensor, resumed[name]), name


@pytest.mark.parametrize("stage", ["stage1", "stage2", "stage3"])
def test_two_processes_equal_one_with_the_same_batch(stage, config_file, tiny_teacher, assert_same_training, tmp_path):
    """One step with the discriminator on from the start (group norm), codes revived, adaptive weight over both."""
    config = config_file(
        f"stages.{stage}.iterations=1",
        f"stages.{stage}.adversarial.starts_after=0",
        f"stages.{stage}.revive_codes_every=1",
        "stages.stage3.starts_from=teacher",
    )
    words = [stage, "--config", config, "--device", "cpu"]
    words += [] if stage == "stage1" else ["--teacher", str(tiny_teacher)]
    for processes in (1, 2):
        run_well(processes, *words, "-o", str(tmp_path / str(processes)))
    one, two = newest(tmp_path / "1"), newest(tmp_path / "2")
    assert_same_training(one, two)
    if stage == "stage3":
        assert any(name.startswith("discriminator_optimizer") for name in one)


def test_ctrl_c_saves_and_says_how_to_go_on(config_file, tmp_path):
    config = config_file("stages.stage1.iterations=100000", "engine.save_every=100000")
    words = ["stage1", "--config", config, "--device", "cpu", "-o", str(tmp_path / "run")]
    started = subprocess.Popen(
        command(1, *words), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert started.stdout is not None
    first = started.stdout.readline()
    assert first.startswith("stage1 2/100000"), first
    started.send_signal(signal.SIGINT)
    out, errors = started.communicate(timeout=TIMEOUT)
    assert started.returncode == 130, errors
    assert "stopped by SIGINT after step" in out and "--resume goes on" in out and "Traceback" not in errors
    assert Checkpoints(tmp_path / "run" / "checkpoints", 9, ALONE).newest() is not None
    assert (tmp_path / "run" / "model.safetensors").is_file()


def test_a_port_in_use_is_named(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for name, value in {
            "WORLD_SIZE": "2",
            "RANK": "0",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(RuntimeError, match=rf"port {port} .*MASTER_PORT"), joined("cpu"):
            pass


def test_processes_started_by_hand_without_an_address(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(ValueError, match="torchrun"), joined("cpu"):
        pass


def test_a_device_that_is_not_there():
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(ValueError, match="no CUDA device"), joined("cuda"):
        pass
