"""The registry of architectures: a file belongs to one of them, nothing else knows them, and one more is enough."""

from __future__ import annotations

import ast

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

import codeformer_core as cf
from codeformer_core import cli
from codeformer_core.models import architectures
from codeformer_core.models.architecture import Checkpoint, RestoreRequest
from codeformer_core.models.architectures import detect_architecture, find, find_by_config, register
from codeformer_core.models.saving import save_network, save_restorer
from codeformer_core.networks.painter import Painter
from codeformer_core.training.networks import read_network
from codeformer_core.weights.reading import WeightsError, read_metadata

from .conftest import SMALL_CONFIG, GivenDetector, as_it_is, placed_face, seeded_network
from .dummy_architecture import DUMMY, Gain, GainConfig
from .facts import facts, line_of
from .others import KINDS, SMALL_PAINTER, small_state
from .test_architecture import MODULES

FACE_13HW = torch.rand((1, 3, 64, 64), generator=torch.Generator().manual_seed(3)) * 2 - 1


# --- detection -------------------------------------------------------------------------------------------------------


def every_state() -> dict[str, dict[str, Tensor]]:
    """One file of every architecture and layout: its id and a number -> its state dict."""
    states = {"codeformer": seeded_network(SMALL_CONFIG).state_dict()}
    states["vqgan"] = seeded_network(SMALL_CONFIG.autoencoder).state_dict()
    states |= {kind: small_state(kind) for kind in KINDS}
    states["painter"] = Painter(SMALL_PAINTER).state_dict()
    # Its network takes a second to make, and its keys are all that counts here.
    states["gfpgan"] = {"toRGB.0.weight": torch.empty(1), "stylegan_decoder.style_mlp.1.weight": torch.empty(1)}
    for kind in ("codeformer", "vqgan", "vqfr_v1", "vqfr_v2"):
        found = detect_architecture(states[kind], kind)
        other = "published" if found.layout == "ours" else "ours"
        states[f"{kind} {other}"] = found.in_layout(states[kind], other)
    return states


def test_every_file_belongs_to_exactly_one_architecture():
    states = every_state()
    for kind, state in states.items():
        found = [architecture.id for architecture in architectures.ARCHITECTURES if architecture.detect(state)]
        assert found == [kind.split()[0].removesuffix("_v1").removesuffix("_v2")], kind
    covered = {kind.split()[0].partition("_")[0] for kind in states}
    assert covered == {architecture.id for architecture in architectures.ARCHITECTURES}


def test_they_are_found_by_id_and_by_config():
    for architecture in architectures.ARCHITECTURES:
        assert find(architecture.id) is architecture
        assert all(other.title != architecture.title for other in architectures.ARCHITECTURES if other != architecture)
    assert find_by_config(SMALL_CONFIG).id == "codeformer" and find_by_config(SMALL_CONFIG.autoencoder).id == "vqgan"
    with pytest.raises(
        ValueError, match=r"no architecture 'gain'; known: codeformer, vqgan, vqfr, dfdnet, painter, gfpgan"
    ):
        find("gain")
    with pytest.raises(ValueError, match="GainConfig is not the config of any known architecture"):
        find_by_config(GainConfig(64))


def test_an_id_is_taken_once(registered):
    with pytest.raises(ValueError, match="there is an architecture 'gain' already"):
        register(DUMMY)


@pytest.mark.parametrize("kind", ["vqfr_v1", "dfdnet"])
def test_metadata_of_another_network_is_refused_whatever_the_architecture(tmp_path, kind):
    restorer = cf.load_restorer(small_state(kind))
    saved = save_restorer(restorer, tmp_path, "mine", dtype=torch.float32)
    metadata = read_metadata(saved.path)
    assert metadata is not None and metadata.architecture == restorer.architecture
    with pytest.raises(WeightsError, match=r'^x: its header says codeformer\.architecture = "\w+", but its keys are'):
        detect_architecture(small_state("vqfr_v2" if kind == "dfdnet" else "dfdnet"), "x", metadata)


def test_training_goes_on_from_codeformers_only(tmp_path):
    save_file(small_state("vqfr_v2"), tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match=r"other\.safetensors is a VQFR; only CodeFormers and their autoencoders"):
        read_network(tmp_path / "other.safetensors")


# --- who knows them --------------------------------------------------------------------------------------------------


def test_nothing_outside_models_compares_the_name_of_an_architecture():
    names = {architecture.id for architecture in architectures.ARCHITECTURES}
    found = []
    for module, path in MODULES.items():
        if module.startswith("codeformer_core.models"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Compare):
                words = {each.value for each in ast.walk(node) if isinstance(each, ast.Constant)}
                found += [f"{path.name}:{node.lineno}"] if words & names else []
            if isinstance(node, ast.Attribute) and node.attr == "architecture" and module.startswith("nodes"):
                found.append(f"{path.name}:{node.lineno}")
    assert found == []


# --- one more --------------------------------------------------------------------------------------------------------


def test_without_registration_its_file_is_unknown(tmp_path):
    state = Gain(GainConfig(64)).state_dict()
    with pytest.raises(WeightsError, match=r"no known face restorer has these keys \(first: gain\.weight\)"):
        detect_architecture(state, "gain.pth")


