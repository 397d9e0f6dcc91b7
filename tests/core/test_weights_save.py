"""What is saved comes back as the very same network; what can't come back is refused, and nothing half is left."""

from __future__ import annotations

import argparse
import errno
import logging
import os
import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

import codeformer_core as cf
from codeformer_core.commands import export
from codeformer_core.commands.errors import UsageError
from codeformer_core.models.codeformer.convert import to_published
from codeformer_core.models.saving import save_network
from codeformer_core.networks.codeformer import CodeFormerConfig
from codeformer_core.networks.vqgan import AutoencoderConfig, VQAutoencoder
from codeformer_core.weights.reading import read_metadata

from .conftest import SMALL_CONFIG, seeded_network

AUTOENCODER = replace(SMALL_CONFIG.autoencoder, channel_multipliers=(1, 2), residual_blocks=1, attention_sizes=(32,))
SMALL = replace(SMALL_CONFIG, autoencoder=AUTOENCODER, layers=1, fuse_sizes=(32, 64))


def varied(*, autoencoder: dict | None = None, **changes) -> CodeFormerConfig:
    return replace(SMALL, autoencoder=replace(AUTOENCODER, **(autoencoder or {})), **changes)


ODD = {
    "heads 4": varied(heads=4),
    "heads 1": varied(heads=1),
    "heads 3, which 8 knows nothing of": varied(heads=3, width=36),
    "image 256": varied(autoencoder={"image_size": 256, "channel_multipliers": (1, 1, 1, 2, 1)}, fuse_sizes=(128,)),
    "image 96": varied(autoencoder={"image_size": 96, "attention_sizes": ()}, fuse_sizes=(48,)),
    "multipliers": varied(autoencoder={"channel_multipliers": (2, 1, 3)}, heads=2),
    "1 residual block": SMALL,
    "2 residual blocks": varied(autoencoder={"residual_blocks": 2}),
    "3 residual blocks": varied(autoencoder={"residual_blocks": 3}),
    "attention at two sizes": varied(autoencoder={"attention_sizes": (32, 64), "image_size": 64}),
    "no attention": varied(autoencoder={"attention_sizes": ()}),
    "no fuse sizes": varied(fuse_sizes=()),
    "64 code channels": varied(autoencoder={"code_channels": 64}),
    "3 layers": varied(layers=3, mlp_width=20),
}


def faces(size: int) -> Tensor:
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(1)) * 2 - 1


def same_weights(network: VQAutoencoder, other: VQAutoencoder) -> bool:
    mine, theirs = network.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[key], theirs[key]) for key in mine)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def network() -> VQAutoencoder:
    return seeded_network(SMALL)


# --- round trips -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["ours", "published"])
@pytest.mark.parametrize("name", ODD)
def test_odd_networks_come_back_bit_by_bit(tmp_path, name, layout):
    config = ODD[name]
    network = seeded_network(config)
    assert network.encoder.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    save_network(tmp_path / "odd.safetensors", network, config, "restoration", layout=layout)
    restorer = cf.load_restorer(tmp_path / "odd.safetensors")
    found = restorer.module.config
    assert set(found.autoencoder.attention_sizes) == set(config.autoencoder.attention_sizes)
    sizes = config.autoencoder.attention_sizes
    assert replace(found, autoencoder=replace(found.autoencoder, attention_sizes=sizes)) == config
    assert (restorer.task, restorer.face_size) == ("restoration", config.autoencoder.image_size)
    assert same_weights(restorer.module, network)
    inputs = faces(config.autoencoder.image_size)[:1]
    with torch.no_grad():
        for fidelity in (0.0, 0.7):
            wanted = network.restore(inputs, fidelity).clamp(-1, 1)
            assert torch.equal(restorer.restore(inputs, fidelity), wanted)


def test_the_odd_networks_are_odd():
    """With the number of heads that is assumed without a header, the faces would be others."""
    network, assumed = seeded_network(ODD["heads 4"]), seeded_network(SMALL)
    assert same_weights(network, assumed)
    latent = network.encode(faces(64))
    assert not torch.equal(network.predict_logits(latent), assumed.predict_logits(latent))


