"""Images enlarged in tiles: as if the network had seen them whole, whatever their size, memory and file."""

from __future__ import annotations

import dataclasses
import logging
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from spandrel import ModelLoader
from spandrel.architectures.Compact import Compact
from spandrel.architectures.ESRGAN import ESRGAN
from spandrel.architectures.SwinIR import SwinIR
from torch import Tensor, nn

import codeformer_core as cf
from codeformer_core.imaging import tiles
from codeformer_core.imaging.tiles import MIN_TILE, OVERLAP, make_tiles
from codeformer_core.models.library import ModelLibrary
from codeformer_core.models.managed import ManagedUpscaler
from codeformer_core.models.spandrel_upscalers import supported_dtype
from codeformer_core.models.upscaler import CAUTIOUS_TILE, MAX_TILE, ImageUpscaler
from codeformer_core.runtime import memory
from codeformer_core.runtime.host import FixedFolders
from codeformer_core.runtime.memory import GIB, NotEnoughMemory
from codeformer_core.runtime.plain_host import PlainHost
from codeformer_core.weights.reading import WeightsError

from .conftest import GivenDetector, InvertingRestorer, as_it_is, placed_face, random_network
from .fake_patcher import FakeManagement
from .others import filled, small_state
from .test_hosts import patcher_host


def esrgan(scale: int = 2, **sizes: int) -> dict[str, Tensor]:
    return filled(ESRGAN(num_filters=8, num_blocks=1, scale=scale, **sizes))


def compact(scale: int = 2, width: int = 4) -> dict[str, Tensor]:
    """A quick one."""
    return filled(Compact(num_feat=width, num_conv=2, upscale=scale))


def swin_ir() -> dict[str, Tensor]:
    """A transformer that doubles."""
    sizes = {"window_size": 8, "depths": [1], "embed_dim": 12, "num_heads": [2], "mlp_ratio": 2}
    return filled(SwinIR(upscale=2, upsampler="pixelshuffledirect", **sizes))


# scale -> network; the one for 2 takes pixels in blocks of four, so that its images have to be padded.
STATES = {
    1: lambda: compact(1, 8),
    2: lambda: esrgan(scale=4, in_nc=12, shuffle_factor=2),
    3: lambda: compact(3, 8),
    4: lambda: esrgan(scale=4),
}


def noise(height: int, width: int, batch: int = 1) -> Tensor:
    return torch.rand((batch, height, width, 3), generator=torch.Generator().manual_seed(1))


@dataclasses.dataclass
class Listener:
    """Notes what is reported; raises at the first report of a stage."""

    stop_at: str = ""
    seen: list[tuple[str, int, int]] = dataclasses.field(default_factory=list)

    def __call__(self, stage: str, done: int, total: int) -> None:
        self.seen.append((stage, done, total))
        if stage == self.stop_at:
            raise Cancelled


class Cancelled(Exception):
    pass


# --- tiles -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("multiple", [1, 16, 64])
@pytest.mark.parametrize("length", [1, 95, 128, 129, 130, 160, 200, 257, 1000, 1001])
def test_tiles_cover_an_image_and_share_their_borders(length, multiple):
    made = make_tiles(1, length, 128, multiple)
    spans = [tile.columns for tile in made]
    assert spans[0].start == 0 and spans[-1].stop == length
    assert all(span.start % multiple == 0 and 0 < span.stop - span.start <= 128 for span in spans)
    assert all(one.stop - other.start >= OVERLAP for one, other in pairwise(spans))
    assert all(one.start < other.start for one, other in pairwise(spans))
    for scale in (1, 3):
        total = torch.zeros(length * scale)
        for span in spans:
            weights = span.weights(scale, torch.device("cpu"))
            assert weights.min() >= 0
            total[span.enlarged(scale)] += weights
        assert torch.allclose(total, torch.ones_like(total), atol=1e-5)


def test_no_more_tiles_than_needed():
    assert len(make_tiles(128, 128, 128)) == 1
    assert len(make_tiles(129, 128, 128)) == 2
    assert len(make_tiles(128 + 64, 128, 128)) == 2
    assert len(make_tiles(128 + 65, 128, 128)) == 3


