"""Which faces a config means, in folders, shards and manifests; and what is refused before anything runs."""

from __future__ import annotations

import csv
import io
import logging
import multiprocessing
import os
import re
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from codeformer_core.training.data import cache as disk
from codeformer_core.training.data.cache import CachedFaces
from codeformer_core.training.data.config import DataConfig
from codeformer_core.training.data.files import BrokenFace
from codeformer_core.training.data.sources import open_faces

COUNT, SIDE = 8, 16


needs_links = pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")


def face(number: int, side: int = SIDE) -> Image.Image:
    return Image.fromarray(np.random.default_rng(number).integers(0, 256, (side, side, 3), dtype=np.uint8))


def config(faces: Path | str, **changes) -> DataConfig:
    return replace(DataConfig(str(faces), None, None, "split", True, 0.0, "none", None, 0, "worker"), **changes)


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
    with pytest.raises(ValueError, match=r"7 faces found \(3 more can't be read.*8 needed. Add faces"):
        open_faces(config(tmp_path), "train", SIDE, least=8)


def test_faces_that_are_too_small_or_not_square_are_refused_by_name(tmp_path):
    fill(tmp_path)
    face(1, 12).save(tmp_path / "small.png")
    face(1, 40).crop((0, 0, 40, 20)).save(tmp_path / "wide.png")
    with pytest.raises(ValueError, match=r"2 of 10 .*small\.png \(12x12\), wide\.png \(40x20\)\. Cut .*train align"):
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


def test_compressed_and_wrong_shards_are_refused_with_the_fix(tmp_path):
    folder = fill(tmp_path / "folder")
    for mode, name in (("w:gz", "faces.tar.gz"), ("w:xz", "faces.tar")):
        with tarfile.open(tmp_path / name, mode) as stream:
            stream.add(folder / "000.png", "000.png")
        with pytest.raises(ValueError, match=r"compressed tar .* Uncompress"):
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

    refused(rows(), r"no column 'spilt'; did you mean 'split'\? Set data.split_column", split_column="spilt")
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
        with pytest.raises(ValueError, match=r"share \d faces: .*\.png.*validation on training faces"):
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
    with pytest.raises(ValueError, match=r"needs 0\.0 GiB, .* free\. Set data\.cache_folder"):
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


# What a hostile set of files does


def test_a_damaged_header_in_the_middle_of_a_shard_is_told_with_its_place(tmp_path, caplog):
    folder = fill(tmp_path / "folder")
    tar = pack(tmp_path / "faces.tar", folder, [f"{number:03d}.png" for number in range(COUNT)])
    with tarfile.open(tar) as stream:
        place = stream.getmember("003.png").offset
    data = bytearray(tar.read_bytes())
    data[place : place + 512] = b"\xff" * 512
    tar.write_bytes(data)
    assert len(open_faces(config(tar), "train", SIDE)) == 3
    assert f"no header of a member at byte {place}" in caplog.text and "its first 3 images" in caplog.text
    caplog.clear()
    tar.write_bytes(pack(tar, folder, ["000.png"]).read_bytes().rstrip(b"\0"))  # without zero blocks at the end
    assert len(open_faces(config(tar), "train", SIDE)) == 1


def test_a_member_larger_than_its_shard_is_named_and_names_that_lead_out_are_counted(tmp_path, caplog):
    fill(tmp_path, [0, 1])
    with tarfile.open(tmp_path / "faces.tar", "w") as stream:
        stream.add(tmp_path / "000.png", "./a//000.png")
        stream.add(tmp_path / "001.png", "../001.png")
        huge = tarfile.TarInfo("huge.png")
        huge.size = 2**40
        stream.fileobj.write(huge.tobuf())  # type: ignore[union-attr] - open for writing
        stream.offset += 512
    assert open_faces(config(tmp_path / "faces.tar"), "train", SIDE).names == ("faces.tar/a/000.png",)
    assert re.search(rf"huge\.png at byte \d+ has {2**40} bytes by its header, more than there are", caplog.text)
    assert "1 members are left out, whose names lead out of it" in caplog.text


def test_a_range_of_too_many_shards_is_refused_at_once(tmp_path):
    for pattern in ("faces-{0..99999999999}.tar", "{0..999}-{0..999}.tar"):
        with pytest.raises(ValueError, match=r"shards, more than 100000\. Name the range"):
            open_faces(config(tmp_path / pattern), "train", SIDE)


@needs_links
def test_a_face_has_one_split_however_a_manifest_spells_it(tmp_path):
    fill(tmp_path / "m")
    os.symlink(tmp_path / "m", tmp_path / "link")
    pack(tmp_path / "faces.tar", tmp_path / "m", ["000.png", "001.png"])

    def found(faces: str, *rows: tuple[str, str]) -> tuple[str, ...]:
        manifest = write_manifest(tmp_path / "m" / "m.csv", [{"file": name, "split": split} for name, split in rows])
        return open_faces(config(faces, manifest=str(manifest)), "train", SIDE).names

    for other in ("./000.png", "../m/000.png", "../link/000.png", str(tmp_path / "m" / "000.png")):
        with pytest.raises(ValueError, match="1 faces are in train and in val"):
            found("", ("000.png", "train"), (other, "val"))
        assert len(found("", ("000.png", "train"), (other, "train"), ("001.png", "val"))) == 1
    shards = str(tmp_path / "faces.tar")
    with pytest.raises(ValueError, match=r"1 faces are in train and in val: \./000\.png"):
        found(shards, ("./000.png", "train"), ("000.png", "val"))
    assert found(shards, ("./000.png", "train"), ("000.png", "train")) == ("faces.tar/000.png",)


