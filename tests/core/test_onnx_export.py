"""`weights export --onnx`: the file gives our own faces in ONNX Runtime, for any batch and fidelity."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor

import codeformer_core as cf
from codeformer_core.commands import weights as command
from codeformer_core.models.onnx_export import OPSET, ExportedCodeFormer, export_onnx
from codeformer_core.models.saving import save_network
from codeformer_core.networks.codeformer import CodeFormerConfig
from codeformer_core.networks.pixel_path import PixelPathConfig
from codeformer_core.networks.vqgan import AutoencoderConfig

from .conftest import seeded_network

# As small as can be: torch's exporter takes half a second for each layer.
TINY = CodeFormerConfig(
    autoencoder=AutoencoderConfig(
        image_size=32,
        base_channels=16,
        channel_multipliers=(1, 2),
        residual_blocks=1,
        attention_sizes=(),
        codebook_size=24,
        code_channels=16,
    ),
    width=32,
    layers=1,
    heads=8,
    mlp_width=32,
    fuse_sizes=(16,),
    pixel_path=PixelPathConfig((1.0,), 8),
)


def weights(*words: object) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args([str(word) for word in words]))


def run(path: Path, faces_B3SS: Tensor, fidelity: float) -> Tensor:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    fed = {"faces": faces_B3SS.numpy(), "fidelity": np.array([fidelity], np.float32)}
    (restored,) = session.run(["restored"], fed)
    return torch.from_numpy(restored)


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    path = tmp_path / "tiny.safetensors"
    save_network(path, seeded_network(TINY), TINY, "restoration")
    return path


def some_faces(count: int) -> Tensor:
    return torch.rand((count, 3, 32, 32), generator=torch.Generator().manual_seed(5)) * 2 - 1


@pytest.mark.slow
def test_the_file_restores_as_we_do(checkpoint, capfd, caplog):
    path = checkpoint.with_suffix(".onnx")
    assert weights("export", checkpoint, "--onnx", path) == 0
    # The exporter's own words are kept back.
    captured = capfd.readouterr()
    assert captured.out.startswith(f"{path}: tiny.safetensors (restoration)") and captured.out.count("\n") == 1
    assert captured.err == "" and not caplog.records
    assert sorted(each.name for each in path.parent.iterdir()) == ["tiny.onnx", "tiny.safetensors"]

    restorer = cf.load_restorer(checkpoint)
    for count in (1, 2, 3):
        for fidelity in (0.0, 0.5, 1.0):
            ours_B3SS = restorer.restore(some_faces(count), fidelity)
            assert ours_B3SS.std() > 0.01
            assert torch.allclose(run(path, some_faces(count), fidelity), ours_B3SS, atol=1e-4)

    model = onnx.load(str(path))
    onnx.checker.check_model(model, full_check=True)
    assert {each.domain: each.version for each in model.opset_import}[""] == OPSET
    shapes = {
        value.name: [side.dim_param or side.dim_value for side in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    faces = ["batch", 3, 32, 32]
    assert shapes == {"faces": faces, "fidelity": [1], "restored": faces}
    assert not [each for each in model.graph.initializer if each.external_data]


@pytest.mark.parametrize("adain", [True, False])
@pytest.mark.parametrize("fidelity", [0.0, 0.7])
def test_fidelity_as_a_tensor_is_the_same(fidelity, adain):
    network = seeded_network(TINY)
    with torch.no_grad():
        exported = ExportedCodeFormer(network, adain)(some_faces(2), torch.tensor([fidelity]))
        ours, other = (network.restore(some_faces(2), fidelity, each).clamp(-1, 1) for each in (adain, not adain))
    assert torch.allclose(exported, ours, atol=1e-6) and not torch.allclose(exported, other, atol=1e-3)


def test_what_cannot_be_exported_is_named(tmp_path, checkpoint, capsys, monkeypatch):
    out, older = tmp_path / "out.onnx", tmp_path / "older.onnx"
    older.touch()

    def message(*words: object) -> str:
        assert weights("export", *words) == 1
        assert not out.exists()
        return capsys.readouterr().err

    colorizes = "starter_colorization.safetensors is of the architecture painter"
    assert colorizes in message("starter_colorization", "--onnx", out)
    assert "ends in .onnx" in message(checkpoint, "--onnx", tmp_path / "out.bin")
    assert "is there already" in message(checkpoint, "--onnx", older)
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    assert "pip install --upgrade onnxscript" in message(checkpoint, "--onnx", out)
    with pytest.raises(ValueError, match="load it in float32 on the CPU"):
        export_onnx(cf.load_restorer(checkpoint, dtype=torch.bfloat16), out)
