"""What a checkpoint is, told from keys and shapes; and what a wrong one gets to hear."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest
import torch
from torch import Tensor

import codeformer_core as cf
from codeformer_core.models.architectures import detect_architecture
from codeformer_core.models.codeformer.convert import to_published
from codeformer_core.networks.codeformer import PUBLISHED_CODEFORMER, CodeFormer
from codeformer_core.runtime.errors import problem_of
from codeformer_core.weights.reading import WeightsError, read_state_dict

from .conftest import GOLDEN, SMALL_CONFIG, TINY_CONFIG

FILE = "models/some file.pth"


def state_of(config, layout: str = "published") -> dict[str, Tensor]:
    """Shapes alone: nothing here needs values."""
    with torch.device("meta"):
        ours = CodeFormer(config).state_dict()
    return to_published(ours, config) if layout == "published" else ours


def with_task_sizes(codebook_size: int, fuse_sizes: tuple[int, ...]):
    autoencoder = replace(TINY_CONFIG.autoencoder, codebook_size=codebook_size)
    return replace(TINY_CONFIG, autoencoder=autoencoder, fuse_sizes=fuse_sizes)


def complaint(state: dict[str, Tensor]) -> str:
    with pytest.raises(WeightsError) as caught:
        detect_architecture(state, FILE)
    assert str(caught.value).startswith(f"{FILE}: ")
    return str(caught.value)


@pytest.fixture(params=["published", "ours"])
def layout(request) -> str:
    return request.param


@pytest.fixture
def state(layout) -> dict[str, Tensor]:
    return state_of(TINY_CONFIG, layout)


@pytest.mark.parametrize(
    ("codebook_size", "fuse_sizes", "task"),
    [
        (1024, (32, 64, 128, 256), "restoration"),
        (1024, (32, 64, 128), "colorization"),
        (512, (32, 64, 128), "inpainting"),
        (512, (32, 64, 128, 256), "restoration"),
        (1024, (), "restoration"),
    ],
)
def test_task_is_told_by_sizes(codebook_size, fuse_sizes, task, layout):
    config = with_task_sizes(codebook_size, fuse_sizes)
    identity = detect_architecture(state_of(config, layout), FILE)
    assert (identity.architecture.id, identity.task, identity.layout) == ("codeformer", task, layout)
    assert identity.config == config


def test_an_autoencoder_is_no_restorer(layout):
    state = state_of(TINY_CONFIG, layout)
    parts = ("encoder.", "generator.", "quantize.", "codebook.")
    identity = detect_architecture({key: tensor for key, tensor in state.items() if key.startswith(parts)}, FILE)
    assert (identity.architecture.id, identity.task) == ("vqgan", "autoencoder")
    assert identity.config == TINY_CONFIG.autoencoder


def test_nothing_is_taken_from_the_name():
    config = with_task_sizes(512, (32, 64, 128))
    assert detect_architecture(state_of(config), "codeformer_colorization.pth").task == "inpainting"


@pytest.mark.parametrize(
    ("keys", "kind"),
    [
        (["BboxHead.0.conv1x1.weight", "fpn.output1.0.weight"], "RetinaFace detector"),
        (["module.BboxHead.0.conv1x1.weight"], "RetinaFace detector"),
        (["stylegan_decoder.style_mlp.1.weight", "conv_body_first.weight"], "GFPGAN checkpoint"),
        (["conv_first.weight", "body.0.rdb1.conv1.weight"], "an upscaler"),
        (["res_0.0.conv1.conv2d.weight"], "ParseNet"),
        (["model.diffusion_model.input_blocks.0.0.weight"], "Stable Diffusion checkpoint"),
    ],
)
def test_another_kind_of_file_is_called_by_its_name(keys, kind):
    text = complaint({key: torch.empty(1) for key in keys})
    assert kind in text and "not a CodeFormer checkpoint" in text


@pytest.mark.parametrize(
    ("key", "problem"), [("BboxHead.0.conv1x1.weight", "detector_weights"), ("conv_first.weight", "upscaler_weights")]
)
def test_a_front_end_learns_what_kind_of_file_it_is(key, problem):
    with pytest.raises(WeightsError) as caught:
        detect_architecture({key: torch.empty(1)}, "file")
    assert problem_of(caught.value) == problem


def test_a_real_detector_file_is_recognised():
    text = complaint(read_state_dict(GOLDEN / "models" / "retinaface_mobilenet0.25_mit.pth"))
    assert "RetinaFace detector" in text


def test_unknown_keys_are_named_and_what_is_missing():
    text = complaint({"zeta": torch.empty(1), "alpha": torch.empty(1), "beta": torch.empty(1), "gamma": torch.empty(1)})
    assert "first: alpha, beta, gamma)" in text
    assert "Missing for a CodeFormer: encoder.blocks.0.weight, quantize.embedding.weight" in text


def test_an_empty_state_dict():
    assert "none at all" in complaint({})


def test_only_what_is_missing_is_called_missing():
    state = state_of(TINY_CONFIG)
    del state["quantize.embedding.weight"]
    assert "Missing for a CodeFormer: quantize.embedding.weight." in complaint(state)


def test_missing_keys_are_counted_and_named(state, layout):
    gone = {
        "published": ["ft_layers.0.linear1.bias", "generator.blocks.0.bias"],
        "ours": ["generator.conv_in.bias", "layers.0.mlp_in.bias"],
    }
    for key in gone[layout]:
        del state[key]
    assert f"2 missing keys, the first: {', '.join(gone[layout])}. The file is incomplete" in complaint(state)


def test_extra_keys_are_counted_and_named(state):
    for key in ("zz", "discriminator.0.weight", "optimizer", "step"):
        state[key] = torch.empty(1)
    assert "4 unexpected keys, the first: discriminator.0.weight, optimizer, step. " in complaint(state)


@pytest.mark.parametrize("part", [0.1, 0.35, 0.5, 0.75])
def test_a_part_of_a_checkpoint_names_missing_keys(part):
    """The published keys in the published order, as a file cut off and repaired by some tool would keep them."""
    state = state_of(PUBLISHED_CODEFORMER)
    kept = list(state)[: int(len(state) * part)]
    named = re.search(r"missing.*?, the first: ([^;]*?)[;.] ", complaint({key: state[key] for key in kept}))[1]
    assert len(named.split(", ")) == 3
    assert set(named.split(", ")) < state.keys() - kept


def test_the_first_wrong_shape_is_named_with_both(state, layout):
    key = {"published": "generator.blocks.0.weight", "ours": "generator.conv_in.weight"}[layout]
    state[key] = torch.empty(96, 32, 1, 1)
    assert f"1 tensors of another shape, the first: {key} (96, 32, 1, 1) instead of (96, 32, 3, 3)" in complaint(state)


@pytest.mark.parametrize(
    "key",
    [
        "ft_layers.0.self_attn.in_proj_weight",  # split into three on the way to our layout
        "ft_layers.1.self_attn.in_proj_bias",
        "fuse_convs_dict.64.scale.0.weight",  # joined with shift's
        "fuse_convs_dict.64.shift.0.bias",
    ],
)
@pytest.mark.parametrize("shape", [(), (5,), (5, 5), (0, 3)])
def test_wrong_shapes_of_split_and_joined_tensors(key, shape):
    state = state_of(TINY_CONFIG)
    state[key] = torch.empty(shape)
    assert f"1 tensors of another shape, the first: {key} {tuple(shape)} instead of" in complaint(state)


def test_every_single_damage_is_a_weights_error(layout):
    """Whichever tensor is absent, whatever its shape: always this one error, never a KeyError or the like."""
    autoencoder = replace(SMALL_CONFIG.autoencoder, residual_blocks=1, channel_multipliers=(1, 2))
    state = state_of(replace(SMALL_CONFIG, autoencoder=autoencoder, layers=1, fuse_sizes=(32,)), layout)
    for index, (key, tensor) in enumerate(state.items()):
        complaint({name: value for name, value in state.items() if name != key})
        if index % 3 == 0:
            wrong = [(), (7,), tuple(2 * size for size in tensor.shape)][index // 3 % 3]
            complaint({**state, key: torch.empty(wrong, device="meta")})


def test_sizes_that_no_network_can_have():
    state = state_of(TINY_CONFIG)
    narrow = {key: torch.empty([math.ceil(size / 32) for size in tensor.shape]) for key, tensor in state.items()}
    narrow["position_emb"] = torch.empty(256, 32)
    assert "group norm needs an even number of channels" in complaint(narrow)


def test_a_gigantic_layer_number_is_refused_at_once():
    state = state_of(TINY_CONFIG)
    state["ft_layers.999999999.linear1.weight"] = torch.empty(1)
    assert "999999999" in complaint(state)


def test_loading_says_the_same():
    with pytest.raises(cf.WeightsError, match=r"the given state dict: .*ft_layers\.0\.norm1\.bias"):
        state = {key: torch.empty(tensor.shape) for key, tensor in state_of(TINY_CONFIG).items()}
        del state["ft_layers.0.norm1.bias"]
        cf.load_restorer(state)


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.complex64])
def test_numbers_that_are_no_weights(tiny_state, dtype):
    state = {key: tensor.to(dtype) for key, tensor in tiny_state.items()}
    with pytest.raises(WeightsError, match=rf"odd.pth: .*another kind of number, the first: .* {dtype}"):
        detect_architecture(state, "odd.pth")
