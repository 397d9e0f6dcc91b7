"""Which faces a config means, in folders, shards and manifests; and what is refused before anything runs."""

from __future__ import annotations

import csv
import io
import logging
import multiprocessing
import os
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from codeformer_core.training.data import cache as disk
from codeformer_core.training.data.cache import CachedFaces
from codeformer_core.training.data.config import DataConfig
from codeformer_core.training.data.files import BrokenFace
from codeformer_core.training.data.sources import open_faces

COUNT, SIDE = 8, 16
FACES = Path(__file__).parents[3].parent / "shared" / "faces"


def face(number: int, side: int = SIDE) -> Image.Image:
    return Image.fromarray(np.random.default_rng(number).integers(0, 256, (side, side, 3), dtype=np.uint8))


def config(faces: Path | str, **changes) -> DataConfig:
    return replace(DataConfig(str(faces), None, None, "split", True, "none", None, 0, "worker"), **changes)


def fill(folder: Path, numbers=range(COUNT), side: int = SIDE) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        face(number, side).save(folder / f"{number:03d}.png")
    return folder


def pack(tar: Path, folder: Path, names: list[str]) -> Path:
    with tarfile.open(tar, "w") as stream:
        for name in names:
            stream.add(folder / name, name)
            described = tarfile.TarInfo(Path(name).with_suffix(".json").name)
            stream.addfile(described, io.BytesIO())
    return tar


def write_manifest(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_a_folder_is_read_with_the_folders_inside_it_and_without_hidden_files(tmp_path):
    fill(tmp_path / "a", [1, 0])
    fill(tmp_path, [2])
    fill(tmp_path / ".thumbnails", [3])
    (tmp_path / "a" / "._001.png").write_bytes(b"resource fork")
    (tmp_path / "notes.txt").write_text("no face")
    source = open_faces(config(tmp_path), "train", SIDE)
    assert source.names == ("002.png", "a/000.png", "a/001.png")
    assert np.array_equal(source.read(1), np.asarray(face(0)))


def test_larger_faces_are_averaged_down(tmp_path):
    fill(tmp_path, [5], side=48)
    blocks = np.asarray(face(5, 48)).reshape(SIDE, 3, SIDE, 3, 3).astype(float).mean(axis=(1, 3))
    read = open_faces(config(tmp_path), "train", SIDE).read(0)
    assert (
        read.shape == (SIDE, SIDE, 3) and np.abs(read - blocks).max() <= 1
    )  # rounded along one axis, then along the other


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK"])
def test_other_colour_modes_become_rgb(tmp_path, mode):
    picture = face(1).convert(mode)
    picture.save(tmp_path / ("face.tif" if mode == "CMYK" else "face.png"))
    read = open_faces(config(tmp_path), "train", SIDE).read(0)
    assert np.array_equal(read, np.asarray(picture.convert("RGB")))


def test_what_cannot_be_opened_is_named_and_left_out(tmp_path, caplog):
    fill(tmp_path)
    (tmp_path / "000.png").write_bytes(b"")
    (tmp_path / "001.jpg").write_text("<html>not found</html>")
    Image.new("I;16", (SIDE, SIDE)).save(tmp_path / "deep.png")
    with caplog.at_level(logging.WARNING):
        source = open_faces(config(tmp_path), "train", SIDE)
    assert len(source) == COUNT - 1
    assert len(caplog.messages) == 3 and all("left out: " in message for message in caplog.messages)
    assert "0x" not in " ".join(caplog.messages) and "deep.png" in caplog.messages[2] and "8 bits" in caplog.messages[2]
    with pytest.raises(ValueError, match=r"7 faces found \(3 more can't be read.*8 needed. Cure"):
        open_faces(config(tmp_path), "train", SIDE, least=8)


def test_faces_that_are_too_small_or_not_square_are_refused_by_name(tmp_path):
    fill(tmp_path)
    face(1, 12).save(tmp_path / "small.png")
    face(1, 40).crop((0, 0, 40, 20)).save(tmp_path / "wide.png")
    with pytest.raises(ValueError, match=r"2 of 10 .*small\.png \(12x12\), wide\.png \(40x20\)\. Cure: .*train align"):
        open_faces(config(tmp_path), "train", SIDE)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("", "data.faces is empty"),
        ("nowhere", "data.faces: nowhere does not exist"),
        ("nowhere-*.tar", "there is no such tar file"),
        ("empty", "0 faces found, 1 needed"),
    ],
)
def test_places_without_faces_are_refused(tmp_path, monkeypatch, place, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=message):
        open_faces(config(place), "train", SIDE)