def test_the_borders_of_inner_tiles_count_nothing():
    first, second = (tile.columns for tile in make_tiles(1, 192, 128))
    rim = (OVERLAP - tiles.FADE) // 2
    assert first.weights(1, torch.device("cpu"))[-rim:].max() == 0 == second.weights(1, torch.device("cpu"))[:rim].max()


def test_tiles_too_small():
    with pytest.raises(ValueError, match=f"at least {MIN_TILE} pixels, got 127"):
        make_tiles(300, 300, 127)
    with pytest.raises(ValueError, match="at least 256 pixels, got 240"):
        make_tiles(300, 300, 240, multiple=128)


# --- enlarging -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", STATES)
def test_tiled_equals_whole(scale):
    whole, listener = cf.load_upscaler(STATES[scale]()), Listener()
    images_BHW3 = noise(130, 201)
    expected_BHW3 = whole(images_BHW3)
    tiled_BHW3 = dataclasses.replace(whole, tile=128)(images_BHW3, listener)
    assert whole.scale == scale and tiled_BHW3.shape == (1, 130 * scale, 201 * scale, 3)
    assert expected_BHW3.std() > 0.02 and listener.seen[-1] == ("upscaling", 6, 6)
    assert (tiled_BHW3 - expected_BHW3).abs().max() < 1e-5


@torch.no_grad()
def test_it_is_spandrels_own_result():
    upscaler, image_1HW3 = cf.load_upscaler(STATES[4]()), noise(40, 50)
    expected_13HW = upscaler.module(image_1HW3.permute(0, 3, 1, 2)).clamp(0, 1)
    assert torch.allclose(upscaler(image_1HW3), expected_13HW.permute(0, 2, 3, 1), atol=1e-6)


@pytest.mark.parametrize("kind", ["unshuffled", "windows"])
def test_every_size_works(kind):
    """Networks that need multiples of a size, and a least one."""
    upscaler = cf.load_upscaler(STATES[2]() if kind == "unshuffled" else swin_ir())
    for size in range(1, 71):
        made_1HW3 = upscaler(noise(size, 71 - size))
        assert made_1HW3.shape == (1, size * 2, (71 - size) * 2, 3)
        assert torch.isfinite(made_1HW3).all()


def test_a_window_network_sees_its_windows_where_the_whole_image_has_them():
    whole, images_BHW3 = cf.load_upscaler(swin_ir()), noise(180, 97)
    tiled_BHW3 = dataclasses.replace(whole, tile=128)(images_BHW3)
    assert (tiled_BHW3 - whole(images_BHW3)).abs().max() < 1e-5


def test_a_batch_is_worked_on_one_by_one():
    upscaler, images_BHW3, listener = cf.load_upscaler(esrgan()), noise(40, 30, batch=2), Listener()
    before_BHW3 = images_BHW3.clone()
    made_BHW3 = upscaler(images_BHW3, listener)
    assert torch.equal(made_BHW3[1:], upscaler(images_BHW3[1:])) and torch.equal(images_BHW3, before_BHW3)
    assert [(done, total) for _, done, total in listener.seen] == [(0, 2), (1, 2), (1, 2), (2, 2)]
    assert made_BHW3.is_contiguous() and made_BHW3.dtype == torch.float32 and not made_BHW3.is_inference()
    made_BHW3 += 1  # the caller's own


def test_values_beyond_the_range_are_cut_off():
    upscaler = cf.load_upscaler(esrgan())
    image_1HW3 = noise(20, 20) * 4 - 1
    assert torch.equal(upscaler(image_1HW3), upscaler(image_1HW3.clamp(0, 1)))
    assert upscaler(image_1HW3).min() >= 0 and upscaler(image_1HW3).max() <= 1


def test_bfloat16_stays_near():
    state, image_1HW3 = esrgan(), noise(60, 60)
    exact, rounded = cf.load_upscaler(state), cf.load_upscaler(state, dtype=torch.bfloat16)
    made_1HW3 = rounded(image_1HW3)
    assert made_1HW3.dtype == torch.float32 and rounded.bytes_per_pixel * 2 == exact.bytes_per_pixel
    assert (made_1HW3 - exact(image_1HW3)).std() < 0.1 * exact(image_1HW3).std()


