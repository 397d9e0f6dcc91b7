"""Killed and resumed, alone and in two processes; and two processes against one: real processes, gloo, the CPU.

A process of a run is a copy of this one where the system can copy processes: importing torch takes longer than a run.
One run goes through torchrun itself.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch

from codeformer_core.cli import main
from codeformer_core.training.config.reading import as_mapping
from codeformer_core.training.engine.checkpoint import Checkpoints
from codeformer_core.training.engine.processes import Processes, joined

ROOT = Path(__file__).parents[3]
ALONE = Processes(0, 1, torch.device("cpu"))
TIMEOUT = 240
COPIES = multiprocessing.get_context("fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn")


class Run:
    """`codeformer train *words` in a process, or in several that know each other as torchrun would have it.

    said: the file that everything they print goes to.
    """

    def __init__(self, processes: int, said: Path, *words: str) -> None:
        self.said = said
        port = free_port()
        self.members: list[BaseProcess] = [
            COPIES.Process(target=member, args=(rank, processes, port, said, words)) for rank in range(processes)
        ]
        for process in self.members:
            process.start()

    @property
    def is_over(self) -> bool:
        return all(process.exitcode is not None for process in self.members)

    def codes(self) -> list[int | None]:
        """The exit codes, when all have ended."""
        for process in self.members:
            process.join(TIMEOUT)
        self.kill()
        return [process.exitcode for process in self.members]

    def kill(self) -> None:
        for process in self.members:
            process.kill()
            process.join()


def member(rank: int, count: int, port: int, said: Path, words: tuple[str, ...]) -> None:
    """What a process of a run does; not called in the tests' own process."""
    with said.open("ab", buffering=0) as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
        sys.stdout, sys.stderr = (os.fdopen(stream, "w", buffering=1, closefd=False) for stream in (1, 2))
        if count > 1:
            place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "LOCAL_RANK": str(rank)}
            os.environ.update(place, RANK=str(rank), WORLD_SIZE=str(count))
        torch.set_num_threads(1)
        code = main(["train", *words])
        sys.stdout.flush()
        sys.exit(code)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run_well(processes: int, folder: Path, *words: str) -> None:
    run = Run(processes, folder.with_name(f"{folder.name}.log"), *words, "-o", str(folder))
    assert run.codes() == [0] * processes, run.said.read_text()


def run_well_by_torchrun(processes: int, folder: Path, *words: str) -> None:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    done = subprocess.run(
        [sys.executable, *launcher, "-m", "codeformer_core", "train", *words, "-o", str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
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
    run = Run(processes, folder.with_name(f"{folder.name}.log"), *words, "-o", str(folder))
    try:
        deadline = time.monotonic() + TIMEOUT
        while not Checkpoints(folder / "checkpoints", 9, ALONE).all():
            assert not run.is_over, run.said.read_text()
            assert time.monotonic() < deadline, "no checkpoint came"
            time.sleep(0.02)
    finally:
        run.kill()


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_killed_and_resumed_equals_never_stopped(processes, config_file, tiny_teacher, tmp_path):
    """Stage III: discriminator, codes-only steps, unused parameters, two optimisers; checkpoints in pieces."""
    config = config_file(
        "engine.checkpoint_file_mib=1",
        "engine.save_every=8",
        "stages.stage3.iterations=20",
        "stages.stage3.batch_size=4",
        "stages.stage3.starts_from=teacher",
        "stages.stage3.adversarial.starts_after=6",
        "stages.stage3.mixture=[{until: 8, cycle: [{degradation: mild, fidelity: 1.0, steps: 1}]}, "
        "{until: null, cycle: [{degradation: mild, fidelity: 1.3, steps: 1}, "
        "{degradation: strong, fidelity: null, steps: 2}]}]",
    )
    words = ["stage3", "--config", config, "--teacher", str(tiny_teacher), "--device", "cpu"]
    run_well(processes, tmp_path / "whole", *words)
    killed_in_the_middle(processes, tmp_path / "killed", *words)
    path = Checkpoints(tmp_path / "killed" / "checkpoints", 9, ALONE).newest()
    assert path is not None and path.name < "step-000000020", "it was killed too late to show anything"
    resume = run_well_by_torchrun if processes > 1 else run_well
    resume(processes, tmp_path / "killed", *words, "--resume")
    whole, resumed = newest(tmp_path / "whole"), newest(tmp_path / "killed")
    assert whole.keys() == resumed.keys()
    assert sum(name.startswith("random.") for name in whole) == processes
    sizes = [file.stat().st_size for file in (tmp_path / "killed" / "checkpoints").glob("*/*")]
    assert len(sizes) > 9 and max(sizes) <= 2**20
    for name, tensor in whole.items():
        assert torch.equal(tensor, resumed[name]), name


@pytest.mark.slow
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
        run_well(processes, tmp_path / str(processes), *words)
    one, two = newest(tmp_path / "1"), newest(tmp_path / "2")
    assert_same_training(one, two)
    if stage == "stage3":
        assert any(name.startswith("discriminator_optimizer") for name in one)


def test_ctrl_c_saves_and_says_how_to_go_on(config_file, tmp_path):
    config = config_file("stages.stage1.iterations=100000", "engine.save_every=100000")
    words = ["stage1", "--config", config, "--device", "cpu", "-o", str(tmp_path / "run")]
    run = Run(1, tmp_path / "said", *words)
    deadline = time.monotonic() + TIMEOUT
    while not (tmp_path / "said").is_file() or "stage1 2/100000" not in run.said.read_text():
        assert not run.is_over and time.monotonic() < deadline, run.said.read_text()
        time.sleep(0.02)
    (process,) = run.members
    assert process.pid is not None
    os.kill(process.pid, signal.SIGINT)
    assert run.codes() == [130], run.said.read_text()
    said = run.said.read_text()
    assert "stopped by SIGINT after step" in said and "--resume continues" in said and "Traceback" not in said
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