def test_a_file_that_changed_since_is_a_broken_face(tmp_path):
    source = open_faces(config(fill(tmp_path)), "train", SIDE)
    face(1, 8).save(tmp_path / "001.png")
    (tmp_path / "002.png").unlink()
    face(9, SIDE).resize((SIDE, SIDE)).save(tmp_path / "003.png", compress_level=0)
    for index, reason in ((1, r"001\.png: .*8x8 pixels"), (2, r"002\.png: No such file")):
        with pytest.raises(BrokenFace, match=reason):
            source.read(index)
    assert np.array_equal(source.read(3), np.asarray(face(9)))


def test_shards_hold_the_same_faces_as_the_folder(tmp_path):
    folder = fill(tmp_path / "folder")
    names = sorted(path.name for path in folder.iterdir())
    pack(tmp_path / "faces-000.tar", folder, names[4::-1])
    pack(tmp_path / "faces-001.tar", folder, names[5:])
    plain = open_faces(config(folder), "train", SIDE)
    for pattern in ("faces-*.tar", "faces-{000..001}.tar"):
        shards = open_faces(config(tmp_path / pattern), "train", SIDE)
        assert shards.names == tuple(f"faces-{index // 5:03d}.tar/{name}" for index, name in enumerate(names))
        assert all(np.array_equal(shards.read(index), plain.read(index)) for index in range(COUNT))
    assert open_faces(config(tmp_path / "faces-000.tar"), "train", SIDE).names[0] == "faces-000.tar/000.png"


def test_a_shard_that_was_cut_off_gives_the_faces_it_has(tmp_path, caplog):
    folder = fill(tmp_path / "folder")
    tar = pack(tmp_path / "faces.tar", folder, [f"{number:03d}.png" for number in range(COUNT)])
    tar.write_bytes(tar.read_bytes()[:7000])
    assert 0 < len(open_faces(config(tar), "train", SIDE)) < COUNT
    assert any("ends in the middle" in message for message in caplog.messages)


def test_compressed_and_wrong_shards_are_refused_with_the_cure(tmp_path):
    folder = fill(tmp_path / "folder")
    for mode, name in (("w:gz", "faces.tar.gz"), ("w:xz", "faces.tar")):
        with tarfile.open(tmp_path / name, mode) as stream:
            stream.add(folder / "000.png", "000.png")
        with pytest.raises(ValueError, match=r"compressed tar .* Cure: uncompress"):
            open_faces(config(tmp_path / name), "train", SIDE)
    (tmp_path / "text.tar").write_text("no tar" * 200)
    with pytest.raises(ValueError, match=r"text\.tar: not a tar file"):
        open_faces(config(tmp_path / "text.tar"), "train", SIDE)
    pack(tmp_path / "faces-0.tar", folder, ["000.png"])
    with pytest.raises(ValueError, match=r"the shard .*faces-1\.tar is missing"):
        open_faces(config(tmp_path / "faces-{0..1}.tar"), "train", SIDE)


def rows(splits: str = "train") -> list[dict[str, str]]:
    """Six rows of train, one of each other kind, the last one not kept."""
    words = [splits] * 5 + ["val", "test", splits]
    return [
        {"file": f"sub/{number:03d}.png", "split": word, "kept": "0" if number == 7 else "1"}
        for number, word in enumerate(words)
    ]