def test_the_library_loads_runs_and_saves_it(gain_file, tmp_path):
    restorer = cf.load_restorer(gain_file)
    assert (restorer.architecture, restorer.tasks, restorer.face_size) == ("gain", ("restoration",), 512)
    assert restorer.recommended_fidelity == 0.25 and restorer.bytes_per_face == 4 * 6 * 512**2
    assert restorer.uses_fidelity and not restorer.needs_landmarks
    faces_B3HW = torch.nn.functional.interpolate(FACE_13HW, (512, 512))
    expected_B3HW = 0.5 * faces_B3HW + 0.5 * faces_B3HW * torch.tensor([-1, 0.5, 0.25]).view(1, 3, 1, 1)
    assert torch.allclose(restorer.restore(faces_B3HW, 0.5), expected_B3HW, atol=1e-6)
    again = cf.load_restorer(save_restorer(restorer, tmp_path, "again", dtype=torch.bfloat16).path)
    assert torch.allclose(again.restore(faces_B3HW, 0.5), expected_B3HW, atol=1e-2)
    # Sizes that only the metadata tells.
    save_network(tmp_path / "small.safetensors", Gain(GainConfig(64)), GainConfig(64), "restoration")
    assert cf.load_restorer(tmp_path / "small.safetensors").face_size == 64


def test_the_library_restores_images_with_it(gain_file):
    across_W3 = torch.linspace(0, 1, 400)[:, None] * torch.tensor([1, 0.8, 0.3])
    images_BHW3 = across_W3.expand(1, 300, 400, 3)
    detector = GivenDetector(((placed_face(200, 150, 50),),))
    same, changed = (
        cf.restore_images(
            images_BHW3, restorer=cf.load_restorer(gain_file), detector=detector, **as_it_is("box", fidelity=fidelity)
        )
        for fidelity in (1.0, 0.0)
    )
    assert facts(same, "restored_by", "fidelity") == [
        ("restored_by", None, {"restorer": "gain.safetensors"}),
        ("fidelity", None, {"fidelity": 1}),
    ]
    apart = [(result.images_BHWC - images_BHW3)[0, 150, 200].abs().max() for result in (same, changed)]
    assert apart[0] < 0.01 and apart[1] > 0.1


def test_the_command_line_runs_and_converts_it(gain_file, astronaut, tmp_path, capsys):
    given, out = tmp_path / "face.png", tmp_path / "out.png"
    Image.fromarray((astronaut * 255).round().byte().numpy()).save(given)
    words = [
        "restore",
        "--device",
        "cpu",
        "--aligned",
        str(given),
        "-o",
        str(out),
        "--model",
        str(gain_file),
        "-w",
        "0",
    ]
    assert cli.main(words) == 0
    assert line_of("restored_by", restorer="gain.safetensors") in capsys.readouterr().out
    pixels, restored = (np.asarray(Image.open(path).convert("RGB")).astype(float) for path in (given, out))
    # Red is turned around the middle gray, green and blue move towards it.
    for channel, factor in enumerate((-1, 0.5, 0.25)):
        expected = 127.5 + factor * (pixels[..., channel] - 127.5)
        assert np.abs(restored[..., channel] - expected).max() <= 1
    copy = tmp_path / "copy.safetensors"
    assert cli.main(["weights", "convert", str(gain_file), "-o", str(copy)]) == 0
    assert f"{copy}: gain (restoration), 1 tensors" in capsys.readouterr().out
    assert torch.equal(load_file(copy)["gain.weight"], load_file(gain_file)["gain.weight"])


@pytest.mark.parametrize(
    ("state", "problem"),
    [
        ({"gain.weight": torch.zeros(3, 1, 1, 1), "extra": torch.zeros(1)}, "1 unexpected keys, the first: extra"),
        ({"gain.weight": torch.zeros(3, 1, 3, 3)}, r"gain.weight \(3, 1, 3, 3\) instead of \(3, 1, 1, 1\)"),
    ],
)
def test_its_broken_files_are_refused_as_all_others(registered, state, problem):
    with pytest.raises(WeightsError, match=rf"^x\.pth: looks like a Gain checkpoint, but can't be used: .*{problem}"):
        detect_architecture(state, "x.pth")


def test_what_it_has_no_verb_for_is_said():
    network = Gain(GainConfig(64))
    with pytest.raises(NotImplementedError, match="Gain networks can't inpaint"):
        DUMMY.inpaint(network, FACE_13HW, FACE_13HW[:, :1])
    autoencoder = seeded_network(SMALL_CONFIG.autoencoder)
    with pytest.raises(NotImplementedError, match="can't restore faces"):
        find("vqgan").restore(autoencoder, FACE_13HW, RestoreRequest("autoencoder", 0.5))


def test_a_task_that_it_does_not_have_is_not_written(registered, tmp_path):
    with pytest.raises(ValueError, match="task must be restoration for a gain, got 'inpainting'"):
        save_network(tmp_path / "gain.safetensors", Gain(GainConfig(64)), GainConfig(64), "inpainting")
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_names_its_file_where_there_is_no_way_to_a_layout():
    checkpoint = Checkpoint(find("gfpgan"), None, "published", "restoration", source="some.pth")
    assert checkpoint.in_layout({}, "published") == {}
    with pytest.raises(WeightsError, match=r"^some\.pth: a gfpgan is only known in its published layout"):
        checkpoint.in_layout({}, "ours")
