"""Weights are found wherever a checkpoint has them, and a file that is refused leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import codeformer_core as cf
from codeformer_core.models.checkpoints import open_checkpoint
from codeformer_core.models.codeformer.convert import to_published
from codeformer_core.weights.reading import WeightsError

from .conftest import SMALL_CONFIG, seeded_network


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    published = to_published(seeded_network(SMALL_CONFIG).state_dict(), SMALL_CONFIG)
    return {key: tensor.contiguous() for key, tensor in published.items()}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def beginning(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + key: tensor for key, tensor in state.items()}


OTHER_NETWORK = {"body.0.weight": torch.zeros(3), "body.0.bias": torch.zeros(3)}
WRAPPED = {
    "generator": lambda state: {"generator": state, "discriminator": OTHER_NETWORK},
    "behind another network": lambda state: {"discriminator": OTHER_NETWORK, "generator": state},
    "g_ema": lambda state: {"g": OTHER_NETWORK, "d": OTHER_NETWORK, "g_ema": state},
    "model_state_dict": lambda state: {"epoch": 3, "model_state_dict": state, "optimizer": {"state": {0: {"a": 1}}}},
    "params-ema": lambda state: {"params-ema": state},
    "nested": lambda state: {"checkpoint": {"networks": {"generator": {"weights": state}}}},
    "module.": lambda state: beginning("module.", state),
    "net_g.": lambda state: beginning("net_g.", state),
    "model.": lambda state: beginning("model.", state),
    "_orig_mod.": lambda state: beginning("_orig_mod.", state),
    "_orig_mod.module.": lambda state: beginning("_orig_mod.module.", state),
    "model.net_g.module.": lambda state: beginning("model.net_g.module.", state),
    "net_g. beside others": lambda state: {
        "state_dict": beginning("net_d.", OTHER_NETWORK) | beginning("net_g.", state),
        "callbacks": {},
    },
    "in our layout": lambda state: {"generator": beginning("module.", seeded_network(SMALL_CONFIG).state_dict())},
    "beside its autoencoder": lambda state: {
        "vqgan": {key: tensor for key, tensor in state.items() if key.startswith(("encoder.", "generator.", "quant"))},
        "net_g": state,
    },
}


@pytest.mark.parametrize("kind", WRAPPED)
def test_weights_are_found_by_what_fits(tmp_path, state, kind):
    torch.save(WRAPPED[kind](state), tmp_path / "x.pth")
    restorer = cf.load_restorer(tmp_path / "x.pth")
    assert restorer.architecture == "codeformer"
    expected = seeded_network(SMALL_CONFIG).state_dict()
    assert all(torch.equal(tensor, expected[key]) for key, tensor in restorer.module.state_dict().items())
    # What is kept are these weights alone; the second time they come from there.
    assert names(tmp_path) == ["x.pth", "x.safetensors"]
    assert len(load_file(tmp_path / "x.safetensors")) in (len(state), len(expected))
    again = cf.load_restorer(tmp_path / "x.pth")
    assert all(torch.equal(tensor, expected[key]) for key, tensor in again.module.state_dict().items())


def test_a_prefix_in_safetensors_and_in_a_given_state_dict(tmp_path, state):
    save_file(beginning("net_g.", state), tmp_path / "x.safetensors")
    assert cf.load_restorer(tmp_path / "x.safetensors").architecture == "codeformer"
    assert cf.load_restorer(beginning("net_g.", state)).architecture == "codeformer"


def test_the_running_average_is_preferred_and_what_is_whole_to_what_is_not(tmp_path, state):
    zeros = {key: torch.zeros_like(tensor) for key, tensor in state.items()}
    torch.save({"generator": zeros, "generator_ema": state}, tmp_path / "both.pth")
    assert torch.equal(open_checkpoint(tmp_path / "both.pth").state["position_emb"], state["position_emb"])
    half = dict(list(zeros.items())[: len(zeros) // 2]) | {"position_emb": zeros["position_emb"]}
    torch.save({"params_ema": half, "params": state}, tmp_path / "half.pth")
    assert torch.equal(open_checkpoint(tmp_path / "half.pth").state["position_emb"], state["position_emb"])


def test_where_nothing_fits_the_places_of_all_tensors_are_named(tmp_path):
    held = {"net": beginning("inner.", OTHER_NETWORK), "ema": {"a.b": torch.ones(1), "c": torch.ones(1)}, "epoch": 3}
    torch.save({"weights": held, "step": torch.tensor(3)}, tmp_path / "x.pth")
    with pytest.raises(WeightsError) as caught:
        cf.load_restorer(tmp_path / "x.pth")
    places = "2 in weights.ema (a, c), 1 at the top (step), 2 in weights.net (inner)"
    assert places in str(caught.value)


UNSUPPORTED = {
    "GFPGAN v1": (
        ["conv_body_first.0.weight", "conv_body_first.1.bias", "toRGB.0.weight", "stylegan_decoder.style_mlp.1.weight"],
        "GFPGANv1.4.pth",
    ),
    "RestoreFormer++": (
        [
            "vqvae.quantize.embedding.weight",
            "vqvae.encoder.down.0.block.0.norm1.weight",
            "vqvae.decoder.up.5.attn.0.q.weight",
            "vqvae.decoder.up.4.attn.0.q.weight",
            "vqvae.decoder.conv_out.weight",
            "loss.discriminator.main.0.weight",
        ],
        "RestoreFormer.pth",
    ),
    "GPEN": (
        ["ecd0.0.0.weight", "ecd1.0.0.kernel", "final_linear.0.weight", "generator.style.1.weight"],
        "GFPGANv1.4.pth",
    ),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"g_ema": beginning("module.", state)}])
def test_restorers_that_are_not_supported_are_told_by_content_with_the_alternative(tmp_path, name, wrap):
    keys, instead = UNSUPPORTED[name]
    torch.save(wrap({key: torch.zeros(1) for key in keys}), tmp_path / "faces.pth")
    with pytest.raises(WeightsError, match=r"faces\.pth") as caught:
        cf.load_restorer(tmp_path / "faces.pth")
    assert f"this is {name}, which is not supported" in str(caught.value) and instead in str(caught.value)
    assert names(tmp_path) == ["faces.pth"]


# --- what a refused file leaves --------------------------------------------------------------------------------------


def test_a_wrong_checkpoint_of_4_gb_leaves_nothing(tmp_path):
    path = tmp_path / "checkpoint.pth"
    weight = torch.empty(2**30)
    with torch.serialization.skip_data():  # a sparse file: its numbers take no room on the disk
        torch.save({"state_dict": {"model.diffusion_model.input_blocks.0.0.weight": weight}}, path)
    assert path.stat().st_size > 4 * 10**9
    with pytest.raises(WeightsError, match="this is a Stable Diffusion checkpoint"):
        cf.load_restorer(path)
    assert names(tmp_path) == [path.name]


def missing_key(state):
    return {key: tensor for key, tensor in state.items() if key != "position_emb"}


def wrong_shape(state):
    return state | {"position_emb": torch.zeros(7)}


@pytest.mark.parametrize("spoil", [missing_key, wrong_shape])
def test_a_restorer_that_does_not_fit_leaves_nothing(tmp_path, state, spoil):
    torch.save({"params_ema": spoil(state)}, tmp_path / "x.pth")
    with pytest.raises(WeightsError):
        cf.load_restorer(tmp_path / "x.pth")
    assert names(tmp_path) == ["x.pth"]


@pytest.mark.parametrize("load", [cf.load_detector, cf.load_parser, cf.load_landmark_detector])
def test_neither_does_what_is_no_detector_or_parser(tmp_path, state, load):
    torch.save({"params_ema": state}, tmp_path / "x.pth")
    with pytest.raises(WeightsError):
        load(tmp_path / "x.pth")
    assert names(tmp_path) == ["x.pth"]