@pytest.mark.parametrize("layout", ["ours", "published"])
@pytest.mark.parametrize("size", [64, 256])
def test_an_autoencoder_alone_keeps_its_picture_size(tmp_path, layout, size):
    config = AutoencoderConfig(
        image_size=size,
        base_channels=32,
        channel_multipliers=(1, 1, 2, 1),
        residual_blocks=1,
        attention_sizes=(size // 8, size // 4),
        codebook_size=24,
        code_channels=64,
    )
    network = seeded_network(config)
    save_network(tmp_path / "vqgan.safetensors", network, config, "autoencoder", layout=layout)
    restorer = cf.load_restorer(tmp_path / "vqgan.safetensors")
    assert (restorer.architecture, restorer.task, restorer.face_size) == ("vqgan", "autoencoder", size)
    assert restorer.module.config == replace(config, attention_sizes=(size // 4, size // 8))
    with torch.no_grad():
        assert torch.equal(restorer.module.reconstruct(faces(size)), network.reconstruct(faces(size)))


@pytest.mark.parametrize(
    ("fuse_sizes", "codebook_size", "task"),
    [
        ((32, 64, 128, 256), 24, "colorization"),
        ((32, 64, 128, 256), 512, "inpainting"),
        ((32, 64, 128), 24, "restoration"),
        ((32, 64, 128), 512, "colorization"),
    ],
)
def test_the_task_comes_back_whatever_the_sizes(tmp_path, task, fuse_sizes, codebook_size):
    autoencoder = replace(
        AUTOENCODER,
        image_size=256,
        channel_multipliers=(1, 1, 1, 1),
        codebook_size=codebook_size,
    )
    config = replace(SMALL, autoencoder=autoencoder, fuse_sizes=fuse_sizes)
    save_network(tmp_path / "x.safetensors", seeded_network(config), config, task)
    assert cf.load_restorer(tmp_path / "x.safetensors").task == task


def test_a_state_dict_is_as_good_as_its_module(tmp_path, network):
    save_network(tmp_path / "a.safetensors", network, SMALL, "restoration")
    save_network(tmp_path / "b.safetensors", network.state_dict(), SMALL, "restoration")
    a, b = load_file(tmp_path / "a.safetensors"), load_file(tmp_path / "b.safetensors")
    assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
    assert read_metadata(tmp_path / "a.safetensors") == read_metadata(tmp_path / "b.safetensors")


def test_saving_changes_neither_weights_nor_random_numbers(tmp_path, network):
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    random = torch.random.get_rng_state()
    save_network(tmp_path / "x.pth", network, SMALL, "restoration", layout="published", dtype=torch.float16)
    assert torch.equal(torch.random.get_rng_state(), random)
    after = network.state_dict()
    assert all(torch.equal(after[key], tensor) and after[key].dtype == tensor.dtype for key, tensor in before.items())
    assert all(after[key].stride() == network.get_parameter(key).stride() for key in before)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_half_precision_loads_into_a_float32_network(tmp_path, network, dtype):
    save_network(tmp_path / "half.safetensors", network, SMALL, "restoration", dtype=dtype)
    assert {tensor.dtype for tensor in load_file(tmp_path / "half.safetensors").values()} == {dtype}
    restorer = cf.load_restorer(tmp_path / "half.safetensors")
    assert restorer.dtype == torch.float32
    for key, tensor in restorer.module.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, network.state_dict()[key].to(dtype).float())


def test_without_a_dtype_weights_stay_as_they_are(tmp_path, network):
    state = {key: tensor.bfloat16() for key, tensor in network.state_dict().items()}
    save_network(tmp_path / "x.safetensors", state, SMALL, "restoration")
    found = load_file(tmp_path / "x.safetensors")
    assert all(torch.equal(found[key], tensor) for key, tensor in state.items())


def test_tensors_that_share_memory(tmp_path, network):
    """As the shards of a flat buffer do: each comes out with its own numbers."""
    state = network.state_dict()
    flat = torch.cat([tensor.reshape(-1) for tensor in state.values()])
    parts = flat.split([tensor.numel() for tensor in state.values()])
    views = {key: part.view(tensor.shape) for (key, tensor), part in zip(state.items(), parts, strict=True)}
    for name in ("x.safetensors", "y.pth"):
        save_network(tmp_path / name, views, SMALL, "restoration", layout="published")
        assert same_weights(cf.load_restorer(tmp_path / name).module, network)
        assert (tmp_path / name).stat().st_size < 1.2 * flat.nbytes


def test_words_about_the_training_are_kept(tmp_path, network):
    trained = {"stage": "III", "faces": "70,000 von überall", "license": "mine"}
    save_network(tmp_path / "x.safetensors", network, SMALL, "restoration", trained=trained)
    said = read_metadata(tmp_path / "x.safetensors")
    assert said is not None and said.trained == trained
    assert (said.architecture, said.task, said.image_size, said.heads) == ("codeformer", "restoration", 64, 8)
    with safe_open(tmp_path / "x.safetensors", "pt") as file:
        assert file.metadata()["format"] == "pt"


# --- pickles for other programs --------------------------------------------------------------------------------------


def test_a_pickle_as_the_official_code_reads_it(tmp_path, network, caplog):
    path = tmp_path / "new" / "codeformer.pth"
    save_network(path, network, SMALL, "restoration", layout="published")
    loaded = torch.load(path, weights_only=True)
    assert list(loaded) == ["params_ema"]
    wanted = to_published(dict(network.state_dict()), SMALL)
    assert loaded["params_ema"].keys() == wanted.keys()
    for key, tensor in wanted.items():
        assert torch.equal(loaded["params_ema"][key], tensor) and loaded["params_ema"][key].is_contiguous()
    assert caplog.text == ""
    assert same_weights(cf.load_restorer(path).module, network)
    # The copy kept beside the pickle says no more than the pickle does.
    assert names(path.parent) == ["codeformer.pth", "codeformer.safetensors"]
    assert read_metadata(path) is None and read_metadata(path.with_suffix(".safetensors")) is None


def test_a_pickle_beside_a_trained_file_leaves_it_alone(tmp_path, network):
    save_network(tmp_path / "x.safetensors", network, SMALL, "colorization")
    before = (tmp_path / "x.safetensors").read_bytes()
    save_network(tmp_path / "x.pth", network, SMALL, "restoration", layout="published")
    assert cf.load_restorer(tmp_path / "x.pth").task == "restoration"
    assert (tmp_path / "x.safetensors").read_bytes() == before


@pytest.mark.parametrize("name", ["x.pth", "x.safetensors"])
def test_other_numbers_of_heads_are_warned_of(tmp_path, caplog, name):
    config = ODD["heads 4"]
    save_network(tmp_path / name, seeded_network(config), config, "restoration", layout="published")
    assert f"{name}: the network has 4 attention heads; other programs assume 8" in caplog.text
    assert ("loaded with heads 8 instead of 4" in caplog.text) == (name == "x.pth")


def test_what_a_pickle_loses_is_said(tmp_path, caplog):
    save_network(tmp_path / "c.pth", seeded_network(SMALL), SMALL, "colorization", layout="published")
    assert "c.pth: a pickle can't say what it is: it will be loaded with task restoration instead of colorization" in (
        caplog.text
    )
    save_network(tmp_path / "v.pth", seeded_network(AUTOENCODER), AUTOENCODER, "autoencoder", layout="published")
    assert "v.pth: a pickle can't say what it is: it will be loaded with image_size 512 instead of 64" in caplog.text
    config = ODD["heads 3, which 8 knows nothing of"]
    save_network(tmp_path / "h.pth", seeded_network(config), config, "restoration", layout="published")
    assert "h.pth: without a header it can't be loaded here again: 64 pixels, 3 heads" in caplog.text


# --- what is refused -------------------------------------------------------------------------------------------------


def refused(tmp_path, network, config=SMALL, task="restoration", name="x.safetensors", **options) -> str:
    (tmp_path / name).write_text("the old one")
    with pytest.raises(ValueError) as caught:
        save_network(tmp_path / name, network, config, task, **options)
    assert names(tmp_path) == [name] and (tmp_path / name).read_text() == "the old one"
    return str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_none_are_refused_by_name(tmp_path, network, value):
    state = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    state["layers.0.mlp_in.bias"][3] = value
    text = refused(tmp_path, state)
    assert "1 of 48 numbers in layers.0.mlp_in.bias are NaN or infinite" in text and "x.safetensors" in text


def test_numbers_too_large_for_half_precision_are_refused_by_name(tmp_path, network):
    state = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    state["codebook.weight"][2, 3] = -70_000
    text = refused(tmp_path, state, dtype=torch.float16)
    assert "codebook.weight reaches 7e+04, torch.float16 ends at 6.55e+04; save as bfloat16 or float32" in text
    save_network(tmp_path / "x.safetensors", state, SMALL, "restoration", dtype=torch.bfloat16)


@pytest.mark.parametrize("dtype", [torch.float64, torch.int8, torch.float8_e5m2])
def test_other_kinds_of_number(tmp_path, network, dtype):
    assert f"dtype is {dtype}; save as torch.float32" in refused(tmp_path, network, dtype=dtype)
    state = {**network.state_dict(), "codebook.weight": network.codebook.weight.to(dtype)}
    assert f"codebook.weight is of {dtype}; save as" in refused(tmp_path, state)


def test_weights_without_numbers(tmp_path, network):
    assert "device meta" in refused(tmp_path, {key: tensor.to("meta") for key, tensor in network.state_dict().items()})


def test_weights_of_another_config(tmp_path, network):
    assert "1 unexpected keys, the first: extra" in refused(tmp_path, {**network.state_dict(), "extra": torch.ones(1)})
    wrapped = {f"module.{key}": tensor for key, tensor in network.state_dict().items()}
    assert "without wrappers" in refused(tmp_path, wrapped)
    assert "missing keys, the first: fusions.32." in refused(tmp_path, seeded_network(replace(SMALL, fuse_sizes=(64,))))
    text = refused(tmp_path, network, replace(SMALL, mlp_width=50))
    assert "layers.0.mlp_in.bias (48,) instead of (50,)" in text


@pytest.mark.parametrize(
    ("config", "task", "words"),
    [
        (SMALL, "autoencoder", "restoration or colorization or inpainting for a codeformer, got 'autoencoder'"),
        (SMALL, "Restoration", "got 'Restoration'"),
        (AUTOENCODER, "restoration", "task must be autoencoder for a vqgan, got 'restoration'"),
    ],
)
def test_tasks_that_the_network_has_not(tmp_path, config, task, words):
    assert words in refused(tmp_path, seeded_network(config), config, task)


@pytest.mark.parametrize(
    ("name", "layout", "endings"),
    [
        ("x.pth", "ours", r"\.safetensors;"),
        ("x.ckpt", "published", r"\.safetensors or \.pth;"),
        ("x", "ours", r"\.safetensors;"),
    ],
)
def test_names_that_do_not_go_with_the_layout(tmp_path, network, name, layout, endings):
    with pytest.raises(ValueError, match=rf"{name}: the layout '{layout}' is written as {endings}"):
        save_network(tmp_path / name, network, SMALL, "restoration", layout=layout)
    assert names(tmp_path) == []


# --- when the disk fails ---------------------------------------------------------------------------------------------

BOTH = pytest.mark.parametrize("name", ["x.safetensors", "x.pth"])


def failed(tmp_path, network, name) -> OSError:
    (tmp_path / name).write_text("the old one")
    with pytest.raises(OSError) as caught:
        save_network(tmp_path / name, network, SMALL, "restoration", layout="published")
    assert names(tmp_path) == [name] and (tmp_path / name).read_text() == "the old one"
    assert str(tmp_path / name) in str(caught.value)
    return caught.value


@BOTH
def test_a_disk_that_is_full_from_the_start(tmp_path, network, name, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1000, 1, 999))
    error = failed(tmp_path, network, name)
    needed = sum(tensor.nbytes for tensor in network.state_dict().values())
    assert error.errno == errno.ENOSPC
    assert f"the disk is full: {needed:,} bytes are needed in {tmp_path}" in str(error)


@BOTH
def test_a_write_that_breaks_off(tmp_path, network, name):
    """The system itself refuses to write on after 100 kB."""
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        error = failed(tmp_path, network, name)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "can't be written" in str(error)


@BOTH
@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
def test_a_folder_that_is_read_only(tmp_path, network, name, code, monkeypatch):
    def touch(self, mode=0o666, exist_ok=True):
        raise OSError(code, os.strerror(code), str(self))

    monkeypatch.setattr(Path, "touch", touch)
    error = failed(tmp_path, network, name)
    assert error.errno == code and os.strerror(code) in str(error) and "choose another folder" in str(error)


@BOTH
def test_a_stop_in_the_middle_leaves_the_old_file(tmp_path, network, name, monkeypatch):
    def stopped(*_):
        assert len(names(tmp_path)) == 2, "the part lies in the same folder, where renaming is one step"
        raise KeyboardInterrupt

    (tmp_path / name).write_text("the old one")
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(os, "replace", stopped)
        save_network(tmp_path / name, network, SMALL, "restoration", layout="published")
    assert names(tmp_path) == [name] and (tmp_path / name).read_text() == "the old one"
    save_network(tmp_path / name, network, SMALL, "restoration", layout="published")
    assert same_weights(cf.load_restorer(tmp_path / name).module, network)


@BOTH
def test_the_numbers_lie_on_the_disk_before_the_name_does(tmp_path, network, name, monkeypatch):
    steps: list[str] = []
    fsync, rename = os.fsync, os.replace

    def flush(descriptor):
        steps.append(f"flush {os.fstat(descriptor).st_size >= 100_000}")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", flush)
    monkeypatch.setattr(os, "replace", lambda *paths: (steps.append("rename"), rename(*paths)))
    save_network(tmp_path / name, network, SMALL, "restoration", layout="published")
    assert steps[:2] == ["flush True", "rename"]


def test_a_folder_in_the_way(tmp_path, network):
    (tmp_path / "x.safetensors").mkdir()
    with pytest.raises(OSError, match=r"can't be written.*x\.safetensors"):
        save_network(tmp_path / "x.safetensors", network, SMALL, "restoration")
    assert names(tmp_path) == ["x.safetensors"]
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"can't be written"):
        save_network(tmp_path / "file" / "x.safetensors", network, SMALL, "restoration")