@pytest.mark.parametrize("faces", ["", "sub"])
def test_a_manifest_splits_the_faces(tmp_path, faces):
    fill(tmp_path / "sub")
    manifest = write_manifest(tmp_path / "manifest.csv", rows())
    chosen = config(tmp_path / faces if faces else "", manifest=str(manifest))
    assert open_faces(chosen, "train", SIDE).names == tuple(f"sub/{number:03d}.png" for number in range(5))
    assert open_faces(chosen, "validation", SIDE).names == ("sub/005.png",)


def test_a_manifest_splits_shards(tmp_path):
    fill(tmp_path / "sub")
    pack(tmp_path / "faces.tar", tmp_path, [f"sub/{number:03d}.png" for number in range(COUNT)])
    manifest = write_manifest(tmp_path / "manifest.csv", rows())
    chosen = config(tmp_path / "faces.tar", manifest=str(manifest))
    assert open_faces(chosen, "validation", SIDE).names == ("faces.tar/sub/005.png",)
    assert len(open_faces(chosen, "train", SIDE)) == 5


def test_wrong_manifests_are_refused(tmp_path):
    fill(tmp_path / "sub")
    fill(tmp_path / "elsewhere", [1])

    def refused(rows: list[dict[str, str]], message: str, place: Path | str = "", **changes) -> None:
        manifest = write_manifest(tmp_path / "manifest.csv", rows)
        with pytest.raises(ValueError, match=message):
            open_faces(config(place, manifest=str(manifest), **changes), "train", SIDE)

    refused(rows(), r"no column 'spilt'; did you mean 'split'\? Cure: set data.split_column", split_column="spilt")
    refused([{"name": "a.png", "split": "train"}], "no column 'file'; it has name, split")
    refused(
        [{"file": "a.png", "split": "train"}, {"file": "b.png", "split": "train"}], "2 of 2 files are missing.*a.png"
    )
    refused([{"file": "sub/000.png", "split": "yes"}], "neither train nor val, but 'yes' \\(1\\)")
    refused([{"file": "sub/000.png", "split": word} for word in ("train", "val")], "1 faces are in train and in val")
    refused([{"file": "sub/000.png", "split": "val"}], "has no row for train")
    refused([{"file": "sub/000.png", "split": "train"}], "1 of 1 files lie outside", tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="this manifest can't be read"):
        open_faces(config("", manifest=str(tmp_path / "none.csv")), "train", SIDE)


def test_the_same_face_in_both_splits_is_refused(tmp_path):
    fill(tmp_path / "faces")
    fill(tmp_path / "faces" / "val", [20])
    for validation in ("faces", "faces/val"):
        with pytest.raises(ValueError, match=r"share \d faces: .*\.png.*Cure"):
            open_faces(config(tmp_path / "faces", validation=str(tmp_path / validation)), "train", SIDE)
    with pytest.raises(ValueError, match="there are no validation faces"):
        open_faces(config(tmp_path / "faces"), "validation", SIDE)


@pytest.mark.parametrize(("field", "value"), [("cache", "ram"), ("degrade_on", "gpu"), ("workers", -1)])
def test_unknown_words_are_refused(field, value):
    with pytest.raises(ValueError, match=rf"data\.{field}: expected .*got .*{value}"):
        config("", **{field: value})


def test_the_fingerprint_is_that_of_the_files(tmp_path):
    first = open_faces(config(fill(tmp_path / "faces")), "train", SIDE).fingerprint
    (tmp_path / "faces").rename(tmp_path / "moved")
    assert open_faces(config(tmp_path / "moved"), "train", SIDE).fingerprint == first
    os.utime(tmp_path / "moved" / "003.png", (1, 1))
    assert open_faces(config(tmp_path / "moved"), "train", SIDE).fingerprint == first, "a copy has another time"
    data = bytearray((tmp_path / "moved" / "003.png").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "moved" / "003.png").write_bytes(data)
    touched = open_faces(config(tmp_path / "moved"), "train", SIDE).fingerprint
    (tmp_path / "moved" / "004.png").unlink()
    fewer = open_faces(config(tmp_path / "moved"), "train", SIDE).fingerprint
    assert len({first, touched, fewer}) == 3


