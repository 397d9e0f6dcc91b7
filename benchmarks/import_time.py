"""Import time of the core in a fresh Python, and what it brings along; torch, which a host has loaded, is not counted.

python benchmarks/import_time.py [--rounds 7]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from statistics import median

import machine

ROOT = Path(__file__).parents[1]
PROBE = """
import sys, time
import torch, numpy, PIL
sys.path.append(sys.argv[1])
before = set(sys.modules)
start = time.perf_counter()
import codeformer_core.pipeline.restore, codeformer_core.models.loading
print(time.perf_counter() - start)
new = {name.partition('.')[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)
print(' '.join(sorted(new)))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    times, brought = [], ""
    for _ in range(options.rounds):
        command = [sys.executable, "-c", PROBE, str(ROOT)]
        taken, brought = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        times.append(float(taken))
    print(machine.describe())
    print(f"import of the core after torch: median {median(times):.3f} s, {min(times):.3f} to {max(times):.3f} s")
    print(f"packages it brings: {brought}")


if __name__ == "__main__":
    main()
