"""A running ComfyUI per checkout found, shared by all tests of the run, with small random weights in its folders."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from .environments import environment_python, host_environment
from .hosts import BrokenHost, Host, NoHost, cloned_host, found_hosts
from .server import Server
from .weights import (
    COLORIZATION_SIZES,
    save_codeformer_for_small_faces,
    save_small_codeformer,
    save_small_relatives,
    save_small_upscaler,
)

GOLDEN = Path(__file__).parents[1] / "golden"
# A pack of one node: the host's own nodes make no list of pictures of different sizes.
LIST_NODE = """
class ListOfTwo:
    INPUT_TYPES = staticmethod(lambda: {"required": {"one": ("IMAGE",), "other": ("IMAGE",)}})
    RETURN_TYPES, OUTPUT_IS_LIST, FUNCTION, CATEGORY = ("IMAGE",), (True,), "run", "tests"

    def run(self, one, other):
        return ([one, other],)


NODE_CLASS_MAPPINGS = {"ListOfTwo": ListOfTwo}
"""
# One or two minutes, and many times as long on a machine that does other work beside it.
INSIDE_SECONDS = 1800
try:
    FOUND = found_hosts()
except ValueError as error:
    raise pytest.UsageError(str(error)) from error


class HostFailed(pytest.fail.Exception):
    """The one line of a BrokenHost, without a traceback."""

    __module__ = "builtins"  # as pytest's own: so its summary begins with the reason

    def __init__(self, reason: str) -> None:
        super().__init__(reason, pytrace=False)


# The hosts that can't be run, with the reason; and those of them for which a test has failed.
BROKEN: dict[Host, HostFailed] = {}
TOLD: set[str] = set()


@contextmanager
def needed_by_all_tests_of(host: Host) -> Iterator[None]:
    """What fails here is tried once: raises HostFailed, at once where the host failed before."""
    if host in BROKEN:
        raise BROKEN[host]
    try:
        yield
    except BrokenHost as error:
        BROKEN[host] = HostFailed(str(error))
        raise BROKEN[host] from error


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """One error for a host that can't be run, and skips for its other tests.

    All skips for want of a host get the same place, so that pytest's summary tells each reason once.
    """
    report = yield
    if call.excinfo is not None and isinstance(call.excinfo.value, HostFailed):
        reason = str(call.excinfo.value)
        if reason in TOLD:
            report.outcome = "skipped"
            report.longrepr = (__file__, 1, f"Skipped: {reason}")
        TOLD.add(reason)
    elif report.skipped and report.when == "setup" and "host" in getattr(item, "fixturenames", ()):
        assert isinstance(report.longrepr, tuple)
        report.longrepr = (__file__, 1, report.longrepr[2])
    return report


@pytest.fixture(scope="session", params=FOUND or [None], ids=[host.version for host in FOUND] or ["clone"])
def host(request: pytest.FixtureRequest) -> Host:
    """A checkout with an environment that can run it. Skipped with the reason where no checkout can be had."""
    try:
        checkout = request.param or cloned_host()
        with needed_by_all_tests_of(checkout):
            environment_python(checkout)
    except NoHost as reason:
        pytest.skip(str(reason))
    return checkout


@pytest.fixture(scope="session")
def small_codeformer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint in the published layout with the published file's name."""
    path = tmp_path_factory.mktemp("weights") / "codeformer.pth"
    save_small_codeformer(path)
    return path


@pytest.fixture(scope="session")
def server(host: Host, small_codeformer: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    base = tmp_path_factory.mktemp("comfyui")
    models = base / "models"
    (models / "facerestore_models").mkdir(parents=True)
    shutil.copy(small_codeformer, models / "facerestore_models" / "codeformer.pth")
    save_small_codeformer(models / "facerestore_models" / "painter.pth", COLORIZATION_SIZES)
    save_small_upscaler(models / "upscale_models" / "double.pth")
    # As ComfyUI-Manager does: a detector among the restorers.
    detector = GOLDEN / "models" / "retinaface_mobilenet0.25_mit.pth"
    shutil.copy(detector, models / "facerestore_models" / "detection_mobilenet0.25_Final.pth")
    # A folder of the user's own for restorers.
    (base / "mine").mkdir()
    shutil.copy(small_codeformer, base / "mine" / "my_faces.pth")
    (base / "extra_model_paths.yaml").write_text(f"mine:\n    facerestore_models: {base / 'mine'}\n")
    running = Server(host, base)
    (base / "custom_nodes" / "list_of_two.py").write_text(LIST_NODE)
    with ExitStack() as until_the_end:
        with needed_by_all_tests_of(host):
            until_the_end.enter_context(running)
        _put_pictures(running)
        yield running


@pytest.fixture(scope="session")
def measured_inside(server: Server, small_codeformer: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What inside.py measured in the host's own Python; in a host that starts."""
    host = server.host
    base = tmp_path_factory.mktemp("inside")
    Server(host, base)  # makes the folders and links the pack; nothing is started
    script = Path(__file__).with_name("inside.py")
    files = [small_codeformer, save_codeformer_for_small_faces(base), *save_small_relatives(base)]
    command = [str(environment_python(host)), str(script), str(host.root), str(base), *map(str, files)]
    done = subprocess.run(
        command, env=host_environment(host), capture_output=True, text=True, timeout=INSIDE_SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def _put_pictures(server: Server) -> None:
    photos = GOLDEN / "photos"
    group = Image.open(photos / "composite__group09.jpg").convert("RGB")
    server.put_picture("group.png", group.crop((0, 0, 1024, 512)))
    portrait = group.crop((0, 0, 512, 512))
    server.put_picture("portrait.png", portrait)
    no_face = Image.open(photos / "no_face__webmorphR.stim__bright-4642061_640.jpg").convert("RGB")
    server.put_picture("no_face.png", no_face.crop((0, 0, 400, 400)).resize((512, 512)))
    alpha = np.linspace(0, 255, 512, dtype=np.uint8)[None].repeat(512, 0)
    server.put_picture("alpha.png", Image.fromarray(alpha))
