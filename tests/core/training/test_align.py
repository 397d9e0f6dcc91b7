"""Aligned faces out of photos: where they lie, what is left out and why, and going on after a kill."""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from codeformer_core.commands import align
from codeformer_core.commands.errors import UsageError
from codeformer_core.faces.geometry import TEMPLATE_XY
from codeformer_core.faces.types import Face
from codeformer_core.imaging.files import read_image
from codeformer_core.models.loading import load_detector
from codeformer_core.training.alignment.crop import align_face, padding_of, sharpness_of
from codeformer_core.training.alignment.duplicates import KnownFaces, agreement_of, fingerprint_of, gray_of
from codeformer_core.training.alignment.landmarks import look_again
from codeformer_core.training.alignment.options import AlignOptions
from codeformer_core.training.alignment.photos import Photo, find_photos
from codeformer_core.training.alignment.pipeline import Outcome, align_photos, split_of
from codeformer_core.training.data.config import DataConfig
from codeformer_core.training.data.sources import open_faces

from ...face_pictures import small_faces

PHOTOS = Path(__file__).parents[2] / "golden" / "photos"

OPTIONS = AlignOptions(
    detector="given",
    confidence=None,
    size=64,
    smallest_face=20,
    least_sharpness=0,
    most_padding=0.2,
    duplicates=False,
    format="png",
    validation_share=0.3,
    seed=0,
)
MIDDLE = 100.0


def template_face(x: float, y: float, factor: float, degrees: float = 0) -> Face:
    """An undistorted face whose 512 crop, times `factor`, has its middle at (x, y)."""
    turn = factor * np.exp(1j * math.radians(degrees))
    points = [turn * complex(u - 255.5, v - 255.5) + complex(x, y) for u, v in TEMPLATE_XY.tolist()]
    reach = 150 * factor
    landmarks = tuple((point.real, point.imag) for point in points)
    return Face((x - reach, y - reach, x + reach, y + reach), landmarks, 0.9)


def photo_of(number: int, side: int = 200) -> np.ndarray:
    """Soft blobs, different for every number; a face is said to be in the middle."""
    blobs = np.random.default_rng(number).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(blobs).resize((side, side), Image.Resampling.BICUBIC))


@dataclass
class Given:
    """Finds the same faces in every photo; stops the whole run at photo number `stop`."""

    faces: tuple[Face, ...] = (template_face(MIDDLE, MIDDLE, 0.3),)
    stop: int = 10**6
    seen: int = 0
    name: str = "given"
    default_confidence: float = 0.5
    module: None = None
    confidences: list = field(default_factory=list)

    def bytes_for(self, images_BHWC: Tensor) -> int:
        return 0

    def detect(self, images_BHWC: Tensor, confidence: float | None = None) -> list[list[Face]]:
        if images_BHWC.shape[1] == 320:  # the further looks at one face
            return [[] for _ in images_BHWC]
        self.confidences.append(confidence)
        self.seen += 1
        if self.seen == self.stop:
            raise KeyboardInterrupt
        return [list(self.faces) for _ in images_BHWC]


