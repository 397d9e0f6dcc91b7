"""Import rules for all tests.

The repository's `nodes/` has the same import name as ComfyUI's `nodes.py`, so the repository root stands at the END of
`sys.path`: `codeformer_core` is found, and a ComfyUI checkout on the path keeps its own `nodes`.
"""

import sys
from pathlib import Path

ROOT = str(Path(__file__).resolve().parents[1])
sys.path[:] = [entry for entry in sys.path if entry not in ("", ROOT)] + [ROOT]