def test_a_name_that_two_shards_have_is_refused_where_a_manifest_means_it(tmp_path):
    folder = fill(tmp_path / "folder")
    pack(tmp_path / "faces-0.tar", folder, ["000.png", "001.png"])
    pack(tmp_path / "faces-1.tar", folder, ["001.png", "002.png"])
    manifest = write_manifest(tmp_path / "m.csv", [{"file": f"00{n}.png", "split": "train"} for n in range(3)])
    with pytest.raises(ValueError, match=r"1 of 3 files are in the shards .* more than once: 001\.png\. Give"):
        open_faces(config(tmp_path / "faces-*.tar", manifest=str(manifest)), "train", SIDE)
    write_manifest(manifest, [{"file": f"00{n}.png", "split": "train"} for n in (0, 2)])
    assert len(open_faces(config(tmp_path / "faces-*.tar", manifest=str(manifest)), "train", SIDE)) == 2


@needs_links
def test_links_in_circles_give_each_face_once(tmp_path):
    fill(tmp_path / "faces" / ".data", [0])
    fill(tmp_path / "faces" / "deep", [1])
    (tmp_path / "faces" / "linked").symlink_to(tmp_path / "faces" / ".data")
    for name in ("again", "once_more"):
        (tmp_path / "faces" / "deep" / name).symlink_to(tmp_path / "faces")
    assert open_faces(config(tmp_path / "faces"), "train", SIDE).names == ("deep/001.png", "linked/000.png")


def test_the_words_for_kept(tmp_path):
    fill(tmp_path)
    words = {"1": 1, "0": 0, "0.0": 0, "1.00": 1, "True": 1, "FALSE": 0, " yes ": 1, "no": 0}
    listed = [{"file": f"{n:03d}.png", "split": "train", "kept": word} for n, word in enumerate(words)]
    chosen = config("", manifest=str(write_manifest(tmp_path / "m.csv", listed)))
    expected = tuple(row["file"] for row in listed if words[row["kept"]])
    assert open_faces(chosen, "train", SIDE).names == expected
    for word in ("maybe", "nan"):
        write_manifest(tmp_path / "m.csv", [*listed[:2], {**listed[2], "kept": word}])
        with pytest.raises(ValueError, match=f"m.csv: row 3 has kept '{word}'. Write 1 or 0"):
            open_faces(chosen, "train", SIDE)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_faces_are_turned_upright(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    face(0).save(tmp_path / "face.png", exif=exif)
    with Image.open(tmp_path / "face.png") as image:
        upright = np.asarray(ImageOps.exif_transpose(image))
    assert np.array_equal(open_faces(config(tmp_path), "train", SIDE).read(0), upright)


def test_alpha_that_hides_something_is_told_once(tmp_path, caplog):
    for number in range(3):
        picture = face(number).convert("RGBA")
        picture.putalpha(255)
        picture.save(tmp_path / f"{number}.png")
    open_faces(config(tmp_path), "train", SIDE)
    assert not caplog.messages
    for number in (1, 2):
        picture = face(number).convert("RGBA")
        picture.putpixel((3, 3), (1, 2, 3, 0))
        picture.save(tmp_path / f"{number}.png")
    source = open_faces(config(tmp_path), "train", SIDE)
    assert source.read(1)[3, 3].tolist() == [1, 2, 3]
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("1.png: has transparent pixels (3 images have alpha)")


def test_pictures_of_too_many_pixels_are_left_out_by_name(tmp_path, caplog, monkeypatch, recwarn):
    fill(tmp_path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", SIDE * SIDE)
    face(0, SIDE + 1).save(tmp_path / "large.png")
    face(0, 2 * SIDE).save(tmp_path / "larger.png")
    assert len(open_faces(config(tmp_path), "train", SIDE)) == COUNT
    assert [message.partition(": left out: Image size")[0] for message in caplog.messages] == [
        "large.png",
        "larger.png",
    ]
    assert not [warning for warning in recwarn if "decompression" in str(warning.message)]


@pytest.mark.skipif(sys.platform != "linux", reason="such names exist only there")
def test_names_that_are_no_text_have_a_fingerprint_and_a_cache(tmp_path):
    fill(tmp_path / "faces", [0, 1])
    (tmp_path / "faces" / "001.png").rename(tmp_path / "faces" / os.fsdecode(b"caf\xe9.png"))
    chosen = config(tmp_path / "faces", cache="disk", cache_folder=str(tmp_path / "cache"))
    first = open_faces(chosen, "train", SIDE)
    assert np.array_equal(first.read(1), np.asarray(face(1))) and open_faces(chosen, "train", SIDE) == first


@pytest.mark.parametrize("ending", [".npy", ".json"])
@pytest.mark.parametrize("damage", ["missing", "empty", "garbage", "cut"])
def test_a_damaged_cache_is_written_anew(tmp_path, caplog, damage, ending):
    chosen = config(fill(tmp_path / "faces"), cache="disk", cache_folder=str(tmp_path / "cache"))
    first = open_faces(chosen, "train", SIDE)
    assert isinstance(first, CachedFaces)
    path = Path(first.path).with_suffix(ending)
    whole = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"empty": b"", "garbage": b"\x93NUMPY\x01\x00\x10\x00{'descr'((((", "cut": whole[:-9]}[damage])
    caplog.clear()
    again = open_faces(chosen, "train", SIDE)
    assert again == first and path.read_bytes() == whole
    assert np.array_equal(again.read(2), np.asarray(face(2)))
    told = [message for message in caplog.messages if "written anew" in message]
    assert len(told) == (0 if damage == "missing" and ending == ".npy" else 1)
