"""The command line: what it reads and writes."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from codeformer_core.models.files import ModelFiles
from codeformer_core.models.kinds import DETECTOR
from codeformer_core.networks.codeformer import CodeFormer, CodeFormerConfig
from codeformer_core.networks.vqgan import AutoencoderConfig
from codeformer_core.runtime.host import FixedFolders

from .cli_fakes import (
    COLOUR,
    ROOT,
    SIZE,
    fakes,
    middle,
    names,
    photo,
    restore,
)
from .facts import line_of

__all__ = ["fakes"]


def test_files_folders_and_patterns_are_restored_into_a_folder(fakes, tmp_path, capsys):
    photo(tmp_path / "a.png")
    photo(tmp_path / "folder" / "b.jpg")
    photo(tmp_path / "folder" / "deeper" / "not_this_one.jpg")
    (tmp_path / "folder" / "notes.txt").write_text("no picture")
    photo(tmp_path / "many" / "c1.png")
    photo(tmp_path / "many" / "c2.gif")
    photo(tmp_path / "many" / "d.png")
    out = tmp_path / "out" / "deep"
    # a.png twice: it is restored once.
    assert restore(tmp_path / "a.png", tmp_path / "folder", tmp_path / "many" / "c*", tmp_path / "a.*", "-o", out) == 0
    assert names(out) == ["a.png", "b.jpg", "c1.png", "c2.png"]
    assert all(middle(out / name) == [255, 255, 255] for name in names(out))
    assert np.asarray(Image.open(out / "a.png"))[0, 0].tolist() == list(COLOUR)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert all("2 faces found, 1 restored, 1 skipped;" in line and "fake.pth" in line for line in lines)
    assert all("fake detector" in line for line in lines)


def test_one_picture_to_a_named_file_and_the_options_arrive(fakes, tmp_path):
    photo(tmp_path / "a.png")
    (tmp_path / "my.pth").touch()
    words = ["-w", 0.25, "--upscale", 1.5, "--dtype", "bfloat16", "--detector", "yunet"]
    words += ["--model", tmp_path / "my.pth"]
    assert restore(tmp_path / "a.png", "-o", tmp_path / "b.webp", *words) == 0
    assert Image.open(tmp_path / "b.webp").size == (144, 144)
    assert fakes.restorer.fidelities == [0.25]
    assert fakes.calls == [
        ("restorer", "my.pth", "cpu", torch.bfloat16),
        ("detector", "yunet", "cpu", None),
        ("parser", "face_mesh", "cpu", None),
    ]
    assert fakes.downloads == []


def test_without_a_fidelity_the_models_own_is_taken(fakes, tmp_path):
    fakes.restorer.recommended_fidelity = 0.9
    photo(tmp_path / "in" / "a.png")
    assert restore(tmp_path / "in", "-o", tmp_path / "out") == 0
    assert restore(tmp_path / "in", "-o", tmp_path / "again", "--fidelity", "0.5") == 0
    assert fakes.restorer.fidelities == [0.9, 0.5]


def test_compare_puts_before_and_after_side_by_side(fakes, tmp_path):
    photo(tmp_path / "a.jpg")
    assert restore(tmp_path / "a.jpg", "-o", tmp_path / "out", "--compare", "--upscale", 2) == 0
    assert names(tmp_path / "out") == ["a.jpg", "a_compare.png"]
    pixels = np.asarray(Image.open(tmp_path / "out" / "a_compare.png"))
    assert pixels.shape == (2 * SIZE, 4 * SIZE, 3)
    assert abs(int(pixels[96, 96, 0]) - 100) < 3 and pixels[96, 288].tolist() == [255, 255, 255]


def test_a_picture_without_a_face_comes_out_unchanged_and_is_said(fakes, tmp_path, capsys):
    photo(tmp_path / "black.png", (0, 0, 0))
    assert restore(tmp_path / "black.png", "-o", tmp_path / "out") == 0
    assert line_of("faces", found=0, restored=0) in capsys.readouterr().out
    assert np.array_equal(Image.open(tmp_path / "out" / "black.png"), Image.open(tmp_path / "black.png"))


def test_depth_alpha_gray_and_orientation_survive(fakes, tmp_path):
    import cv2

    deep = np.full((SIZE, SIZE * 3, 4), (12345, 23456, 34567, 45678), dtype=np.uint16)
    deep[:, 70:, :3] = (50000, 20000, 10000)
    cv2.imwrite(str(tmp_path / "deep.png"), deep)
    photo(tmp_path / "gray.png", mode="L")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (SIZE * 2, SIZE), (9, 9, 9)).save(tmp_path / "lying.jpg", exif=exif)
    assert restore(tmp_path / "*.*", "-o", tmp_path / "out") == 0
    result = cv2.imread(str(tmp_path / "out" / "deep.png"), cv2.IMREAD_UNCHANGED)
    assert result.dtype == np.uint16 and result[48, 48, 0] > 60000
    assert (result[:, -9:] == deep[:, -9:]).all() and (result[..., 3] == 45678).all()
    assert Image.open(tmp_path / "out" / "gray.png").mode == "L"
    with Image.open(tmp_path / "out" / "lying.jpg") as image:
        assert image.size == (SIZE, SIZE * 2) and image.getexif().get(0x0112, 1) == 1


def test_aligned_faces_are_restored_whole_without_a_detector(fakes, tmp_path, capsys):
    photo(tmp_path / "a.png")
    assert restore(tmp_path / "a.png", "-o", tmp_path / "out", "--aligned") == 0
    assert [call[0] for call in fakes.calls] == ["restorer"]
    assert line_of("faces", restored=1) in capsys.readouterr().out
    assert np.asarray(Image.open(tmp_path / "out" / "a.png")).shape == (SIZE, SIZE, 3)


def test_the_pipeline_with_a_real_network_and_detector(monkeypatch, tmp_path, capsys):
    torch.manual_seed(0)
    autoencoder = AutoencoderConfig(512, 32, (1, 1, 1, 1, 1, 1), 1, (), 8, 32)
    network = CodeFormer(
        CodeFormerConfig(autoencoder, width=16, layers=1, heads=8, mlp_width=16, fuse_sizes=(32,)),
        device="cpu",
        dtype=torch.float32,
        operations=torch.nn,
    )
    folder = tmp_path / "models" / "facerestore_models"
    folder.mkdir(parents=True)
    save_file(
        {key: value.contiguous() for key, value in network.state_dict().items()}, folder / "codeformer.safetensors"
    )
    monkeypatch.setenv("CODEFORMER_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source = ROOT / "tests" / "golden" / "pipeline" / "one_up1_input.webp"
    assert restore(source, "-o", tmp_path / "out.png", "--mask", "box") == 0
    text = capsys.readouterr()
    assert "1 face found, 1 restored" in text.out and "restored by codeformer.safetensors" in text.out
    detector = ModelFiles(FixedFolders(())).auto(DETECTOR)
    assert f"detector: {detector}" in text.out
    assert f"detector {detector}, because retinaface_resnet50 is not installed" in text.err and "model" not in text.err
    before, after = (np.asarray(Image.open(path).convert("RGB"), float) for path in (source, tmp_path / "out.png"))
    changed = np.abs(before - after).max(axis=2) > 2
    assert before.shape == after.shape and 0.02 < changed.mean() < 0.9 and not changed[0, 0]


# --- when something goes wrong ---------------------------------------------------------------------------------------