def test_what_a_network_can_not_compute_in_is_replaced_by_float32(caplog):
    descriptor = cf.load_upscaler(esrgan()).descriptor
    assert supported_dtype(descriptor, torch.bfloat16, "x.pth") == torch.bfloat16
    descriptor.supports_bfloat16 = False
    assert supported_dtype(descriptor, torch.bfloat16, "x.pth") == torch.float32
    assert "x.pth can't work in bfloat16" in caplog.text


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_alpha_and_gray_are_the_callers(channels):
    with pytest.raises(ValueError, match=f"of 3 channels, got {channels}"):
        cf.load_upscaler(esrgan())(torch.rand(1, 9, 9, channels))


def test_values_that_are_no_numbers_are_said():
    state = esrgan()
    state["model.0.bias"] = torch.full_like(state["model.0.bias"], torch.nan)
    with pytest.raises(ValueError, match=r"given state dict gave values that are NaN or infinite in float32"):
        cf.load_upscaler(state)(noise(9, 9))


# --- memory ----------------------------------------------------------------------------------------------------------


def test_the_tile_follows_the_free_memory(monkeypatch):
    upscaler = cf.load_upscaler(esrgan())

    def tile_with(free: int | None) -> int:
        monkeypatch.setattr(memory, "free_bytes", lambda device: free)
        return upscaler._fitting_tile()

    half = upscaler.bytes_per_pixel * (MAX_TILE // 2) ** 2
    assert tile_with(10**15) == MAX_TILE
    assert MAX_TILE // 4 < tile_with(half) < MAX_TILE // 2  # a part is left free
    assert tile_with(0) == MIN_TILE
    assert tile_with(None) == CAUTIOUS_TILE


def test_transformers_get_smaller_tiles():
    convolutions, transformer = cf.load_upscaler(esrgan()), cf.load_upscaler(swin_ir())
    assert transformer.scale == convolutions.scale
    assert transformer.bytes_per_pixel > 4 * convolutions.bytes_per_pixel


class Forgetful(nn.Module):
    """A network that runs out of memory with tiles of more than `most` pixels."""

    def __init__(self, network: nn.Module, most: int) -> None:
        super().__init__()
        self.network, self.most = network, most
        self.tried: list[tuple[int, int]] = []

    def forward(self, tile_13hw: Tensor) -> Tensor:
        self.tried.append((tile_13hw.shape[2], tile_13hw.shape[3]))
        if max(tile_13hw.shape[2:]) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.")
        return self.network(tile_13hw)


def forgetful(most: int, tile: int | None = None) -> ImageUpscaler:
    upscaler = cf.load_upscaler(compact(), tile=tile)
    upscaler.descriptor._model = Forgetful(upscaler.module, most)
    return upscaler


def test_tiles_are_halved_until_they_fit(caplog):
    images_BHW3, upscaler = noise(300, 210, batch=2), forgetful(160, tile=400)
    with caplog.at_level(logging.WARNING):
        made_BHW3 = upscaler(images_BHW3)
    assert torch.allclose(made_BHW3, cf.load_upscaler(compact())(images_BHW3), atol=1e-5)
    # The image is smaller than the tile that was asked for; the second image begins with what did fit.
    assert upscaler.module.tried[:2] == [(300, 210), (144, 144)]
    assert sum(max(size) > 160 for size in upscaler.module.tried) == 1
    assert "out of memory with tiles of 300 pixels, continuing with 144" in caplog.text


def test_the_smallest_tile_that_does_not_fit_is_the_devices_own_error():
    upscaler = forgetful(50)
    with pytest.raises(torch.OutOfMemoryError):
        upscaler(noise(300, 60))
    assert upscaler.module.tried == [(300, 60), (144, 60), (128, 60)]


def test_results_that_can_not_fit_are_refused_before_the_work(monkeypatch):
    upscaler = forgetful(500)
    monkeypatch.setattr(memory, "free_bytes", lambda device: GIB)
    with pytest.raises(NotEnoughMemory, match=r"makes 1 x 20000x20000 pixels, which needs about 4\.5 GiB"):
        upscaler(torch.zeros(1, 1, 1, 3).expand(1, 10000, 10000, 3))
    assert upscaler.module.tried == []


def test_cancelled_between_two_tiles():
    def cancel(stage: str, done: int, total: int) -> None:
        if done == 2:
            raise Cancelled

    upscaler = forgetful(200, tile=128)
    with pytest.raises(Cancelled):
        upscaler(noise(200, 200), cancel)
    assert len(upscaler.module.tried) == 2


def test_a_tile_of_ones_own_that_is_too_small():
    with pytest.raises(ValueError, match="must have 128 pixels or more, got 20"):
        cf.load_upscaler(esrgan(), tile=20)


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def models(tmp_path) -> Path:
    folder = tmp_path / "models" / "upscale_models"
    folder.mkdir(parents=True)
    return folder


def test_files_by_path_by_name_and_from_the_catalog(models):
    roots = [models.parent]
    torch.save({"params_ema": esrgan(4)}, models / "RealESRGAN_x4plus.pth")
    save_file(esrgan(2), models / "mine.safetensors")
    assert cf.load_upscaler(models / "mine.safetensors").scale == 2
    assert cf.load_upscaler("mine.safetensors", roots=roots).name == "mine.safetensors"
    assert cf.load_upscaler("realesrgan_x4plus", roots=roots).scale == 4
    # No copy of a pickle in a folder whose files other programs list.
    assert sorted(path.name for path in models.iterdir()) == ["RealESRGAN_x4plus.pth", "mine.safetensors"]
    with pytest.raises(WeightsError, match=r"RealESRGAN_x2plus\.pth is not on this machine.*upscale_models"):
        cf.load_upscaler("realesrgan_x2plus", roots=roots)
    with pytest.raises(WeightsError, match=r"'other\.pth' is not on this machine.*upscale_models"):
        cf.load_upscaler("other.pth", roots=roots)
    with pytest.raises(WeightsError, match=r"gone\.pth: there is no such file"):
        cf.load_upscaler(models / "gone.pth")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: random_network().state_dict(), "is a CodeFormer, which enlarges no images"),
        (lambda: small_state("restoreformer"), "is a RestoreFormer, which enlarges no images"),
        (lambda: {"res_0.0.conv1.conv2d.weight": torch.zeros(1)}, "is not a network that spandrel knows"),
        (
            lambda: {key: tensor for key, tensor in esrgan().items() if "RDB2" not in key},
            "spandrel refuses it: .*Missing",
        ),
        (lambda: filled(Compact(num_in_ch=1, num_out_ch=1, num_feat=8, num_conv=2)), "takes 1 channels and gives 1"),
    ],
)
def test_a_file_of_another_kind_is_said_to_be_one(models, make, said):
    save_file({key: tensor.contiguous() for key, tensor in make().items()}, models / "x.safetensors")
    with pytest.raises(WeightsError, match=rf"^x\.safetensors .*{said}"):
        cf.load_upscaler(models / "x.safetensors")


