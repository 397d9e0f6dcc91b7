"""VQFR v1 and v2: recorded outputs of the published networks, the verbs by themselves, its files whole and broken."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

import codeformer_core as cf
from codeformer_core.models.vqfr.architecture import VQFR
from codeformer_core.models.vqfr.names import layers
from codeformer_core.networks.vqfr_blocks import KERNEL_TAPS, TextureWarp
from codeformer_core.networks.vqfr_v1 import PUBLISHED_VQFR_V1, VQFRv1, VQFRv1Config
from codeformer_core.networks.vqfr_v2 import PUBLISHED_VQFR_V2, VQFRv2, VQFRv2Config
from codeformer_core.weights.reading import WeightsError

from .conftest import GOLDEN
from .test_networks import casting_operations, counting_operations, rms
from .test_parity_networks import assert_equal_enough

PUBLISHED = {"vqfr_v1": PUBLISHED_VQFR_V1, "vqfr_v2": PUBLISHED_VQFR_V2}

# For pictures of 64 pixels: milliseconds per run.
SMALL = {
    1: VQFRv1Config(
        image_size=64,
        level_channels=(32, 64, 32),
        encoder_blocks=1,
        decoder_blocks=2,
        codebook_size=24,
        code_channels=16,
        guide_channels=6,
        deformable_groups=2,
    ),
    2: VQFRv2Config(
        image_size=64,
        level_channels=(32, 32, 64),
        encoder_blocks=2,
        decoder_blocks=1,
        codebook_size=24,
        code_channels=16,
        guide_channels=6,
        deformable_groups=4,
    ),
}


def seeded(config: VQFRv1Config | VQFRv2Config) -> VQFRv1 | VQFRv2:
    """Every parameter random, so that none can be lost, swapped or left out unseen."""
    network = VQFR.empty_network(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            noise *= 1 if name == "codebook.weight" else max(parameter[0].numel(), 16) ** -0.5
            parameter.copy_(1 + noise if "norm" in name and name.endswith("weight") else noise)
    return network.eval().requires_grad_(False)


@pytest.fixture(scope="module", params=SMALL)
def network(request) -> VQFRv1 | VQFRv2:
    return seeded(SMALL[request.param])


@pytest.fixture(scope="module")
def faces_B3HW() -> Tensor:
    return torch.rand((4, 3, 64, 64), generator=torch.Generator().manual_seed(5)) * 2 - 1


def manifest(name: str) -> dict[str, list[int]]:
    return json.loads((GOLDEN / "vqfr" / f"{name}.json").read_text())


def whole_network(fill, name: str) -> VQFRv1 | VQFRv2:
    """What `load_restorer` makes of the published layout; it refuses what is missing and what is left over."""
    state = {key: torch.from_numpy(value) for key, value in fill.fill_state_dict(manifest(name)).items()}
    restorer = cf.load_restorer(state)
    assert (restorer.architecture, restorer.task, restorer.face_size) == ("vqfr", "restoration", 512)
    assert restorer.uses_fidelity == (name == "vqfr_v2")
    return restorer.module


# --- the published networks ------------------------------------------------------------------------------------------


def run(network: VQFRv1 | VQFRv2, face_B3HW: Tensor) -> tuple[Tensor, list[Tensor], Tensor]:
    """-> codes_BT, textures, what the main decoder makes of them."""
    codes_BT = network.pick_codes(network.encode(face_B3HW))
    textures = network.decode(network.embed_codes(codes_BT))
    return codes_BT, textures, network.warp(textures, face_B3HW)


@pytest.mark.slow
@torch.no_grad()
def test_version_1_equals_the_published(fill, astronaut):
    recorded = load_file(GOLDEN / "vqfr" / "vqfr_v1.safetensors")
    assert recorded.keys() == {"dec", "main_dec"}
    network = whole_network(fill, "vqfr_v1")
    # One code chosen otherwise would be far outside the tolerance: the codes themselves are not recorded.
    _, textures, restored_B3HW = run(network, astronaut.permute(2, 0, 1)[None] * 2 - 1)
    assert_equal_enough(network.decoder.head(textures[-1])[:, :, ::4, ::4], recorded["dec"])
    assert_equal_enough(restored_B3HW[:, :, ::4, ::4], recorded["main_dec"])


@pytest.mark.slow
@torch.no_grad()
def test_version_2_equals_the_published(fill, astronaut):
    recorded = load_file(GOLDEN / "vqfr" / "vqfr_v2.safetensors")
    fidelities = [0.0, 0.5, 1.0]
    assert recorded.keys() == {"indices", "texture_dec", *(f"main_dec_f{fidelity}" for fidelity in fidelities)}
    network = whole_network(fill, "vqfr_v2")
    codes_BT, textures, added_BCHW = run(network, astronaut.permute(2, 0, 1)[None] * 2 - 1)
    assert torch.equal(codes_BT.flatten(), recorded["indices"].flatten())
    assert_equal_enough(network.decoder.head(textures[-1])[:, :, ::4, ::4], recorded["texture_dec"])
    for fidelity in fidelities:
        # As `restore` joins them, see below: three runs of the whole would take a minute.
        restored_B3HW = network.decoder.head(textures[-1] + fidelity * added_BCHW)
        assert_equal_enough(restored_B3HW[:, :, ::4, ::4], recorded[f"main_dec_f{fidelity}"])


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_table_of_names_covers_a_published_manifest(name):
    config = PUBLISHED[name]
    published = {key: torch.empty(shape, device="meta") for key, shape in manifest(name).items()}
    ours = VQFR.empty_network(config, device="meta").state_dict()
    assert VQFR.read(published, "published").config == VQFR.read(ours, "ours").config == config
    assert {key: list(tensor.shape) for key, tensor in VQFR.to_published(ours, config).items()} == manifest(name)
    assert VQFR.from_published(published, config).keys() == ours.keys()
    for names in zip(*layers(config), strict=True):
        assert len(set(names)) == len(names)


# --- the verbs -------------------------------------------------------------------------------------------------------


def test_a_batch_equals_its_faces_one_by_one(network, faces_B3HW):
    together = network.restore(faces_B3HW, 0.7)
    singles = torch.cat([network.restore(face_3HW[None], 0.7) for face_3HW in faces_B3HW])
    assert together.shape == faces_B3HW.shape
    assert rms(together - singles) < 1e-5 * rms(singles)
    assert rms(singles[0] - singles[1]) > 0.01 * rms(singles)
    assert len(network.pick_codes(network.encode(faces_B3HW)).unique()) > 5


def test_version_1_has_no_fidelity(faces_B3HW):
    network = seeded(SMALL[1])
    assert not network.uses_fidelity
    restored_B3HW = run(network, faces_B3HW)[2]
    assert all(torch.equal(network.restore(faces_B3HW, fidelity), restored_B3HW) for fidelity in (0.0, 1.0))


@pytest.mark.parametrize("fidelity", [0.0, 0.5, 1.0])
def test_version_2_weighs_what_it_adds_to_the_textures(faces_B3HW, fidelity):
    network = seeded(SMALL[2])
    assert network.uses_fidelity
    _, textures, added_BCHW = run(network, faces_B3HW)
    expected_B3HW = network.decoder.head(textures[-1] + fidelity * added_BCHW)
    assert rms(network.restore(faces_B3HW, fidelity) - expected_B3HW) <= 1e-6 * rms(expected_B3HW)
    assert rms(expected_B3HW - network.decoder.head(textures[-1])) >= 0.05 * fidelity * rms(expected_B3HW)


def test_fidelity_0_never_touches_the_main_decoder(faces_B3HW):
    network, damaged = seeded(SMALL[2]), seeded(SMALL[2])
    for parameter in damaged.main.parameters():
        parameter.fill_(torch.nan)
    assert torch.equal(damaged.restore(faces_B3HW, 0.0), network.restore(faces_B3HW, 0.0))
    assert damaged.restore(faces_B3HW, 0.1).isnan().any()


def test_version_1_picks_the_nearest_codes(faces_B3HW):
    network = seeded(SMALL[1])
    latent_BDHW = network.encode(faces_B3HW)
    vectors_BTD = latent_BDHW.flatten(2).transpose(1, 2)
    expected_BT = torch.cdist(vectors_BTD.double(), network.codebook.weight.double()).argmin(-1)
    assert torch.equal(network.pick_codes(latent_BDHW), expected_BT)


def test_the_input_is_not_written_to(network, faces_B3HW):
    given = faces_B3HW.clone(memory_format=torch.channels_last)
    network.restore(given, 1.0)
    assert torch.equal(given, faces_B3HW)


def test_faces_of_another_size_are_refused_with_the_cure(network):
    with pytest.raises(ValueError, match=r"must be 64x64 pixels for this network, got the shape .*; resize"):
        network.restore(torch.zeros(1, 3, 32, 32), 0.5)


# --- warping ---------------------------------------------------------------------------------------------------------


def warp_by_definition(layer: nn.Module, features_BCHW: Tensor, steer_BSHW: Tensor, groups: int) -> Tensor:
    """Modulated deformable convolution (arXiv 1811.11168), tap by tap: zero outside the picture."""
    batch, channels, height, width = features_BCHW.shape
    shifts = steer_BSHW[:, : 2 * KERNEL_TAPS * groups].unflatten(1, (groups, KERNEL_TAPS, 2))
    masks = steer_BSHW[:, 2 * KERNEL_TAPS * groups :].sigmoid().unflatten(1, (groups, KERNEL_TAPS))
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    output = layer.bias.view(1, -1, 1, 1).expand(batch, -1, height, width).clone()
    for group, group_BCHW in enumerate(features_BCHW.chunk(groups, dim=1)):
        weight = layer.weight[:, group * channels // groups : (group + 1) * channels // groups].flatten(2)
        for tap in range(KERNEL_TAPS):
            y = rows + tap // 3 - 1 + shifts[:, group, tap, 0]
            x = columns + tap % 3 - 1 + shifts[:, group, tap, 1]
            grid_BHW2 = torch.stack((2 * x / (width - 1) - 1, 2 * y / (height - 1) - 1), dim=-1)
            read_BCHW = F.grid_sample(group_BCHW, grid_BHW2, align_corners=True) * masks[:, group, tap, None]
            output += torch.einsum("oc,bchw->bohw", weight[:, :, tap], read_BCHW)
    return output


@torch.no_grad()
def test_warping_is_modulated_deformable_convolution():
    torch.manual_seed(1)
    config = SMALL[2]
    layer = TextureWarp(32, 0, config, {"device": None, "dtype": torch.float64, "operations": nn}).warp
    features_BCHW = torch.randn(2, 32, 7, 9, dtype=torch.float64)
    steer_BSHW = 2 * torch.randn(2, 3 * KERNEL_TAPS * config.deformable_groups, 7, 9, dtype=torch.float64)
    expected = warp_by_definition(layer, features_BCHW, steer_BSHW, config.deformable_groups)
    assert torch.allclose(layer(torch.cat((features_BCHW, steer_BSHW), dim=1)), expected, atol=1e-9)
    # Nothing shifted, every mask a half: half of a plain convolution.
    plain = F.conv2d(features_BCHW, layer.weight, padding=1) / 2 + layer.bias.view(-1, 1, 1)
    assert torch.allclose(layer(torch.cat((features_BCHW, 0 * steer_BSHW), dim=1)), plain, atol=1e-9)


@torch.no_grad()
@pytest.mark.parametrize("shift", [torch.nan, torch.inf, -torch.inf, 1e30])
def test_an_impossible_shift_is_no_read_of_foreign_memory(shift):
    """torchvision crashes the process where a shift is no number."""
    config = SMALL[2]
    layer = TextureWarp(32, 0, config, {"device": None, "dtype": None, "operations": nn}).warp
    joined_BXHW = torch.ones(1, 32 + 3 * KERNEL_TAPS * config.deformable_groups, 8, 8)
    sound_BCHW = layer(joined_BXHW)
    joined_BXHW[0, 32 + 5, 3, 4] = shift
    warped_BCHW = layer(joined_BXHW)
    assert warped_BCHW[0, :, 3, 4].isfinite().all() == (shift == 1e30)
    warped_BCHW[0, :, 3, 4] = sound_BCHW[0, :, 3, 4]
    assert torch.allclose(warped_BCHW, sound_BCHW)


FIX = "install the torchvision that belongs to torch .*, or choose another model"


def test_without_torchvision_the_error_says_so(network, faces_B3HW, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision.ops", None)
    with pytest.raises(RuntimeError, match=rf"needs torchvision, which can't be imported .*: {FIX}"):
        network.restore(faces_B3HW, 1.0)


def test_a_torchvision_without_the_operator_is_named_with_the_cure(network, faces_B3HW, monkeypatch):
    with monkeypatch.context() as older:
        older.delattr("torchvision.ops.deform_conv2d")
        with pytest.raises(RuntimeError, match=rf"can't be imported \(cannot import name 'deform_conv2d'.*: {FIX}"):
            network.restore(faces_B3HW, 1.0)
    monkeypatch.setattr(torch.ops, "torchvision", SimpleNamespace())
    with pytest.raises(RuntimeError, match=rf"torchvision's deform_conv2d, and the installed .* has none: {FIX}"):
        network.restore(faces_B3HW, 1.0)


def test_a_torchvision_without_the_device_is_named_with_the_cure(network, faces_B3HW, monkeypatch):
    def refuse(*arguments, **options):
        raise NotImplementedError("no kernel")

    monkeypatch.setattr("torchvision.ops.deform_conv2d", refuse)
    with pytest.raises(RuntimeError, match=r"has none for cpu: install .* or restore on the CPU"):
        network.restore(faces_B3HW, 1.0)


# --- precision and a host's layers -----------------------------------------------------------------------------------


def test_bfloat16_is_close(network, faces_B3HW):
    rough = seeded(SMALL[1 if isinstance(network, VQFRv1) else 2]).to(torch.bfloat16)
    latent_BDHW, rough_latent_BDHW = network.encode(faces_B3HW), rough.encode(faces_B3HW.bfloat16())
    assert rms(rough_latent_BDHW - latent_BDHW) < 0.03 * rms(latent_BDHW)
    quantised_BDHW = network.embed_codes(network.pick_codes(latent_BDHW))
    exact = network.warp(network.decode(quantised_BDHW), faces_B3HW)
    close = rough.warp(rough.decode(quantised_BDHW.bfloat16()), faces_B3HW.bfloat16())
    assert close.dtype == torch.bfloat16
    assert rms(close - exact) < 0.05 * rms(exact)
    restored_B3HW = rough.restore(faces_B3HW.bfloat16(), 0.5)
    assert restored_B3HW.dtype == torch.bfloat16 and restored_B3HW.isfinite().all()


@pytest.mark.parametrize("config", SMALL.values())
def test_every_parameter_sits_in_a_layer_of_the_operations(config):
    operations, made = counting_operations()
    network = VQFR.empty_network(config, operations=operations)
    owners = [module for module in network.modules() if list(module.parameters(recurse=False))]
    assert len(owners) > 50
    assert {id(module) for module in owners} == {id(module) for module in made}
    assert list(network.buffers()) == []


@torch.no_grad()
@pytest.mark.parametrize("config", SMALL.values())
def test_every_layer_is_called_through_its_operations(faces_B3HW, config):
    """Weights kept in bfloat16, faces in float32: the result is that of the rounded weights in float32."""
    called: set[nn.Module] = set()
    hosted = VQFR.empty_network(config, dtype=torch.bfloat16, operations=casting_operations(called))
    hosted.load_state_dict(seeded(config).state_dict())
    rounded = seeded(config).to(torch.bfloat16).float()
    restored_B3HW = hosted.restore(faces_B3HW, 1.0)
    assert restored_B3HW.dtype == torch.float32
    assert rms(restored_B3HW - rounded.restore(faces_B3HW, 1.0)) < 1e-5 * rms(restored_B3HW)
    uncalled = {module for module in hosted.modules() if list(module.parameters(recurse=False))} - called
    # Version 1 paints the textures alone only when asked to.
    assert uncalled == ({hosted.decoder.head.norm, hosted.decoder.head.conv} if isinstance(hosted, VQFRv1) else set())


# --- files -----------------------------------------------------------------------------------------------------------


def state_of(version: int, layout: str) -> dict[str, Tensor]:
    ours = seeded(SMALL[version]).state_dict()
    return VQFR.to_published(ours, SMALL[version]) if layout == "published" else ours


EVERY_FILE = pytest.mark.parametrize(
    ("version", "layout"), [(1, "published"), (2, "published"), (1, "ours"), (2, "ours")]
)


@EVERY_FILE
def test_files_are_told_from_their_keys_and_shapes(version, layout):
    state = state_of(version, layout)
    checkpoint = VQFR.read(state, "whole")
    assert VQFR.detect(state) and checkpoint.layout == layout
    # The one thing that shapes don't tell.
    assert checkpoint.config == replace(SMALL[version], image_size=512)
    assert VQFR.detect({key: state[key] for key in list(state)[1::2]})
    built = replace(checkpoint, config=SMALL[version]).build(state).state_dict()
    expected = seeded(SMALL[version]).state_dict()
    assert built.keys() == expected.keys() and all(torch.equal(built[key], expected[key]) for key in expected)


@EVERY_FILE
def test_half_a_file_is_refused_with_the_first_missing_keys(version, layout):
    state = state_of(version, layout)
    for kept in (list(state)[::2], list(state)[1::2], list(state)[len(state) // 2 :], list(state)[: -len(state) // 5]):
        half = {key: state[key] for key in kept}
        assert VQFR.detect(half)
        with pytest.raises(WeightsError, match=rf"^half: looks like a VQFR v{version} .*\d+ .*missing.*, the first: "):
            VQFR.read(half, "half")


@EVERY_FILE
def test_one_missing_key_is_named(version, layout):
    state = state_of(version, layout)
    missing = sorted(key for key in state if key.endswith("conv_in.bias"))[0]
    del state[missing]
    with pytest.raises(WeightsError, match=f"1 missing keys, the first: {missing}. The file is incomplete"):
        VQFR.read(state, "file")


@EVERY_FILE
def test_what_does_not_belong_is_refused(version, layout):
    state = state_of(version, layout)
    key = next(key for key in state if key.endswith("conv_in.weight"))
    with pytest.raises(WeightsError, match="1 unexpected keys, the first: another"):
        VQFR.read(state | {"another.weight": torch.zeros(1)}, "file")
    with pytest.raises(WeightsError, match=rf"1 tensors of another shape, the first: {key} \(2, 2\) instead of"):
        VQFR.read(state | {key: torch.zeros(2, 2)}, "file")
    with pytest.raises(WeightsError, match=f"1 tensors of another kind of number, the first: {key}"):
        VQFR.read(state | {key: state[key].int()}, "file")


def test_trainings_counters_are_no_fault():
    for version, prefix in {1: "quantizer.quantize_dict.Level_4.", 2: "quantizer."}.items():
        state = state_of(version, "published")
        counted = state | {
            f"{prefix}usage": torch.zeros(24, dtype=torch.int),
            f"{prefix}reestimation_reservoir.buffer": torch.zeros(2),
        }
        assert VQFR.read(counted, "file") == VQFR.read(state, "file")
        assert VQFR.from_published(counted, SMALL[version]).keys() == seeded(SMALL[version]).state_dict().keys()


def test_other_networks_are_not_claimed(tiny_state, tiny_network):
    for state in (tiny_state, tiny_network.state_dict(), {}):
        assert not VQFR.detect(state)


def test_impossible_sizes_are_refused():
    with pytest.raises(ValueError, match="image_size 66 must be a multiple of 4"):
        replace(SMALL[1], image_size=66)
    with pytest.raises(ValueError, match="must be multiples of deformable_groups 5"):
        replace(SMALL[1], deformable_groups=5)
    with pytest.raises(ValueError, match="must be multiples of deformable_groups 0"):
        replace(SMALL[1], deformable_groups=0)
    with pytest.raises(ValueError, match="two levels or more"):
        replace(SMALL[2], level_channels=(32,))
