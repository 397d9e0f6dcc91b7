"""The command line: what it reads and writes, what it says, and the exit code with which it ends."""

from __future__ import annotations

import argparse
import io
import itertools
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from codeformer_core import cli
from codeformer_core.commands import console, errors, inputs, tools
from codeformer_core.faces.types import Face
from codeformer_core.models import files, loading
from codeformer_core.models.files import ModelFiles
from codeformer_core.models.kinds import DETECTOR
from codeformer_core.networks.codeformer import CodeFormer, CodeFormerConfig
from codeformer_core.networks.vqgan import AutoencoderConfig
from codeformer_core.runtime.host import FixedFolders
from codeformer_core.weights.catalog import find_entry
from codeformer_core.weights.reading import WeightsError

from .facts import line_of

ROOT = Path(__file__).parents[2]
real_load_detector = loading.load_detector
SIZE = 96
FACE = Face((20, 20, 76, 76), ((36, 40), (60, 40), (48, 52), (38, 64), (58, 64)), 0.9)
SMALL = Face((80, 80, 88, 88), ((82, 83), (86, 83), (84, 85), (82, 87), (86, 87)), 0.9)


@dataclass
class FakeRestorer:
    """Turns every face white; fast, and easy to find in a picture."""

    tasks: tuple[str, ...] = ("restoration",)
    uses_fidelity: bool = True
    needs_landmarks: bool = False
    name: str = "fake.pth"
    recommended_fidelity: float = 0.5
    fidelities: list[float] = field(default_factory=list)
    module: torch.nn.Module = field(default_factory=torch.nn.Identity)
    bytes_per_face: int = 0
    uses_fidelity: bool = True
    casts_weights: bool = False

    def on(self, device: torch.device) -> FakeRestorer:
        return self

    def faces_at_once(self) -> int:
        return 1

    def restore(
        self, faces_B3HW: torch.Tensor, fidelity: float = 0.5, component_boxes_B44: torch.Tensor | None = None
    ) -> torch.Tensor:
        self.fidelities.append(fidelity)
        return torch.ones_like(faces_B3HW)


@dataclass
class FakeDetector:
    name: str = "fake detector"
    default_confidence: float = 0.5
    module: None = None

    def detect(self, images_BHWC: torch.Tensor, confidence: float | None = None) -> list[list[Face]]:
        # A picture that is black all over holds no face.
        return [[FACE, SMALL] if image.max() > 0 else [] for image in images_BHWC]


@dataclass
class FakeParser:
    """Takes all of a crop for the face."""

    name: str
    module: torch.nn.Module = field(default_factory=torch.nn.Identity)

    def bytes_for(self, faces_B3HW: torch.Tensor) -> int:
        return 0

    def parse(self, faces_B3HW: torch.Tensor) -> torch.Tensor:
        return torch.ones(len(faces_B3HW), *faces_B3HW.shape[2:], dtype=torch.uint8)