# --- the command -----------------------------------------------------------------------------------------------------


def exported(*words: object) -> int:
    parser = argparse.ArgumentParser()
    export.add_arguments(parser)
    return export.run(parser.parse_args([str(word) for word in words]))


@pytest.fixture
def run_folder(tmp_path) -> Path:
    config = ODD["heads 4"]
    folder = tmp_path / "run"
    save_network(
        folder / "model.safetensors", seeded_network(config), config, "colorization", trained={"stage": "colorization"}
    )
    return folder


@pytest.mark.parametrize("layout", ["ours", "published"])
def test_export_of_a_run(run_folder, tmp_path, capsys, layout):
    out = tmp_path / "models" / "mine.safetensors"
    assert exported(run_folder, "-o", out, "--layout", layout) == 0
    restorer, wanted = cf.load_restorer(out), seeded_network(ODD["heads 4"])
    assert restorer.task == "colorization" and restorer.module.config == ODD["heads 4"]
    assert same_weights(restorer.module, wanted)
    said = read_metadata(out)
    assert said is not None and said.trained == {"stage": "colorization"}
    shown = capsys.readouterr()
    assert f"{out}: codeformer (colorization), 64 pixels, 4 heads, {layout.replace('ours', 'our')} layout" in shown.out
    assert ("warning: " in shown.err and "4 attention heads" in shown.err) == (layout == "published")