@pytest.mark.parametrize(("purpose", "said"), [("FaceSR", "restores faces"), ("Inpainting", "fills holes")])
def test_a_network_of_spandrels_for_something_else(monkeypatch, purpose, said):
    descriptor = cf.load_upscaler(esrgan()).descriptor
    monkeypatch.setattr(descriptor, "_purpose", purpose)
    monkeypatch.setattr(ModelLoader, "load_from_state_dict", lambda self, state: descriptor)
    with pytest.raises(WeightsError, match=rf"the given state dict is a ESRGAN, which {said}\. Choose"):
        cf.load_upscaler(esrgan())


def test_a_pickle_with_code_is_refused(models):
    class Evil:
        def __reduce__(self):
            return print, ("code ran",)

    torch.save({"model.0.weight": Evil()}, models / "evil.pth")
    with pytest.raises(WeightsError, match="wants to run code"):
        cf.load_upscaler(models / "evil.pth")


def test_without_spandrel_the_cure_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(ImportError, match=r"the package 'spandrel'.*pip install --upgrade spandrel"):
        cf.load_upscaler({"model.0.weight": torch.zeros(1)})


# --- in a host, and in the pipeline ----------------------------------------------------------------------------------


def test_a_host_holds_it_and_shows_its_tiles(models):
    save_file(esrgan(2), models / "mine.safetensors")
    listener = Listener()
    library = ModelLibrary(PlainHost(folders=FixedFolders((models.parent,)), on_progress=listener))
    upscaler = library.load_upscaler("mine.safetensors", tile=128)
    assert isinstance(upscaler, ManagedUpscaler) and (upscaler.name, upscaler.scale) == ("mine.safetensors", 2)
    made_1HW3 = upscaler(noise(130, 20))
    assert torch.equal(made_1HW3, cf.load_upscaler(models / "mine.safetensors", tile=128)(noise(130, 20)))
    assert listener.seen == [("upscaling", done, 2) for done in range(3)]