@pytest.fixture
def fakes(monkeypatch, tmp_path) -> argparse.Namespace:
    """Fakes in place of the loaders and of the network; what was loaded, and how, and what was downloaded."""
    loaded = argparse.Namespace(restorer=FakeRestorer(), calls=[], downloads=[])

    def loader(kind: str, model: object):
        def load(path, device, dtype=None, *, operations=None, task=None):
            entry = find_entry(path.name)
            loaded.calls.append((kind, entry.name if entry else path.name, str(device), dtype))
            return model

        return load

    def load_parser(path, device):
        loader("parser", None)(path, device)
        return FakeParser(find_entry(path.name).name)

    def download(entry, folder, on_progress):
        loaded.downloads.append(entry.name)
        on_progress(1, entry.size)
        return folder / entry.filename

    monkeypatch.setattr(loading, "load_restorer", loader("restorer", loaded.restorer))
    monkeypatch.setattr(loading, "load_detector", loader("detector", FakeDetector()))
    monkeypatch.setattr(loading, "load_parser", load_parser)
    monkeypatch.setattr(files, "download", download)
    monkeypatch.setenv("CODEFORMER_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return loaded


COLOUR = (100, 60, 160)


def photo(path: Path, colour: tuple[int, int, int] = COLOUR, mode: str = "RGB") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", (SIZE, SIZE), colour)
    if any(colour):  # of one colour it would count as a gray picture, whose faces are made gray
        image.paste((160, 200, 40), (SIZE * 3 // 4, 0, SIZE, SIZE))
    image.convert(mode).save(path)
    return path


def restore(*words: object) -> int:
    """The fakes' faces are pasted as they are, whatever they are like."""
    whole = () if "--aligned" in words else ("--when-worse", "paste", "--color-match", "off")
    return cli.main(["restore", "--device", "cpu", *whole, *map(str, words)])


def middle(path: Path) -> list[int]:
    return np.asarray(Image.open(path).convert("RGB"))[48, 48].tolist()


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder)) if folder.exists() else []


# --- what it does ----------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("debug", [False, True])
def test_one_bad_file_is_named_and_the_others_go_on(fakes, tmp_path, capsys, debug):
    photo(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "bad.png").write_bytes(b"this is no picture")
    photo(tmp_path / "in" / "c.png")
    assert restore(tmp_path / "in", "-o", tmp_path / "out", *(["--debug"] if debug else [])) == 1
    assert names(tmp_path / "out") == ["a.png", "c.png"]
    err = capsys.readouterr().err
    assert "bad.png: not an image" in err and "1 of 3 images failed" in err
    assert ("Traceback" in err) == debug


def test_a_full_disk_is_one_line_and_leaves_nothing(fakes, tmp_path, capsys, monkeypatch):
    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    photo(tmp_path / "a.png")
    monkeypatch.setattr(os, "fsync", fail)
    assert restore(tmp_path / "a.png", "-o", tmp_path / "out") == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(lines) == 1 and "a.png" in lines[0] and "the disk is full" in lines[0]
    assert names(tmp_path / "out") == []


@pytest.mark.parametrize(
    "words",
    [
        ["-w", "1.5"],
        ["-w", "-0.1"],
        ["--fidelity", "nan"],
        ["-w", "inf"],
        ["-w", "much"],
        ["--upscale", "0.5"],
        ["--upscale", "inf"],
        ["--confidence", "2"],
        ["--smallest-face", "-1"],
        ["--device", "toaster"],
        ["--device", "cuda:99999999999999999999"],
        ["--dtype", "float16"],
        ["--mask", "hair"],
        ["--aligned", "--upscale", "2"],
        ["--aligned", "--only-center-face"],
        ["--aligned", "--parity"],
    ],
)
def test_impossible_options_are_refused_before_anything_is_done(fakes, tmp_path, capsys, words):
    photo(tmp_path / "a.png")
    assert restore(tmp_path / "a.png", "-o", tmp_path / "out", *words) == 2
    err = capsys.readouterr().err
    option = [word for word in words if word.startswith("-") and not word[1].isdigit()][-1]
    assert option in err
    assert "Traceback" not in err
    assert fakes.calls == [] and not (tmp_path / "out").exists()


def test_inputs_that_are_not_there(fakes, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    for given, said in [("nothing.png", "no such file"), ("empty", "no images"), ("*.webp", "no image matches")]:
        assert restore(tmp_path / given, "-o", tmp_path / "out") == 2
        err = capsys.readouterr().err
        assert said in err and given in err
    assert restore("-o", tmp_path / "out") == 2
    assert cli.main([]) == 2 and cli.main(["dance"]) == 2
    assert restore(photo(tmp_path / "a.png")) == 2  # no -o
    assert not (tmp_path / "out").exists()


def test_empty_names_do_not_stand_for_the_current_folder(fakes, tmp_path, capsys, monkeypatch):
    # What a shell makes of "$forgotten".
    photo(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    assert restore("", "-o", "out") == 2
    assert "one of the inputs is an empty name" in capsys.readouterr().err
    assert restore("a.png", "-o", "") == 2
    assert "-o is given an empty name" in capsys.readouterr().err
    assert names(tmp_path) == ["a.png"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_not_waited_for(fakes, tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe.png")
    assert restore(tmp_path / "pipe.png", "-o", tmp_path / "out") == 2
    assert "pipe.png: a pipe or device" in capsys.readouterr().err


def test_results_where_none_can_be(fakes, tmp_path, capsys):
    photo(tmp_path / "a.png")
    (tmp_path / "file").write_text("")
    assert restore(tmp_path / "a.png", "-o", tmp_path / "out.gif") == 2
    assert "out.gif: can't be written as .gif; use one of .png" in capsys.readouterr().err
    assert restore(tmp_path / "a.png", "-o", tmp_path / "file" / "out") == 1
    err = capsys.readouterr().err
    assert f"{tmp_path / 'file' / 'out'}: this folder can't be made" in err and "-o" in err
    assert names(tmp_path) == ["a.png", "file"]


def test_existing_results_are_kept_unless_told_otherwise(fakes, tmp_path, capsys):
    photo(tmp_path / "in" / "a.png")
    photo(tmp_path / "in" / "b.png")
    photo(tmp_path / "out" / "b.png", (7, 8, 9))
    assert restore(tmp_path / "in", "-o", tmp_path / "out") == 2
    err = capsys.readouterr().err
    assert str(tmp_path / "out" / "b.png") in err and "--overwrite" in err
    assert names(tmp_path / "out") == ["b.png"] and middle(tmp_path / "out" / "b.png") == [7, 8, 9]
    assert restore(tmp_path / "in", "-o", tmp_path / "out", "--overwrite") == 0
    assert middle(tmp_path / "out" / "b.png") == [255, 255, 255]


def test_two_pictures_for_one_name_and_results_on_top_of_sources(fakes, tmp_path, capsys):
    one, two = photo(tmp_path / "x" / "a.png"), photo(tmp_path / "y" / "a.png")
    assert restore(one, two, "-o", tmp_path / "out") == 2
    err = capsys.readouterr().err
    assert str(one) in err and str(two) in err
    assert restore(one, "-o", tmp_path / "x", "--overwrite") == 2
    assert "replace the source" in capsys.readouterr().err
    photo(tmp_path / "y" / "a_compare.png")
    assert restore(tmp_path / "y", "-o", tmp_path / "out", "--compare") == 2
    assert restore(one, two, "-o", tmp_path / "out.png") == 2
    assert restore(tmp_path / "x", "-o", tmp_path / "out.png") == 2
    (tmp_path / "file").write_text("")
    assert restore(one, "-o", tmp_path / "file") == 2
    assert middle(one) == list(COLOUR) and not (tmp_path / "out").exists()


def test_names_with_pattern_characters_and_hidden_files(tmp_path):
    odd = photo(tmp_path / "a[1].png")
    photo(tmp_path / "a1.png")
    photo(tmp_path / ".hidden.png")
    assert inputs.expand_inputs([str(odd)]) == [odd]
    assert inputs.expand_inputs([str(tmp_path)]) == [tmp_path / "a1.png", odd]


def test_ctrl_c_keeps_what_is_done_and_leaves_nothing_half_written(fakes, tmp_path, capsys, monkeypatch):
    calls = itertools.count()

    def interrupt(descriptor: int) -> None:
        if next(calls) == 1:
            raise KeyboardInterrupt

    for name in ("a.png", "b.png", "c.png"):
        photo(tmp_path / "in" / name)
    monkeypatch.setattr(os, "fsync", interrupt)
    assert restore(tmp_path / "in", "-o", tmp_path / "out") == 130
    assert names(tmp_path / "out") == ["a.png"]
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends a program without asking it")
@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_request_to_end_leaves_nothing_half_written(fakes, tmp_path, capsys, monkeypatch, name, code):
    number = getattr(signal, name)
    # Under nohup it is ignored, which is respected.
    signal.signal(number, signal.SIG_DFL)
    photo(tmp_path / "a.png")
    monkeypatch.setattr(os, "fsync", lambda _descriptor: os.kill(os.getpid(), number))
    assert restore(tmp_path / "a.png", "-o", tmp_path / "out") == code
    assert names(tmp_path / "out") == [] and f"stopped by {name}" in capsys.readouterr().err
    assert signal.getsignal(number) == signal.SIG_DFL


def test_ctrl_c_before_anything_has_begun(capsys, monkeypatch):
    def interrupt(*_words: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.importlib, "import_module", interrupt)
    assert cli.main(["restore", "a.png", "-o", "out"]) == 130
    assert capsys.readouterr().err == "codeformer: stopped\n"


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 4.47 GiB for an array with shape (20000, 20000, 3)"),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"),
    ],
)
def test_out_of_memory_says_what_helps(fakes, tmp_path, capsys, monkeypatch, error):
    def fail(*_arguments: object, **_options: object) -> None:
        raise error

    monkeypatch.setattr(fakes.restorer, "restore", fail)
    photo(tmp_path / "a.png")
    assert restore(tmp_path / "a.png", "-o", tmp_path / "out") == 1
    lines = capsys.readouterr().err.splitlines()[-1:]
    assert "a.png: out of memory; use a smaller image or a smaller --upscale" in lines[0]
    assert "unexpected" not in lines[0] and names(tmp_path / "out") == []


def test_a_package_that_is_not_there_is_named_with_its_cure():
    error = ModuleNotFoundError("No module named 'PIL.Image'", name="PIL.Image")
    assert errors.one_line(error) == "the package 'PIL' is not installed. Run pip install pillow"


def test_closed_output_is_no_error(fakes, tmp_path, monkeypatch):
    photo(tmp_path / "a.png")
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert restore(tmp_path / "a.png", "-o", tmp_path / "out") == 0
    assert names(tmp_path / "out") == ["a.png"]


def test_a_name_that_steers_a_terminal_is_shown_harmlessly(tmp_path, capsys):
    assert restore(tmp_path / "a\x1b[31mred.png", "-o", tmp_path / "out") == 2
    err = capsys.readouterr().err
    assert "a?[31mred.png" in err and "\x1b" not in err


def test_a_name_without_letters_in_the_terminal_is_shown_with_marks(tmp_path):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    (tmp_path / "süß.pth").write_text("x")
    answer = subprocess.run(
        [sys.executable, "-m", "codeformer_core", "weights", "verify", tmp_path / "süß.pth"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0 and "s??.pth" in answer.stdout and answer.stderr == ""


# --- models ----------------------------------------------------------------------------------------------------------


def test_a_missing_model_says_which_file_from_where_to_where_and_the_short_way(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("CODEFORMER_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    photo(tmp_path / "a.png")
    assert restore(tmp_path / "a.png", "-o", tmp_path / "out", "--model", "codeformer") == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and "Traceback" not in lines[0]
    for part in ("codeformer.pth", "https://", str(tmp_path / "models" / "facerestore_models"), "--download"):
        assert part in lines[0]
    assert not (tmp_path / "out").exists()
    # A file that does not exist is no download's business.
    assert restore(tmp_path / "a.png", "-o", tmp_path / "out", "--model", tmp_path / "gone.pth") == 1
    err = capsys.readouterr().err
    assert "gone.pth" in err and "--download" not in err


def test_the_best_installed_model_detector_and_mask_are_chosen_and_said(fakes, tmp_path, capsys):
    def chosen(*words: str) -> tuple[list[str], str, str]:
        fakes.calls.clear()
        assert restore(tmp_path / "a.png", "-o", tmp_path / "out", "--overwrite", *words) == 0
        text = capsys.readouterr()
        return [source for _, source, *_ in fakes.calls], text.err, text.out

    photo(tmp_path / "a.png")
    models = tmp_path / "models" / "facedetection"
    models.mkdir(parents=True)
    sources, err, out = chosen()
    assert sources == ["codeformer_starter", ModelFiles(FixedFolders(())).auto(DETECTOR), "face_mesh"]
    assert (
        "note: model codeformer_starter, because codeformer is not installed\nnote: codeformer_starter.safetensors is"
        in err
    )
    assert "comes with the pack; codeformer.pth gives better faces (S-Lab License 1.0, non-commercial" in err
    assert f"detector {sources[1]}, because" in err and "--download fetches what is missing" in err
    assert "parser face_mesh, because parsenet is not installed" in err
    assert line_of("mask_mesh", parser="face_mesh") in out
    # The published recipe knows ParseNet or a box.
    _, err, out = chosen("--parity")
    assert "face_mesh" not in err
    assert "mask soft box, because parsenet is not installed" in err and line_of("mask_box_instead") in out
    # An explicit choice needs no explanation.
    for mask in ("outline", "box"):
        assert "mask" not in (err := chosen("--mask", mask)[1]) and "parser" not in err
    assert "model" not in chosen("--model", "codeformer_starter")[1]
    (models / "detection_mobilenet0.25_Final.pth").touch()
    (tmp_path / "models" / "codeformer").mkdir()
    (tmp_path / "models" / "codeformer" / "codeformer.pth").touch()
    assert chosen()[0] == ["codeformer", "retinaface_mobile0.25", "face_mesh"]
    (models / "detection_Resnet50_Final.pth").touch()
    (models / "parsing_parsenet.pth").touch()
    assert chosen()[:2] == (["codeformer", "retinaface_resnet50", "parsenet"], "")
    # What is not wanted is not loaded.
    assert chosen("--mask", "outline")[0] == ["codeformer", "retinaface_resnet50"]


def test_aligned_faces_are_told_which_model_was_chosen_too(fakes, tmp_path, capsys):
    photo(tmp_path / "a.png")
    assert restore(tmp_path / "a.png", "-o", tmp_path / "out", "--aligned") == 0
    err = capsys.readouterr().err
    assert "model codeformer_starter, because codeformer is not installed" in err and "detector" not in err


def test_download_announces_each_file_with_its_licence(fakes, tmp_path, capsys):
    photo(tmp_path / "a.png")
    assert restore(tmp_path / "a.png", "-o", tmp_path / "out", "--download") == 0
    assert fakes.downloads == ["codeformer", "retinaface_resnet50", "parsenet"]
    assert [source for _, source, *_ in fakes.calls] == fakes.downloads
    out = capsys.readouterr().out
    assert "downloading codeformer.pth from https://" in out and "S-Lab" in out and "parsing_parsenet.pth" in out


def test_a_face_mask_without_parsenet_is_the_meshs_and_in_the_official_recipe_an_error(fakes, tmp_path, capsys):
    photo(tmp_path / "a.png")
    assert restore(tmp_path / "a.png", "-o", tmp_path / "out", "--mask", "face") == 0
    assert fakes.calls[-1][:2] == ("parser", "face_mesh")
    assert "parser face_mesh, because parsenet is not installed" in capsys.readouterr().err
    assert restore(tmp_path / "a.png", "-o", tmp_path / "other", "--mask", "face", "--parity") == 1
    err = capsys.readouterr().err
    assert "parsing_parsenet.pth" in err and "--download" in err


def test_a_model_of_the_wrong_kind_is_refused_once(fakes, tmp_path, capsys):
    fakes.restorer.tasks, fakes.restorer.name = ("colorization",), "codeformer_colorization.pth"
    for name in ("a.png", "b.png"):
        photo(tmp_path / "in" / name)
    assert restore(tmp_path / "in", "-o", tmp_path / "out") == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and "codeformer_colorization.pth is a model for colorization" in lines[0]


def test_a_broken_package_is_one_line_with_the_way_around(fakes, tmp_path, capsys, monkeypatch):
    def broken(path, device):
        raise ImportError("facexlib is not installed. Run pip install facexlib")

    monkeypatch.setattr(loading, "load_detector", broken)
    photo(tmp_path / "a.png")
    assert restore(tmp_path / "a.png", "-o", tmp_path / "out") == 1
    assert "pip install facexlib. --detector yunet --mask outline work without" in capsys.readouterr().err


def test_a_broken_opencv_is_said_once_and_yunet_is_no_way_around_it(fakes, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    for name in ("a.png", "b.png"):
        photo(tmp_path / "in" / name)
    assert restore(tmp_path / "in", "-o", tmp_path / "out") == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and "pip install --upgrade opencv-python" in lines[0] and "yunet" not in lines[0]
    assert not (tmp_path / "out").exists()


def test_a_wrong_onnx_file_is_said_once(fakes, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(loading, "load_detector", real_load_detector)
    (tmp_path / "other.onnx").write_bytes(b"not a network")
    for name in ("a.png", "b.png"):
        photo(tmp_path / "in" / name)
    assert restore(tmp_path / "in", "-o", tmp_path / "out", "--detector", tmp_path / "other.onnx") == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and "other.onnx" in lines[0] and "comes with this package" in lines[0]


def test_a_device_that_is_not_there(fakes, tmp_path, capsys):
    photo(tmp_path / "a.png")
    assert restore(tmp_path / "a.png", "-o", tmp_path / "out", "--device", "cuda:99") == 2
    assert "cuda:99" in capsys.readouterr().err and fakes.calls == []


def test_auto_device_is_one_that_torch_has():
    assert torch.zeros(1, device=tools.choose_device("auto")).item() == 0


# --- around it -------------------------------------------------------------------------------------------------------


def test_weights_is_mounted(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("CODEFORMER_MODELS", str(tmp_path))
    assert cli.main(["weights", "list"]) == 0
    assert "codeformer_inpainting" in capsys.readouterr().out


def test_unexpected_errors_are_one_line_and_debug_shows_more(fakes, tmp_path, capsys, monkeypatch):
    def fail(*_: object):
        raise AssertionError("a bug")

    monkeypatch.setattr(tools, "choose_device", fail)
    photo(tmp_path / "a.png")
    assert restore(tmp_path / "a.png", "-o", tmp_path / "out") == 1
    err = capsys.readouterr().err
    assert "AssertionError: a bug" in err and "--debug" in err and "Traceback" not in err
    assert restore(tmp_path / "a.png", "-o", tmp_path / "out", "--debug") == 1
    assert "Traceback" in capsys.readouterr().err


def test_errors_about_weights_stay_weights_errors(fakes, monkeypatch):
    def fail(path, device, dtype, **options):
        raise WeightsError("broken file x.pth")

    monkeypatch.setattr(loading, "load_restorer", fail)
    args = argparse.Namespace(
        device="cpu", dtype="float32", model="auto", detector="auto", download=False, aligned=False
    )
    with pytest.raises(WeightsError, match=r"^broken file x\.pth$"):
        tools.load_models(args, "restoration", console.Console(io.StringIO(), io.StringIO()))


@pytest.mark.parametrize("words", [["--help"], ["restore", "--help"]])
def test_help_loads_nothing_heavy(words):
    code = (
        "import sys; from codeformer_core.cli import main; code = main(sys.argv[1:]); "
        "heavy = {'torch', 'cv2', 'facexlib', 'numpy', 'PIL'} & set(sys.modules); "
        "assert not heavy, heavy; sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "restore" in done.stdout, done.stderr


def test_the_package_runs_as_a_program():
    done = subprocess.run(
        [sys.executable, "-m", "codeformer_core", "restore"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2 and "INPUT" in done.stderr


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_bar_is_drawn_in_a_terminal_only_and_gives_way_to_lines():
    out, err = io.StringIO(), Terminal()
    shown = console.Console(out, err)
    shown.progress(0.5, "1/2 a.png: restoring faces 1/2")
    assert "[############............]  50% 1/2 a.png" in err.getvalue()
    shown.progress(0.6, "too soon")
    assert "too soon" not in err.getvalue()
    shown.progress(0.7, "a new stage", at_once=True)
    assert "70% a new stage" in err.getvalue()
    shown.line("a.png done")
    assert err.getvalue().endswith("\r") and out.getvalue() == "a.png done\n"
    quiet = io.StringIO()
    console.Console(out, quiet).progress(0.5, "text")
    assert quiet.getvalue() == ""


def test_a_log_gets_a_line_now_and_then(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    out, log = io.StringIO(), io.StringIO()
    shown = console.Console(out, log)
    for seconds, text in ((0, "first"), (5, "soon"), (31, "later"), (40, "soon again"), (62, "last")):
        now[0] = 100.0 + seconds
        shown.progress(seconds / 62, text)
    assert log.getvalue().splitlines() == [" 50% later", "100% last"]


def test_file_names_that_the_terminal_cannot_show():
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    console.Console(stream, stream).line("写真.png \udcff done")
    assert raw.getvalue() == b"??.png ? done\n"
