"""What every host must make of models, as plain functions: they run in the tests of the core and, without pytest, in a
real ComfyUI's own Python (tests/nodes/inside.py).

Each takes a `Given` and fails with an AssertionError.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

PHOTO = Path(__file__).parent / "golden" / "pipeline" / "one_up1_input.webp"
# A host's group norm is torch's own, which on a CPU is less exact than ours.
SAME_FACES = 2e-3


@dataclass(frozen=True)
class Given:
    """core: name of the package under which this process has codeformer_core.
    host: under test, with folders that may be written into.
    checkpoint: a small CodeFormer, as a pickle.
    evict: other models take all the memory.
    cancel: the user presses cancel; cancelled: what the host raises then. It forgets about it when it has raised.
    """

    core: str
    host: Any
    checkpoint: Path
    evict: Callable[[], None]
    cancel: Callable[[], None]
    cancelled: type[BaseException]

    def module(self, name: str) -> Any:
        return import_module(f"{self.core}.{name}")

    def library(self) -> Any:
        return self.module("models.library").ModelLibrary(self.host)

    def installed(self, name: str) -> Path:
        folder = self.host.folders.of("facerestore_models")[0]
        folder.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy(self.checkpoint, folder / name))


def faces(restorer: Any) -> Tensor:
    side = restorer.face_size
    return torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(1)) * 2 - 1


def photo() -> Tensor:
    import numpy as np

    return torch.from_numpy(np.asarray(Image.open(PHOTO).convert("RGB")).copy()).float()[None] / 255


def a_restorer_gives_the_same_faces_also_after_another_took_its_place(given: Given) -> None:
    alone = import_module(given.core).load_restorer(given.checkpoint)
    faces_B3HW = faces(alone)
    expected_B3HW = alone.restore(faces_B3HW, 0.5)
    library = given.library()
    first, second = library.load_restorer(given.checkpoint), library.load_restorer(given.checkpoint)
    for restorer in (first, second, first):
        assert (restorer.restore(faces_B3HW, 0.5) - expected_B3HW).abs().max() < SAME_FACES
    given.evict()
    assert first.faces_at_once() >= 1
    assert (first.restore(faces_B3HW, 0.5) - expected_B3HW).abs().max() < SAME_FACES


def a_detector_finds_the_same_also_after_another_took_its_place(given: Given) -> None:
    expected = import_module(given.core).load_detector("starter_detector").detect(photo())
    detector = given.library().load_detector("starter_detector")
    assert len(expected[0]) == 1
    for _ in range(2):
        assert detector.detect(photo()) == expected
        given.evict()


def what_runs_in_opencv_is_not_held(given: Given) -> None:
    yunet = given.library().load_detector("yunet")
    assert yunet.module is None and len(yunet.detect(photo())[0]) == 1


def the_precision_is_one_that_the_device_has(given: Given) -> None:
    restorer = given.library().load_restorer(given.checkpoint, torch.bfloat16)
    assert restorer.restorer.dtype == given.host.supported_dtype(torch.bfloat16)
    assert restorer.restore(faces(restorer.restorer), 0.5).isfinite().all()


def a_bundle_loads_what_is_used_and_only_once(given: Given) -> None:
    choices = given.module("models.library").ModelChoices(given.checkpoint, "yunet")
    bundle = given.library().load(choices)
    assert "detector" not in vars(bundle)
    assert bundle.detector.name == "yunet" and bundle.detector is bundle.detector
    # ParseNet is not installed, and a CodeFormer asks for no landmarks.
    assert bundle.parser.name == "face_mesh" and bundle.landmark_detector is None
    other = bundle.with_restorer(given.library().load_restorer(given.checkpoint))
    assert other.restorer is not bundle.restorer and other.detector is bundle.detector


def the_first_load_of_a_pickle_changes_no_fingerprint(given: Given) -> None:
    restorer_kind = given.module("models.kinds").RESTORER
    # A file under a catalog name is looked for, and found as its safetensors copy once there is one.
    path = given.installed("GFPGANv1.4.pth")
    library = given.library()
    before = {choice: library.fingerprint(choice, restorer_kind) for choice in (path.name, "gfpgan_1.4")}
    assert set(before.values()) == {(str(path), path.stat().st_mtime_ns, path.stat().st_size)}
    try:
        for choice in before:
            assert library.load_restorer(choice).name == path.name
        assert path.with_suffix(".safetensors").is_file()
        assert {choice: library.fingerprint(choice, restorer_kind) for choice in before} == before
        with path.open("ab") as file:
            file.write(b"another file now")
        assert all(library.fingerprint(choice, restorer_kind) != state for choice, state in before.items())
    finally:
        path.unlink()
        path.with_suffix(".safetensors").unlink(missing_ok=True)


def cancel_stops_downloads_and_loading(given: Given) -> None:
    report = given.library().download_progress()
    report(1, None)
    report(2, 10)
    given.cancel()
    assert raises(given.cancelled, lambda: report(3, 10))
    given.cancel()
    assert raises(given.cancelled, lambda: given.library().load_restorer(given.checkpoint))
    assert given.library().load_restorer(given.checkpoint)


def raises(kind: type[BaseException], call: Callable[[], Any]) -> bool:
    try:
        call()
    except kind:
        return True
    return False


BEHAVIOURS: dict[str, Callable[[Given], None]] = {
    behaviour.__name__: behaviour
    for behaviour in (
        a_restorer_gives_the_same_faces_also_after_another_took_its_place,
        a_detector_finds_the_same_also_after_another_took_its_place,
        what_runs_in_opencv_is_not_held,
        the_precision_is_one_that_the_device_has,
        a_bundle_loads_what_is_used_and_only_once,
        the_first_load_of_a_pickle_changes_no_fingerprint,
        cancel_stops_downloads_and_loading,
    )
}