def test_export_of_a_file_with_another_precision_and_task(run_folder, tmp_path):
    out = tmp_path / "half.safetensors"
    assert exported(run_folder / "model.safetensors", "-o", out, "--dtype", "float16", "--task", "inpainting") == 0
    assert {tensor.dtype for tensor in load_file(out).values()} == {torch.float16}
    assert cf.load_restorer(out).task == "inpainting"
    # And from there to the other layout and back, in half precision as it came.
    assert exported(out, "-o", tmp_path / "p.pth", "--layout", "published") == 0
    assert exported(tmp_path / "p.pth", "-o", tmp_path / "again.safetensors", "--task", "inpainting") == 0
    assert names(tmp_path) == ["again.safetensors", "half.safetensors", "p.pth", "run"], "no copy is kept of p.pth"
    again, before = load_file(tmp_path / "again.safetensors"), load_file(out)
    assert again.keys() == before.keys() and all(torch.equal(again[key], before[key]) for key in before)


@pytest.mark.parametrize(
    ("words", "error", "text"),
    [
        (("run", "-o", "run/model.safetensors"), UsageError, "is there already"),
        (("run", "-o", "x.pth"), UsageError, r"x\.pth: the layout 'ours' is written as \.safetensors"),
        (("run", "-o", "x.safetensors", "--task", "autoencoder"), ValueError, "got 'autoencoder'"),
        (("empty", "-o", "x.safetensors"), cf.WeightsError, r"empty holds no model\.safetensors"),
        (("no/such.pth", "-o", "x.safetensors"), cf.WeightsError, "there is no such file"),
    ],
)
def test_export_refuses(run_folder, tmp_path, monkeypatch, words, error, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(error, match=text):
        exported(*words)
    assert names(tmp_path) == ["empty", "run"] and names(run_folder) == ["model.safetensors"]


def test_nothing_is_logged_without_need(tmp_path, network, caplog):
    with caplog.at_level(logging.WARNING):
        save_network(tmp_path / "x.safetensors", network, SMALL, "colorization")
        cf.load_restorer(tmp_path / "x.safetensors")
    assert caplog.records == []
