"""All stages and both variants on drawn faces, through the command line: a minute on a CPU, then proof that
something was learned. Faces of 32 pixels, so nothing here is pretty."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import codeformer_core as cf
from codeformer_core.cli import main
from codeformer_core.degradation import brush_mask, degrade_on_cpu, draw
from codeformer_core.training.config import read_config
from codeformer_core.training.data.sources import open_faces
from codeformer_core.training.engine.grids import from_levels
from codeformer_core.training.engine.validation import face_psnr
from codeformer_core.training.networks import read_network

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("smoke")]

STAGES = ("stage1", "stage2", "stage3", "colorization", "inpainting")


@dataclass(frozen=True)
class Trained:
    """folder: of the runs, by stage. train_N3HW, held_out_N3HW: clean faces in [-1, 1], of different people."""

    folder: Path
    train_N3HW: Tensor
    held_out_N3HW: Tensor

    def restorer(self, stage: str) -> cf.Restorer:
        return cf.load_restorer(self.folder / stage / "model.safetensors")

    def degraded(self, name: str) -> Tensor:
        degradation = read_config("smoke").degradation(name)
        faces = []
        for number, face_3HW in enumerate(self.held_out_N3HW):
            levels_HW3 = ((face_3HW.permute(1, 2, 0) + 1) * 127.5).round().byte().numpy()
            drawn = draw(degradation, levels_HW3.shape[0], torch.Generator().manual_seed(number))
            faces.append(torch.from_numpy(degrade_on_cpu(levels_HW3, drawn)).permute(2, 0, 1))
        return from_levels(torch.stack(faces))


@pytest.fixture(scope="module")
def trained(drawn_faces, tmp_path_factory) -> Trained:
    folder = tmp_path_factory.mktemp("smoke")
    threads = torch.get_num_threads()
    # These networks are so small that threads wait for each other longer than they work.
    torch.set_num_threads(1)
    places = {"faces": str(drawn_faces / "train"), "validation": str(drawn_faces / "val")}
    common = ["--config", "smoke", "--faces", places["faces"], "--validation", places["validation"]]
    common += ["--device", "cpu", "--set", "data.cache=disk", "--set", f"data.cache_folder={folder / 'cache'}"]
    # Half of what a person would take, who waits for it once.
    for stage in STAGES:
        common += ["--set", f"stages.{stage}.batch_size=4"]
    teacher = ["--teacher", str(folder / "stage1")]
    codes = str(folder / "codes.safetensors")
    for name, files in {
        "stage1": [],
        "codes": teacher,
        "stage2": [*teacher, "--codes", codes],
        "stage3": [*teacher, "--from", str(folder / "stage2")],
        "colorization": teacher,
        "inpainting": teacher,
    }.items():
        out = codes if name == "codes" else str(folder / name)
        assert main(["train", name, "-o", out, *files, *common]) == 0, name
    torch.set_num_threads(threads)
    config = read_config("smoke", sections={"data": places})
    train, held_out = (_read(config.data, split) for split in ("train", "validation"))
    return Trained(folder, train, held_out)


def _read(data, split) -> Tensor:
    source = open_faces(data, split, 32)
    faces = np.stack([source.read(index) for index in range(0, len(source), max(1, len(source) // 100))])
    return from_levels(torch.from_numpy(faces).permute(0, 3, 1, 2))


def test_stage1_reconstructs_held_out_faces_better_than_the_mean_face(trained):
    network = read_network(trained.folder / "stage1").network
    with torch.no_grad():
        reconstructed = network.reconstruct(trained.held_out_N3HW)
    mean_face = trained.train_N3HW.mean(0, keepdim=True).expand_as(trained.held_out_N3HW)
    ours, trivial = (float(face_psnr(made, trained.held_out_N3HW).mean()) for made in (reconstructed, mean_face))
    assert ours > trivial + 2, (ours, trivial)


def test_stage2_predicts_codes_better_than_nearest_neighbour(trained):
    teacher = read_network(trained.folder / "stage1").network
    network = read_network(trained.folder / "stage2").network
    degraded = trained.degraded("strong")
    with torch.no_grad():
        codes = teacher.quantize(teacher.encode(trained.held_out_N3HW))
        latent = network.encode(degraded)
        predicted = network.predict_codes(latent)
        nearest = {
            "stage I's encoder": teacher.quantize(teacher.encode(degraded)),
            "stage II's encoder": network.quantize(latent),
        }
    ours = float((predicted == codes).float().mean())
    for name, found in nearest.items():
        theirs = float((found == codes).float().mean())
        assert ours > theirs + 0.01, (name, ours, theirs)


@pytest.mark.parametrize("degradation", ["mild", "strong"])
def test_stage3_is_closer_to_the_face_at_w_1_than_at_w_0(trained, degradation):
    restorer = trained.restorer("stage3")
    degraded = trained.degraded(degradation)
    at_0, at_1 = (
        float(face_psnr(restorer.restore(degraded, fidelity), trained.held_out_N3HW).mean()) for fidelity in (0.0, 1.0)
    )
    assert at_1 > at_0 + 0.2, (at_0, at_1)


def test_stage3_learns_all_three_tasks(trained):
    """Its file says so, and the tools for each take it."""
    restorer = trained.restorer("stage3")
    assert restorer.tasks == ("restoration", "colorization", "inpainting")
    holes = torch.zeros(len(trained.held_out_N3HW), 1, 32, 32)
    holes[..., 8:16, 8:16] = 1
    filled, white = restorer.inpaint(trained.held_out_N3HW, holes), torch.where(holes > 0.5, 1.0, trained.held_out_N3HW)
    ours, without = (float((faces - trained.held_out_N3HW).square().mean()) for faces in (filled, white))
    assert ours < 0.5 * without, (ours, without)


def test_colorization_brings_colour_back(trained):
    """Chroma of restored gray faces is nearer to the truth than gray is."""
    restorer = trained.restorer("colorization")
    assert restorer.task == "colorization"
    gray = trained.held_out_N3HW.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    restored = restorer.restore(gray, 0.0)

    def chroma(faces: Tensor) -> Tensor:
        return faces - faces.mean(1, keepdim=True)

    truth = chroma(trained.held_out_N3HW)
    ours, without = (float((chroma(faces) - truth).abs().mean()) for faces in (restored, gray))
    assert ours < 0.9 * without, (ours, without)


def test_inpainting_fills_holes_and_leaves_the_rest(trained):
    restorer = trained.restorer("inpainting")
    assert restorer.task == "inpainting"
    inpainting = read_config("smoke").degradation("inpainting")
    masks = torch.stack(
        [
            torch.from_numpy(brush_mask(draw(inpainting, 32, torch.Generator().manual_seed(number))))
            for number in range(len(trained.held_out_N3HW))
        ]
    ).unsqueeze(1)
    filled = restorer.inpaint(trained.held_out_N3HW, masks.float())
    untouched = ~masks.expand_as(filled)
    assert torch.equal(filled[untouched], trained.held_out_N3HW[untouched])
    holes = ~untouched
    # The best single colour for all faces' holes knows the answer's mean; the network must beat even that.
    flat = trained.held_out_N3HW[holes].mean()
    ours = float((filled[holes] - trained.held_out_N3HW[holes]).abs().mean())
    trivial = float((flat - trained.held_out_N3HW[holes]).abs().mean())
    assert ours < 0.9 * trivial, (ours, trivial)


def test_every_stage_left_curves_and_pictures(trained):
    for stage in STAGES:
        run = trained.folder / stage
        rows = [line.split(",") for line in (run / "scalars.csv").read_text().splitlines()[1:]]
        losses = [float(value) for _, name, value in rows if name == "train/loss"]
        assert len(losses) >= 10 and all(np.isfinite(losses)), stage
        assert any(name.startswith("validation/") for _, name, _ in rows), stage
        assert list((run / "pictures").glob("*.png")), stage


def test_export_in_half_precision_restores_alike(trained, tmp_path):
    out = tmp_path / "mine.safetensors"
    assert main(["train", "export", str(trained.folder / "stage3"), "-o", str(out), "--dtype", "float16"]) == 0
    degraded = trained.degraded("mild")[:8]
    whole, half = trained.restorer("stage3").restore(degraded, 1.0), cf.load_restorer(out).restore(degraded, 1.0)
    # A rounded weight may flip a code here or there.
    assert float((whole - half).abs().median()) < 0.005
    assert out.stat().st_size < 0.6 * (trained.folder / "stage3" / "model.safetensors").stat().st_size


def test_the_published_layout_is_for_models_without_a_pixel_path(trained, tmp_path, capsys):
    def export(stage: str) -> int:
        out = str(tmp_path / f"{stage}.safetensors")
        return main(["train", "export", str(trained.folder / stage), "-o", out, "--layout", "published"])

    assert export("stage3") == 1
    assert "pixel path" in capsys.readouterr().err and list(tmp_path.iterdir()) == []
    assert export("stage2") == 0
    degraded, copy = trained.degraded("mild")[:4], cf.load_restorer(tmp_path / "stage2.safetensors")
    assert torch.equal(trained.restorer("stage2").restore(degraded, 0), copy.restore(degraded, 0))