def test_it_is_brought_back_where_another_model_took_its_place(models):
    """Evicted weights are no numbers."""
    save_file(compact(), models / "mine.safetensors")
    managed = FakeManagement()
    upscaler = ModelLibrary(patcher_host(managed, FixedFolders((models.parent,)))).load_upscaler("mine.safetensors")
    made_1HW3 = upscaler(noise(100, 50))
    managed.evict_all()
    assert torch.equal(upscaler(noise(100, 50)), made_1HW3)
    # Whole, for spandrel's layers can't stream, and with room for one tile.
    assert managed.loads == [(100 * 50 * upscaler.upscaler.bytes_per_pixel, True)] * 2


def restored(**given: object) -> cf.RestoredImages:
    """An image of 140 pixels with one face, twice as large."""
    options = as_it_is("box", **{"upscale": 2.0, **given})
    detector = GivenDetector(((placed_face(70, 70, 20),),))
    return cf.restore_images(noise(140, 140), restorer=InvertingRestorer(), detector=detector, **options)  # type: ignore[arg-type]


def test_the_background_is_redrawn_around_the_faces():
    upscaler, listener = cf.load_upscaler(compact(), tile=128), Listener()
    result = restored(background=upscaler, on_progress=listener)
    plain = restored()
    outside_HW = result.masks_BHW[0] == 0
    assert 0.2 < outside_HW.float().mean() < 0.9
    assert torch.allclose(result.images_BHWC[0][outside_HW], upscaler(noise(140, 140))[0][outside_HW], atol=1e-6)
    assert torch.equal(result.images_BHWC[result.masks_BHW == 1], plain.images_BHWC[plain.masks_BHW == 1])
    assert [done for stage, done, _ in listener.seen if stage == "upscaling"] == [0, 1, 2, 3, 4]


def test_faces_are_redrawn_where_they_are_pasted_larger():
    upscaler, listener = cf.load_upscaler(compact()), Listener()
    result, plain = restored(face_upscaler=upscaler, upscale=8.0, on_progress=listener), restored(upscale=8.0)
    inside = plain.masks_BHW == 1
    assert ("upscaling", 1, 1) in listener.seen
    assert (result.images_BHWC[inside] - plain.images_BHWC[inside]).abs().mean() > 0.01
    assert torch.equal(result.images_BHWC[~(plain.masks_BHW > 0)], plain.images_BHWC[~(plain.masks_BHW > 0)])


@pytest.mark.parametrize("which", ["background", "face_upscaler"])
def test_a_restoration_is_cancelled_while_it_enlarges(which):
    with pytest.raises(Cancelled):
        restored(**{which: cf.load_upscaler(compact())}, upscale=8.0, on_progress=Listener(stop_at="upscaling"))


def test_images_without_colour_get_none_but_from_the_official_recipe():
    gray_1HW3 = noise(140, 140)[..., :1].expand(-1, -1, -1, 3) * 0.8 + torch.tensor((0.1, 0.05, 0.0))
    detector, upscaler = GivenDetector(((placed_face(70, 70, 40),),)), cf.load_upscaler(compact())
    options = {"restorer": InvertingRestorer(), "detector": detector, "mask": "box", "upscale": 3.0}
    ours, official = (
        cf.restore_images(gray_1HW3, background=upscaler, face_upscaler=upscaler, parity=parity, **options)  # type: ignore[arg-type]
        for parity in (False, True)
    )
    # The paper's tint, the same everywhere, stays but where the result is nearly black or white.
    difference_HW = ours.images_BHWC[0, ..., 0] - ours.images_BHWC[0, ..., 2]
    assert difference_HW.std() < 0.02 and abs(difference_HW.mean() - 0.1) < 0.05
    official_HW3 = official.images_BHWC[0]
    assert (official_HW3[..., 0] - official_HW3[..., 2]).std() > 0.05
