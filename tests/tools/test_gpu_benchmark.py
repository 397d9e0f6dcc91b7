"""The benchmark for GPUs runs to its end where there is none, on a network that is small enough."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.core.test_architecture import ROOT


@pytest.mark.slow
def test_it_runs_on_a_cpu():
    options = [
        "--device",
        "cpu",
        "--tiny",
        "--ways",
        "eager",
        "--dtypes",
        "float32",
        "--batches",
        "1",
        "--seconds",
        "0.2",
    ]
    done = subprocess.run(
        [sys.executable, "benchmarks/gpu.py", *options], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    (eager,) = [row for row in rows if row[:3] == ["eager", "bfloat16", "1"]]
    assert float(eager[3]) > 0
    assert [row[0] for row in rows if row[:1] in (["photos"], ["frames"])] == ["photos", "frames"]
