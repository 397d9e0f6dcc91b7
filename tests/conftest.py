"""Import rules for all tests, and who runs which when several processes share them.

The repository's `nodes/` has the same import name as ComfyUI's `nodes.py`, so the repository root stands at the END of
`sys.path`: `codeformer_core` is found, and a ComfyUI checkout on the path keeps its own `nodes`.
"""

import sys
from pathlib import Path

import pytest

IN_A_HOST = [Path(__file__).parent / folder for folder in ("nodes", "web")]
ROOT = str(Path(__file__).resolve().parents[1])
sys.path[:] = [entry for entry in sys.path if entry not in ("", ROOT)] + [ROOT]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With `pytest -n 2 --dist loadgroup`, one process runs all tests in a host: they share its servers."""
    for item in items:
        if any(item.path.is_relative_to(folder) for folder in IN_A_HOST):
            item.add_marker(pytest.mark.xdist_group("host"))
