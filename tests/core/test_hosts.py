"""Every host of the core makes the same of models, and what is particular to some of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn

import codeformer_core as cf
from codeformer_core.models.codeformer.convert import to_published
from codeformer_core.models.library import ModelLibrary
from codeformer_core.runtime import memory
from codeformer_core.runtime.host import FixedFolders, Host
from codeformer_core.runtime.patcher_host import PatcherHost
from codeformer_core.runtime.plain_host import PlainHost
from codeformer_core.runtime.torch_host import TorchHost

from ..host_behaviours import BEHAVIOURS, Given
from .conftest import SMALL_CONFIG, seeded_network
from .fake_patcher import CPU, FakeForgeManagement, FakeManagement, FakePatcher


class Cancelled(Exception):
    pass


@dataclass
class Button:
    """The user's cancel."""

    pressed: bool = False

    def press(self) -> None:
        self.pressed = True

    def check(self) -> None:
        if self.pressed:
            self.pressed = False
            raise Cancelled

    def progress(self) -> Callable[[str, int, int], None]:
        return lambda stage, done, total: self.check()


def nothing() -> None:
    pass


def plain(folders: FixedFolders, button: Button) -> tuple[Host, Callable[[], None]]:
    return PlainHost(CPU, folders, button.progress(), button.check), nothing


def by_torch(low_vram: bool) -> Callable[[FixedFolders, Button], tuple[Host, Callable[[], None]]]:
    def make(folders: FixedFolders, button: Button) -> tuple[Host, Callable[[], None]]:
        host = TorchHost(CPU, folders, low_vram=lambda: low_vram, new_progress=button.progress, on_check=button.check)
        return host, host.release

    return make


def by_patchers(management: type[FakeManagement]) -> Callable[[FixedFolders, Button], tuple[Host, Callable[[], None]]]:
    def make(folders: FixedFolders, button: Button) -> tuple[Host, Callable[[], None]]:
        managed = management()
        return patcher_host(managed, folders, button), managed.evict_all

    return make


def patcher_host(
    management: FakeManagement,
    folders: FixedFolders = FixedFolders(()),  # noqa: B008
    button: Button | None = None,
    operations: object = nn,
) -> PatcherHost:
    button = button or Button()
    return PatcherHost(
        management,
        FakePatcher,
        operations,
        folders,
        button.progress,
        button.check,
        forces_full_load=not isinstance(management, FakeForgeManagement),
    )


HOSTS = {
    "plain": plain,
    "torch": by_torch(low_vram=False),
    "torch, low VRAM": by_torch(low_vram=True),
    "patcher": by_patchers(FakeManagement),
    "patcher of Forge": by_patchers(FakeForgeManagement),
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("given") / "tiny.pth"
    torch.save({"params_ema": to_published(seeded_network(SMALL_CONFIG).state_dict(), SMALL_CONFIG)}, path)
    return path


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_all_hosts_alike(host, behaviour, checkpoint, tmp_path):
    button = Button()
    made, evict = HOSTS[host](FixedFolders((tmp_path,)), button)
    BEHAVIOURS[behaviour](Given(cf.__name__, made, checkpoint, evict, button.press, Cancelled))


def test_the_fake_takes_evicted_weights_away():
    """So a model that is used without being brought would be seen above."""
    management = FakeManagement()
    restorer = ModelLibrary(patcher_host(management)).load_restorer("codeformer_starter")
    parameter = next(restorer.restorer.module.parameters())
    assert parameter.isnan().all()
    assert restorer.faces_at_once() == 1 and parameter.isfinite().all()
    management.evict_all()
    assert parameter.isnan().all()


# --- patchers --------------------------------------------------------------------------------------------------------


class Streaming(nn.Module):
    """A host's own layers."""

    Linear, Conv2d, GroupNorm = nn.Linear, nn.Conv2d, nn.GroupNorm
    LayerNorm, Embedding = nn.LayerNorm, nn.Embedding


def test_only_a_hosts_own_layers_may_stay_behind_and_the_memory_is_asked_for(checkpoint):
    management = FakeManagement()
    library = ModelLibrary(patcher_host(management, operations=Streaming))
    restorer = library.load_restorer(checkpoint)
    restorer.restore(torch.zeros(2, 3, 64, 64))
    assert management.loads == [(2 * restorer.restorer.bytes_per_face, False)]
    detector = library.load_detector("starter_detector")
    image_BHWC = torch.zeros(1, 64, 64, 3)
    detector.detect(image_BHWC)
    assert management.loads[1:] == [(detector.bytes_for(image_BHWC), True)]


class Traveller(nn.Linear):
    """Remembers where it was sent."""

    def __init__(self) -> None:
        super().__init__(4, 4)
        self.journey: list[torch.device] = []

    def to(self, device: torch.device) -> Traveller:  # type: ignore[override]
        self.journey.append(torch.device(device))
        return self


def test_forge_is_followed_by_a_move_of_what_must_come_whole():
    host = patcher_host(FakeForgeManagement())
    module = Traveller()
    handle = host.hold(module)
    assert host.bring(handle, streamable=True) == CPU and module.journey == []
    assert host.bring(handle) == CPU and module.journey == [CPU]


# --- plain torch -----------------------------------------------------------------------------------------------------

GPU = torch.device("cuda")


def torch_host(low_vram: bool) -> TorchHost:
    button = Button()
    return TorchHost(
        GPU, FixedFolders(()), low_vram=lambda: low_vram, new_progress=button.progress, on_check=button.check
    )


@pytest.mark.parametrize(("low_vram", "room"), [(True, None), (True, 10**9), (False, 100)])
def test_one_module_at_a_time_where_memory_is_short(monkeypatch, low_vram, room):
    monkeypatch.setattr(memory, "free_bytes", lambda device: room)
    host, first, second = torch_host(low_vram), Traveller(), Traveller()
    assert host.bring(host.hold(first), 50) == GPU
    assert host.bring(host.hold(second), 50) == GPU
    assert (first.journey, second.journey) == ([GPU, CPU], [GPU])
    assert host.bring(first, 50) == GPU
    assert second.journey == [GPU, CPU]


def test_modules_stay_where_there_is_room_until_they_are_sent_away(monkeypatch):
    # 80 bytes of weights, which count only before they are there.
    monkeypatch.setattr(memory, "free_bytes", lambda device: 130)
    host, first, second = torch_host(False), Traveller(), Traveller()
    for module, needed in ((first, 50), (second, 50), (first, 130)):
        host.bring(host.hold(module), needed)
    assert (first.journey, second.journey) == ([GPU, GPU], [GPU])
    host.release()
    assert (first.journey, second.journey) == ([GPU, GPU, CPU], [GPU, CPU])
    host.release()
    assert len(first.journey) == 3


def test_a_module_that_nobody_owns_any_more_is_let_go(monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda device: None)
    host = torch_host(True)
    host.bring(Traveller())
    left = Traveller()
    host.bring(left)
    host.release()
    assert left.journey == [GPU, CPU]


# --- folders ---------------------------------------------------------------------------------------------------------


def test_fixed_folders(tmp_path):
    models, own = tmp_path / "models", tmp_path / "Codeformer"
    folders = FixedFolders((models,), {"facerestore_models": (own,)})
    assert folders.of("facerestore_models") == [own, models / "facerestore_models"]
    assert folders.of("facedetection") == [models / "facedetection"]
    assert folders.roots() == [own, models]