def test_the_disk_cache_is_written_once_and_holds_the_faces(tmp_path):
    chosen = config(fill(tmp_path / "faces"), cache="disk", cache_folder=str(tmp_path / "deep" / "cache"))
    plain = open_faces(replace(chosen, cache="none"), "train", SIDE)
    source = open_faces(chosen, "train", SIDE)
    assert isinstance(source, CachedFaces)
    assert (source.names, source.fingerprint) == (plain.names, plain.fingerprint)
    assert all(np.array_equal(source.read(index), plain.read(index)) for index in range(COUNT))
    written = {path.name: path.stat().st_mtime_ns for path in Path(chosen.cache_folder or "").iterdir()}
    assert len(written) == 2  # neither parts nor locks are left
    assert open_faces(chosen, "train", SIDE) == source
    assert {path.name: path.stat().st_mtime_ns for path in Path(chosen.cache_folder or "").iterdir()} == written
    assert np.array_equal(np.load(source.path)[3], plain.read(3))


def test_another_size_is_another_cache_and_the_users_folder_is_the_default(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    chosen = config(fill(tmp_path / "faces"), cache="disk")
    assert [open_faces(chosen, "train", side).read(0).shape[0] for side in (SIDE, SIDE // 2)] == [SIDE, SIDE // 2]
    assert len(list((tmp_path / "home" / "comfyui-codeformer" / "faces").glob("*.npy"))) == 2


def test_a_full_disk_is_said_before_and_leaves_nothing(tmp_path, monkeypatch):
    chosen = config(fill(tmp_path / "faces"), cache="disk", cache_folder=str(tmp_path / "cache"))
    monkeypatch.setattr(disk, "SPARE_SPACE", 2**62)
    with pytest.raises(ValueError, match=r"needs 0\.0 GiB, .* free\. Cure: set data\.cache_folder"):
        open_faces(chosen, "train", SIDE)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_cache_of_too_many_broken_faces_is_refused_and_leaves_nothing(tmp_path):
    fill(tmp_path / "faces", side=64)
    for number in range(2):
        path = tmp_path / "faces" / f"{number:03d}.png"
        path.write_bytes(path.read_bytes()[:6000])
    chosen = config(tmp_path / "faces", cache="disk", cache_folder=str(tmp_path / "cache"))
    with pytest.raises(RuntimeError, match="2 of 8 faces could not be read, more than 5%"):
        open_faces(chosen, "train", 64)
    assert list((tmp_path / "cache").iterdir()) == []


def _open_here(chosen: DataConfig) -> bytes:
    return open_faces(chosen, "train", SIDE).read(COUNT - 1).tobytes()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes start slowly without fork")
def test_two_processes_that_want_one_cache_both_get_it(tmp_path):
    chosen = config(fill(tmp_path / "faces"), cache="disk", cache_folder=str(tmp_path / "cache"))
    with multiprocessing.get_context("fork").Pool(3) as processes:
        read = processes.map(_open_here, [chosen] * 3, chunksize=1)
    assert read == [np.asarray(face(COUNT - 1)).tobytes()] * 3
    assert len(list((tmp_path / "cache").iterdir())) == 2


@pytest.mark.skipif(not FACES.is_dir(), reason=f"no faces in {FACES}")
def test_real_faces(tmp_path):
    chosen = config(FACES / "train", validation=str(FACES / "val"))
    source = open_faces(chosen, "validation", 256)
    assert len(source) == 126
    mean_HW3 = np.mean([source.read(index) for index in range(0, 126, 9)], axis=0)
    # Skin is red before it is blue, where the template has the cheeks.
    assert mean_HW3.shape == (256, 256, 3) and (mean_HW3[130:180, 80:176, 0] > mean_HW3[130:180, 80:176, 2] + 20).all()
