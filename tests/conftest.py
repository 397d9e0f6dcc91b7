"""Import rules for all tests, and who runs which when several processes share them.

The repository's `nodes/` has the same import name as ComfyUI's `nodes.py`, so the repository root stands at the END of
`sys.path`: `codeformer_core` is found, and a ComfyUI checkout on the path keeps its own `nodes`.
"""

import signal
import sys
from pathlib import Path

import pytest

IN_A_HOST = [Path(__file__).parent / folder for folder in ("nodes", "web")]
IN_A_WEBUI = Path(__file__).parent / "webui"
ROOT = str(Path(__file__).resolve().parents[1])
sys.path[:] = [entry for entry in sys.path if entry not in ("", ROOT)] + [ROOT]


# A job that a shell started in the background ignores interrupts, and so would every process that the tests start.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)  # before xdist looks at the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With `pytest -n 2 --dist loadgroup`, one process runs all tests in a host, as they share its servers; and begins
    with them, as they take as long as all others. Of several hosts the newest is enough for `make test`."""
    in_a_host = [item for item in items if any(item.path.is_relative_to(folder) for folder in IN_A_HOST)]
    newest = max((version_of(item) for item in in_a_host), default=())
    for item in in_a_host:
        item.add_marker(pytest.mark.xdist_group("host"))
        if version_of(item) not in ((), newest):
            item.add_marker(pytest.mark.slow)
    for item in items:
        if item.path.is_relative_to(IN_A_WEBUI):
            item.add_marker(pytest.mark.xdist_group("webui"))
    chosen = set(in_a_host)
    items[:] = [*in_a_host, *(item for item in items if item not in chosen)]


def version_of(item: pytest.Item) -> tuple[int, ...]:
    """Of the host that a test runs in; nothing for the others."""
    host = getattr(getattr(item, "callspec", None), "params", {}).get("host")
    numbers = getattr(host, "version", "").split(".")
    return tuple(map(int, numbers)) if all(number.isdigit() for number in numbers) else ()
