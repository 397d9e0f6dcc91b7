"""The published checkpoint layout and ours: every tensor carried over, none lost or invented, none changed."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import codeformer_core as cf
from codeformer_core.models.architectures import detect_architecture
from codeformer_core.models.codeformer.convert import from_published, links, to_published
from codeformer_core.networks.codeformer import (
    PUBLISHED_AUTOENCODER,
    PUBLISHED_CODEFORMER,
    CodeFormer,
    CodeFormerConfig,
)
from codeformer_core.networks.vqgan import VQAutoencoder

from .conftest import GOLDEN, SMALL_CONFIG, TINY_CONFIG, seeded_network

PUBLISHED = {
    "codeformer": PUBLISHED_CODEFORMER,
    "codeformer_colorization": replace(PUBLISHED_CODEFORMER, fuse_sizes=(32, 64, 128)),
    "codeformer_inpainting": replace(
        PUBLISHED_CODEFORMER,
        autoencoder=replace(PUBLISHED_AUTOENCODER, codebook_size=512),
        fuse_sizes=(32, 64, 128),
    ),
    "vqgan": PUBLISHED_AUTOENCODER,
}


def changed(config: CodeFormerConfig = SMALL_CONFIG, fuse_sizes=None, **autoencoder) -> CodeFormerConfig:
    return replace(
        config,
        autoencoder=replace(config.autoencoder, **autoencoder),
        fuse_sizes=config.fuse_sizes if fuse_sizes is None else fuse_sizes,
    )


ODD = {
    "small": SMALL_CONFIG,
    "one residual block": changed(residual_blocks=1),
    "three residual blocks": changed(residual_blocks=3),
    "no attention": changed(attention_sizes=()),
    "attention at every level": changed(attention_sizes=(64, 32, 16)),
    "falling multipliers": changed(channel_multipliers=(3, 2, 1)),
    "two levels": changed(channel_multipliers=(1, 2), attention_sizes=(32,)),
    "one level": changed(image_size=16, channel_multipliers=(2,), attention_sizes=(16,), fuse_sizes=(16,)),
    "five levels": changed(channel_multipliers=(1, 1, 2, 1, 2), attention_sizes=(8, 4)),
    "no fuse sizes": changed(fuse_sizes=()),
    "one fuse size": changed(fuse_sizes=(16,)),
    "wider transformer": replace(SMALL_CONFIG, width=72, layers=3, mlp_width=40),
    "autoencoder": replace(SMALL_CONFIG.autoencoder, image_size=512, attention_sizes=(128,)),
}


def shapes(state: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {key: tuple(tensor.shape) for key, tensor in state.items()}


def assert_same_bits(state: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert state.keys() == expected.keys()
    different = [key for key in expected if not torch.equal(state[key], expected[key])]
    assert different == []
    assert all(state[key].dtype == tensor.dtype for key, tensor in expected.items())


def result(network: VQAutoencoder) -> Tensor:
    """What a loaded network makes of a fixed face."""
    side = network.config.image_size if isinstance(network, CodeFormer) else 64
    face_B3HW = torch.rand((1, 3, side, side), generator=torch.Generator().manual_seed(1)) * 2 - 1
    return network.restore(face_B3HW, 0.7) if isinstance(network, CodeFormer) else network.reconstruct(face_B3HW)


def test_every_published_manifest_is_compared():
    assert {path.stem for path in (GOLDEN / "networks").glob("*.json")} == set(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_links_cover_a_published_manifest_exactly(name):
    manifest = json.loads((GOLDEN / "networks" / f"{name}.json").read_text())
    config = PUBLISHED[name]
    with torch.device("meta"):
        ours = (CodeFormer if isinstance(config, CodeFormerConfig) else VQAutoencoder)(config).state_dict()
        published = {key: torch.empty(shape) for key, shape in manifest.items()}
    assert shapes(to_published(ours, config)) == shapes(published)
    assert shapes(from_published(published, config)) == shapes(ours)
    assert detect_architecture(published, name).config == config
    assert detect_architecture(ours, name).config == config


@pytest.mark.parametrize("config", ODD.values(), ids=ODD)
def test_no_name_stands_in_two_links(config):
    for layout in ("ours", "published"):
        names = [name for link in links(config) for name, _ in getattr(link, layout)]
        assert len(names) == len(set(names)) > 0


@pytest.mark.parametrize("config", ODD.values(), ids=ODD)
def test_round_trip_keeps_every_bit(config):
    ours = seeded_network(config).state_dict()
    published = to_published(ours, config)
    assert_same_bits(from_published(published, config), ours)
    assert_same_bits(to_published(from_published(published, config), config), published)
    assert sum(tensor.numel() for tensor in published.values()) == sum(tensor.numel() for tensor in ours.values())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_round_trip_keeps_the_precision(tiny_state, dtype):
    published = {key: tensor.to(dtype) for key, tensor in tiny_state.items()}
    assert_same_bits(to_published(from_published(published, TINY_CONFIG), TINY_CONFIG), published)


def test_converting_changes_nothing_that_was_given(tiny_state):
    before = {key: tensor.clone() for key, tensor in tiny_state.items()}
    for tensor in from_published(tiny_state, TINY_CONFIG).values():
        # Renamed tensors are handed on as they are; those that were split or joined are new.
        if all(tensor is not given for given in tiny_state.values()):
            tensor.fill_(7)
    assert_same_bits(tiny_state, before)


@pytest.mark.parametrize("layout", ["published", "ours"])
@pytest.mark.parametrize("config", ODD.values(), ids=ODD)
def test_saved_identified_loaded_and_the_same(config, layout, tmp_path):
    network = seeded_network(config)
    state = network.state_dict()
    if layout == "published":
        state = to_published(state, config)
    path = tmp_path / "odd.safetensors"
    save_file({key: tensor.contiguous() for key, tensor in state.items()}, path)
    restorer = cf.load_restorer(path)
    loaded = restorer.module
    assert loaded.config == config
    assert not loaded.training and not any(parameter.requires_grad for parameter in loaded.parameters())
    assert_same_bits(loaded.state_dict(), network.state_dict())
    if layout == "published":
        assert torch.equal(result(loaded), result(network))


def test_joined_tensors_stand_in_the_published_order():
    """Attention's rows are query, key, value; scale's rows stand before shift's."""
    config = SMALL_CONFIG
    published = to_published(seeded_network(config).state_dict(), config)
    ours = from_published(published, config)
    width = config.width
    joined = published["ft_layers.1.self_attn.in_proj_weight"]
    assert torch.equal(ours["layers.1.query_key.weight"], joined[: 2 * width])
    assert torch.equal(ours["layers.1.value.weight"], joined[2 * width :])
    scale, shift = (published[f"fuse_convs_dict.32.{name}.0.bias"] for name in ("scale", "shift"))
    assert torch.equal(ours["fusions.32.scale_shift_in.bias"], torch.cat((scale, shift)))
    for our_name, published_name in (("query", "q"), ("key", "k"), ("value", "v"), ("out", "proj_out")):
        expected = published[f"generator.blocks.2.{published_name}.weight"]
        assert torch.equal(ours[f"generator.middle.attention.{our_name}.weight"], expected)


def test_a_network_built_from_either_layout_is_one(tiny_state):
    published = detect_architecture(tiny_state, "tiny")
    ours = from_published(tiny_state, published.config)
    from_ours = detect_architecture(ours, "tiny").build(ours)
    assert_same_bits(from_ours.state_dict(), published.build(tiny_state).state_dict())