@pytest.fixture
def photos(tmp_path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(8):
        Image.fromarray(photo_of(number)).save(folder / f"{number}.png")
    return folder


def run(folder: Path, output: Path, detector=None, **changes) -> Outcome:
    options = replace(OPTIONS, **changes)
    photos = find_photos([str(folder)], output)
    return align_photos(photos, output, detector or Given(), options, lambda done, total, name: None)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def everything_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# One face


@pytest.mark.parametrize("size", [128, 512])
@pytest.mark.parametrize("factor", [0.3, 0.8, 1.7, 3.1])
def test_an_aligned_face_shows_what_lies_under_the_template(factor, size):
    """A photo whose colours are its coordinates tells where each pixel of the face came from."""
    side = 2400
    steps = torch.arange(side) / side
    image_HW3 = torch.stack((steps.expand(side, side), steps[:, None].expand(side, side), torch.zeros(side, side)), -1)
    aligned = align_face(image_HW3, template_face(1200, 1200, factor, degrees=20), size)
    assert aligned is not None and aligned.face_SSC.shape == (size, size, 3) and aligned.padding == 0
    turn = factor * np.exp(1j * math.radians(20)) * 512 / size
    for row, column in ((0, 0), (size // 3, size - 1), (size - 1, size // 2)):
        expected = turn * complex(column - (size - 1) / 2, row - (size - 1) / 2) + complex(1200, 1200)
        x, y = aligned.face_SSC[row, column, :2].tolist()
        assert abs(x * side - expected.real) < side / 255 + 0.5 and abs(y * side - expected.imag) < side / 255 + 0.5
    expected_52 = (TEMPLATE_XY + 0.5) * size / 512 - 0.5
    assert np.abs(aligned.landmarks_52 - expected_52).max() < 0.05


@pytest.mark.parametrize("factor", [1.4, 3.6])
def test_shrinking_averages(factor):
    """Noise loses contrast as its pixels are averaged; single samples would keep it."""
    noise_HW3 = torch.rand(2400, 2400, 3, generator=torch.Generator().manual_seed(0))
    aligned = align_face(noise_HW3, template_face(1200, 1200, factor), 512)
    assert aligned is not None
    assert aligned.face_SSC.std() < 1.25 * noise_HW3.std() / factor


def test_outside_the_photo_it_is_mirrored_and_counted():
    image_HW3 = torch.from_numpy(photo_of(1, 300).copy()).float() / 255
    aligned = align_face(image_HW3, template_face(255.5 - 100, 255.5, 1.0), 512)
    assert aligned is not None
    inside_SSC = aligned.face_SSC[:300, 100:400]
    assert (inside_SSC - image_HW3).abs().max() < 1.01 / 255
    assert torch.equal(aligned.face_SSC[:300, :100], inside_SSC[:, :100].flip(1))
    assert torch.equal(aligned.face_SSC[300:500, 100:400], inside_SSC[100:300].flip(0))
    assert aligned.padding == pytest.approx(1 - 300 * 300 / 512**2)


def test_padding_counts_pixels():
    assert padding_of(np.array([[1.0, 0, 0], [0, 1.0, 0]]), 512, 512, 512) == 0
    assert padding_of(np.array([[1.0, 0, 128], [0, 1.0, 0]]), 512, 512, 512) == 0.25


def test_sharpness_is_the_variance_of_the_laplacian():
    face_SSC = torch.from_numpy(photo_of(3, 512).copy()).float() / 255
    gray_SS = np.asarray(Image.fromarray(photo_of(3, 512)).convert("L"), np.float64)
    inner = gray_SS[1:-1, 1:-1]
    laplacian = gray_SS[:-2, 1:-1] + gray_SS[2:, 1:-1] + gray_SS[1:-1, :-2] + gray_SS[1:-1, 2:] - 4 * inner
    assert sharpness_of(face_SSC) == pytest.approx(laplacian.var(), rel=0.05)


# Whole folders


def test_a_folder_of_photos_becomes_faces_with_a_manifest_to_train_on(photos, tmp_path):
    (photos / "deep").mkdir()
    Image.fromarray(photo_of(20)).save(photos / "deep" / "0.jpg")
    outcome = run(photos, tmp_path / "out")
    manifest = rows(tmp_path / "out" / "manifest.csv")
    assert outcome.kept == len(manifest) == 9 and outcome.rejected == {}
    assert [row["source"] for row in manifest] == [f"photos/{number}.png" for number in range(8)] + [
        "photos/deep/0.jpg"
    ]
    assert len({row["file"] for row in manifest}) == 9
    for row in manifest:
        assert row["split"] == split_of(row["source"], 0.3, 0)
        assert len(row["landmarks"].split()) == 10 and row["kept"] == "1"
        assert float(row["eye_distance"]) == pytest.approx(0.3 * math.dist(*TEMPLATE_XY[:2]), abs=0.1)
        assert float(row["padding"]) == 0 and float(row["sharpness"]) > 0
    config = DataConfig("", None, str(tmp_path / "out" / "manifest.csv"), "split", True, 0.0, "none", None, 0, "worker")
    counts = {split: len(open_faces(config, split, 64)) for split in ("train", "validation")}
    assert counts == {"train": outcome.train, "validation": outcome.validation} and min(counts.values()) > 0


def test_each_filter_says_what_it_left_out(photos, tmp_path):
    faces = (
        template_face(MIDDLE, MIDDLE, 0.3),
        template_face(40, 40, 0.05),
        template_face(30, 170, 0.3),
    )
    flat = np.full((200, 200, 3), 128, np.uint8)
    Image.fromarray(flat).save(photos / "flat.png")
    (photos / "cut.png").write_bytes((photos / "1.png").read_bytes()[:500])
    Image.fromarray(photo_of(2)).save(photos / "2_again.jpg", quality=70)
    outcome = run(photos, tmp_path / "out", Given(faces), least_sharpness=0.5)
    rejected = {(row["source"], row["face"]): row["reason"] for row in rows(tmp_path / "out" / "rejected.csv")}
    assert rejected[("photos/0.png", "2")] == "too small: smaller than 20 px (it is 15 px)"
    assert rejected[("photos/0.png", "3")].startswith("padded: ")
    assert rejected[("photos/flat.png", "1")] == "blurred: sharpness 0.0, less than 0.5"
    assert rejected[("photos/cut.png", "0")].startswith("unreadable: ")
    assert rejected[("photos/2_again.jpg", "1")] == "duplicate: of 2_1.png"
    assert outcome.kept == 8
    assert outcome.rejected == {"too small": 10, "padded": 10, "blurred": 1, "unreadable": 1, "duplicate": 1}
    assert run(photos, tmp_path / "all", duplicates=True).kept == 10


def test_photos_without_faces_are_listed(photos, tmp_path):
    outcome = run(photos, tmp_path / "out", Given(()))
    assert (outcome.kept, outcome.rejected) == (0, {"no face": 8})


@pytest.mark.parametrize("damage", ["", "half a line", "orphans"])
def test_a_killed_run_is_gone_on_with_to_the_same_folder(photos, tmp_path, damage):
    faces = (template_face(MIDDLE, MIDDLE, 0.3), template_face(60, 60, 0.2), template_face(40, 40, 0.05))
    run(photos, tmp_path / "whole", Given(faces))
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run(photos, out, Given(faces, stop=4))
    assert len(rows(out / "photos.csv")) == 3
    if damage == "half a line":
        for name in ("manifest.csv", "rejected.csv", "photos.csv"):
            (out / name).write_bytes((out / name).read_bytes()[:-9])
    elif damage == "orphans":
        (out / "3_1.png").write_bytes(b"half a face")
        with (out / "manifest.csv").open("a") as stream:
            stream.write("3_1.png,photos/3.png,train,,,,,1,00\n")
    again = Given(faces)
    run(photos, out, again)
    assert again.seen == (6 if damage == "half a line" else 5)
    assert everything_in(out) == everything_in(tmp_path / "whole")
    idle = Given(faces)
    assert run(photos, out, idle).kept == 16 and idle.seen == 0


def test_other_options_and_other_photos_are_refused(photos, tmp_path):
    out = tmp_path / "out"
    run(photos, out)
    with pytest.raises(ValueError, match=r"other options: size 64 there, 128 here; seed 0 there, 5 here\. Use"):
        run(photos, out, size=128, seed=5)
    Image.fromarray(photo_of(30, 220)).save(photos / "3.png")
    with pytest.raises(ValueError, match=r"photos/3\.png: a photo of this name with \d+ bytes is already"):
        run(photos, out)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / ".hidden").write_bytes(b"")
    (tmp_path / "full" / "holiday.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"holds files, but no align\.json"):
        run(photos, tmp_path / "full")


def test_more_photos_change_no_split_and_the_share_is_kept():
    names = [f"photos/{number}.jpg" for number in range(4000)]
    share = np.mean([split_of(name, 0.1, 0) == "val" for name in names])
    assert abs(share - 0.1) < 3 * math.sqrt(0.1 * 0.9 / 4000)
    assert split_of(names[0], 0.0, 0) == "train" and split_of(names[0], 1.0, 0) == "val"
    assert [split_of(name, 0.5, 0) for name in names] != [split_of(name, 0.5, 1) for name in names]


def test_where_photos_are_looked_for(photos, tmp_path, monkeypatch):
    out = tmp_path / "out"
    assert [photo.source for photo in find_photos([str(photos)], out)] == [f"photos/{n}.png" for n in range(8)]
    monkeypatch.chdir(photos)
    by_pattern = find_photos(["*.png", "3.png"], out)
    assert [photo.source for photo in by_pattern] == [f"photos/{n}.png" for n in range(8)]
    (tmp_path / "empty").mkdir()
    (tmp_path / "b" / "photos").mkdir(parents=True)
    Image.fromarray(photo_of(0)).save(tmp_path / "b" / "photos" / "3.png")
    for inputs, output, message in (
        ([str(tmp_path / "empty")], out, "no photos there"),
        ([str(tmp_path / "nowhere")], out, "no such file or folder"),
        (["*.jpg"], out, "no photos there"),
        ([str(photos)], photos / "faces", "lies inside the input"),
        ([str(photos)], photos, "lies inside the input"),
        ([str(photos)], tmp_path, "lies in the output folder"),
        ([str(photos), str(tmp_path / "b" / "photos")], out, r"both be called photos/3\.png"),
    ):
        with pytest.raises(ValueError, match=message):
            find_photos(inputs, output)


def test_few_photos_fill_both_splits_and_more_photos_leave_them(photos, tmp_path):
    sources = sorted((f"photos/{number}.png" for number in range(8)), key=lambda name: lot(name))
    alone, out = tmp_path / "photos" / "alone", tmp_path / "out"
    alone.mkdir()
    smallest = min(lot(name) for name in sources)
    outcome = run(photos, out, validation_share=smallest / 2)
    assert (outcome.train, outcome.validation) == (7, 1)
    assert [row["source"] for row in rows(out / "manifest.csv") if row["split"] == "val"] == [sources[0]]
    before = rows(out / "manifest.csv")
    Image.fromarray(photo_of(9)).save(photos / "9.png")
    assert run(photos, out, validation_share=smallest / 2).kept == 9
    assert rows(out / "manifest.csv")[:8] == before
    (photos / "9.png").unlink()
    largest = max(lot(name) for name in sources)
    outcome = run(photos, tmp_path / "other", validation_share=(1 + largest) / 2)
    assert (outcome.train, outcome.validation) == (1, 7)
    for share, expected in ((0.0, (8, 0)), (1.0, (0, 8))):
        outcome = run(photos, tmp_path / f"all {share}", validation_share=share)
        assert (outcome.train, outcome.validation) == expected


def lot(name: str) -> float:
    """The share from which on a photo is val, by halving."""
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if split_of(name, middle, 0) == "val" else (middle, high)
    return low


def test_a_second_process_in_the_folder_is_refused_with_the_firsts_number(photos, tmp_path):
    out = tmp_path / "out"

    class Meanwhile(Given):
        def detect(self, images_BHWC: Tensor, confidence: float | None = None) -> list[list[Face]]:
            with pytest.raises(ValueError, match=rf"out: another `train align` works there \(process {os.getpid()}\)"):
                run(photos, out)
            return super().detect(images_BHWC, confidence)

    assert run(photos, out, Meanwhile()).kept == len(rows(out / "manifest.csv")) == 8
    assert not [path for path in out.iterdir() if path.name.startswith(".")]


# Duplicates


def inner(image: Image.Image) -> Tensor:
    """Without the borders, where turning leaves black corners."""
    return torch.from_numpy(np.array(image.crop((40, 40, 472, 472)).resize((512, 512)), np.float32) / 255)


def test_a_copy_is_known_again_and_other_faces_are_not(tmp_path):
    faces = {
        str(number): Image.fromarray(face_HW3).resize((512, 512), Image.Resampling.BICUBIC)
        for number, face_HW3 in enumerate(small_faces()[:40])
    }
    grays = {name: gray_of(inner(face)) for name, face in faces.items()}
    known = KnownFaces(grays.__getitem__)
    for name, gray_SS in grays.items():
        assert known.repeated_by(gray_SS, fingerprint_of(gray_SS)) is None
        known.add(name, fingerprint_of(gray_SS))
    for number, (name, face) in enumerate(list(faces.items())[::4]):
        # As another detection of a copy would cut it: turned by a degree, shifted, saved small and strongly.
        turned = face.rotate(1 - 2 * (number % 2), Image.Resampling.BICUBIC, translate=(3, -2))
        turned.resize((300, 300), Image.Resampling.BICUBIC).save(tmp_path / "copy.jpg", quality=60)
        gray_SS = gray_of(inner(Image.open(tmp_path / "copy.jpg").resize((512, 512), Image.Resampling.BICUBIC)))
        assert known.repeated_by(gray_SS, fingerprint_of(gray_SS)) == name
    first, second = list(grays.values())[:2]
    assert agreement_of(first, second) < 0.9


def test_candidates_are_those_with_few_other_bits():
    generator = np.random.default_rng(0)
    known = KnownFaces(lambda name: np.zeros((128, 128), np.float32))
    bits = generator.integers(0, 2, (3000, 128), dtype=np.uint8)
    for number, row in enumerate(bits):
        known.add(str(number), np.packbits(row).tobytes().hex())
    wanted = bits[1234].copy()
    wanted[generator.choice(128, 20, replace=False)] ^= 1
    distances = (bits != wanted).sum(axis=1)
    assert list(known.candidates(np.packbits(wanted).tobytes().hex())) == ["1234"]
    assert sorted(distances)[:2] > [19, 20]


# The command and the real detector


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    align.add_arguments(parser)
    return parser.parse_args(list(words))


def test_real_photos(tmp_path, capsys):
    chosen = [PHOTOS / "composite__group09.jpg"]
    chosen += sorted((PHOTOS).glob("no_face__*"))[:2]
    copy = tmp_path / "again.jpg"
    Image.open(chosen[0]).save(copy, quality=80)
    out = tmp_path / "out"
    words = [*map(str, [*chosen, copy]), "-o", str(out), "--smallest-face", "64", "--detector", "yunet"]
    assert align.run(parsed(*words)) == 0
    said = capsys.readouterr().out
    assert "4 photos" in said and "9 faces kept" in said and "9 duplicate, 2 no face" in said
    # Sources are sorted by folder, so which of the two copies came first depends on the folder's name alone.
    kept = rows(out / "manifest.csv")
    assert len({row["source"] for row in kept}) == 1 and len({row["split"] for row in kept}) == 1
    assert json.loads((out / "align.json").read_text())["detector"] == "yunet"
    # The json's points are those of another detector at native size, with an error of a few percent themselves.
    known = [np.array(face["landmarks"]) for face in json.loads(chosen[0].with_suffix(".json").read_text())]
    image_HWC = read_image(chosen[0]).image_HWC
    detector = load_detector("yunet")
    first, again, from_told, from_template = [], [], [], []
    for face in detector.detect(image_HWC[None])[0]:
        for errors, looked in ((first, face), (again, look_again(image_HWC, face, detector))):
            away = min(np.linalg.norm(points - looked.landmarks_array(), axis=1).mean() for points in known)
            errors.append(away / face.eye_distance)
    assert np.mean(again) < 0.06 < np.mean(first)
    for row in kept:
        face_SSC = read_image(out / row["file"]).image_HWC
        assert face_SSC.shape == (512, 512, 3)
        found = look_again(face_SSC, template_face(255.5, 255.5, 1.0), detector).landmarks_array()
        told = np.array(row["landmarks"].split(), float).reshape(5, 2)
        # No face has the template's proportions, so a single point may be farther from it.
        for expected, errors in ((told, from_told), (TEMPLATE_XY, from_template)):
            errors.append(np.linalg.norm(found - expected, axis=1).mean() / math.dist(*TEMPLATE_XY[:2]))
    assert np.mean(from_told) < 0.05 and np.median(from_template) < 0.05
    assert align.run(parsed(*words)) == 0
    assert rows(out / "manifest.csv") == kept


def test_the_command_refuses_what_makes_no_sense(photos, tmp_path):
    for words, message in (
        (["-o", str(photos / "0.png")], "name a folder"),
        (["-o", ""], "name a folder"),
        (["-o", str(photos / "faces")], "lies inside the input"),
        (["-o", str(tmp_path / "out"), "--size", "8", "--detector", "yunet"], "64 to 2048 pixels, got 8"),
    ):
        with pytest.raises(UsageError, match=message):
            align.run(parsed(str(photos), *words))
    assert not (tmp_path / "out").exists()


def test_the_command_refuses_many_processes_and_says_what_one_photo_lacks(photos, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(align, "_load_detector", lambda args, console: (Given(), "given"))
    words = (str(photos / "0.png"), "-o", str(tmp_path / "out"), "--size", "64", "--smallest-face", "20")
    assert align.run(parsed(*words)) == 0
    assert "all faces are of one photo and so all train; training will ask for val. Align" in capsys.readouterr().out
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match=r"WORLD_SIZE is 2: .* without torchrun"):
        align.run(parsed(*words))


def test_a_folder_without_a_kept_face_is_a_failure(photos, tmp_path, capsys):
    assert align.run(parsed(str(photos), "-o", str(tmp_path / "out"), "--detector", "yunet")) == 1
    assert "0 faces kept (0 train, 0 val); rejected: 8 no face" in capsys.readouterr().out


@pytest.mark.skipif(sys.platform != "linux", reason="such names exist only there")
def test_a_name_that_is_no_text_is_written_with_marks(photos, tmp_path):
    (photos / "0.png").rename(photos / os.fsdecode(b"caf\xe9, \n.png"))
    assert run(photos, tmp_path / "out").kept == 8
    (row,) = (row for row in rows(tmp_path / "out" / "manifest.csv") if "caf" in row["source"])
    assert row["source"] == "photos/caf\ufffd, \n.png" and (tmp_path / "out" / row["file"]).is_file()
    again = Given()
    assert run(photos, tmp_path / "out", again).kept == 8 and again.seen == 0


def test_photo_is_a_value(photos):
    assert find_photos([str(photos / "0.png")], Path("out"))[0] == Photo(photos / "0.png", "photos/0.png")
