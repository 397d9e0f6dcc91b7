"""Broken, oversized and unknown parts of files cost themselves, not the picture."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from codeformer_core.imaging.files import read_image

from .metadata_files import through
from .picture_files import (
    DESCRIPTION,
    IPTC_BLOCK,
    PREFIX,
    SRGB,
    XMP,
    Tag,
    entries,
    gray16_png,
    jpeg_segments,
    noise,
    picture,
    png_chunk,
    png_chunks,
    riff_chunks,
    segment,
    texts,
    tiff_block,
    tiff_file,
    values,
    with_chunks,
    with_riff_chunks,
    with_segments,
)

pytestmark = pytest.mark.filterwarnings("ignore:Corrupt EXIF data", "ignore:Truncated File Read")


def test_a_large_text_is_kept_and_every_program_can_open_the_result(tmp_path):
    text = b'{"nodes": [' + b"1, " * 550_000 + b"1]}"
    chunks = (
        png_chunk(b"zTXt", b"workflow\0\0" + zlib.compress(text)),
        png_chunk(b"iTXt", b"Story\0\1\0en\0Story\0" + zlib.compress("ß".encode() * 900_000)),
    )
    made = through(tmp_path, with_chunks(picture(noise(), "PNG"), *chunks), "a.png", "b.png")
    with Image.open(io.BytesIO(made)) as image:
        image.load()
        assert image.text["workflow"] == text.decode() and image.text["Story"] == "ß" * 900_000


@pytest.mark.parametrize("target", [".png", ".jpg", ".webp", ".tif"])
def test_a_large_profile_does_not_cost_the_picture(tmp_path, caplog, target):
    profile = SRGB[:128] + bytes(1_500_000)
    chunk = png_chunk(b"iCCP", b"large\0\0" + zlib.compress(profile))
    made = through(tmp_path, with_chunks(picture(noise(), "PNG"), chunk), "a.png", f"b{target}")
    with Image.open(io.BytesIO(made)) as image:
        image.load()
        kept = image.info.get("icc_profile") == profile
    assert kept == (target != ".png")
    assert ("colour profile of more than 1 MiB" in caplog.text) == (target == ".png")


def test_parts_that_would_fill_the_memory_cost_themselves(tmp_path, caplog):
    bomb = zlib.compress(bytes(40 << 20))
    chunks = (
        png_chunk(b"zTXt", b"Comment\0\0" + bomb),
        png_chunk(b"iTXt", b"Other\0\1\0\0\0" + bomb),
        png_chunk(b"iCCP", b"profile\0\0" + bomb),
        png_chunk(b"tEXt", b"Author\0me"),
    )
    made = png_chunks(through(tmp_path, with_chunks(picture(noise(), "PNG"), *chunks), "a.png", "b.png"))
    for name in ("text 'Comment'", "text 'Other'", "colour profile"):
        assert f"its {name} unpacks to more than 16 MiB and is left out" in caplog.text
    assert [entry for entry in made if entry[0] != b"IDAT"][1:-1] == [(b"tEXt", b"Author\0me")]


def test_many_texts_together_have_a_limit_too(tmp_path, caplog):
    packed = zlib.compress(bytes(15 << 20))
    chunks = [png_chunk(b"zTXt", b"t%d\0\0" % number + packed) for number in range(6)]
    (tmp_path / "a.png").write_bytes(with_chunks(picture(noise(), "PNG"), *chunks))
    found = read_image(tmp_path / "a.png").metadata.texts
    assert [text.keyword for text in found] == ["t0", "t1", "t2", "t3"]
    assert "text 't4'" in caplog.text and "text 't5'" in caplog.text


@pytest.mark.parametrize(
    ("chunk", "name"),
    [
        (png_chunk(b"zTXt", b"Comment\0\0not compressed"), "text 'Comment'"),
        (png_chunk(b"iTXt", b"Title\0"), "text 'Title'"),
        (png_chunk(b"tEXt", b"without a separator"), "one of its texts"),
        (png_chunk(b"iCCP", b"profile\0\0garbage"), "colour profile"),
        (png_chunk(b"iCCP", b"profile\0\0" + zlib.compress(b"short")), "colour profile"),
        (png_chunk(b"tRNS", b"\0"), "tRNS"),
        (png_chunk(b"tEXt", b"Author\0me")[:-1] + b"\0", "tEXt chunk"),
        (png_chunk(b"eXIf", b"no EXIF"), "EXIF"),
    ],
)
def test_a_broken_part_of_a_png_costs_that_part(tmp_path, caplog, chunk, name):
    made = through(tmp_path, with_chunks(picture(noise(), "PNG"), chunk), "a.png", "b.png")
    assert name in caplog.text and "left out" in caplog.text
    with Image.open(io.BytesIO(made)) as image:
        assert np.array_equal(image, noise())


def test_broken_parts_of_a_jpeg_cost_themselves(tmp_path, caplog):
    data = with_segments(
        picture(noise(), "JPEG"),
        segment(0xE2, b"ICC_PROFILE\0\1\3" + SRGB[:300]),
        segment(0xED, b"Photoshop 3.0\0" + IPTC_BLOCK + b"8BIM\x04\x04\0\0\xff\xff\xff\xff"),
        segment(0xE1, PREFIX + b"garbage"),
        segment(0xEB, b"JP\0\1content credentials"),
    )
    made = jpeg_segments(through(tmp_path, data, "a.jpg", "b.jpg"))
    for words in ("colour profile is incomplete", "IPTC or Photoshop data is damaged", "EXIF data is damaged", "JUMBF"):
        assert words in caplog.text
    assert (0xED, b"Photoshop 3.0\0" + IPTC_BLOCK) in made


def test_a_chunk_of_a_webp_that_is_cut_short_costs_that_chunk(tmp_path, caplog):
    data = picture(noise(), "WEBP", lossless=True, xmp=XMP, icc_profile=SRGB)[:-40]
    made = through(tmp_path, data, "a.webp", "b.webp")
    assert "its XMP chunk is cut short and left out" in caplog.text
    with Image.open(io.BytesIO(made)) as image:
        assert np.array_equal(image.convert("RGB"), noise()) and image.info["icc_profile"] == SRGB


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("lossless", [True, False])
def test_unknown_chunks_of_a_webp_are_kept(tmp_path, mode, lossless):
    data = with_riff_chunks(picture(noise(mode), "WEBP", lossless=lossless, xmp=XMP), (b"PRIV", b"odd"))
    made = through(tmp_path, data, "a.webp", "b.webp")
    assert (b"PRIV", b"odd") in riff_chunks(made) and (b"XMP ", XMP) in riff_chunks(made)
    plain = with_riff_chunks(picture(noise(mode), "WEBP", lossless=lossless), (b"PRIV", b"odd"))
    made = through(tmp_path, plain, "a.webp", "b.webp")
    chunks = riff_chunks(made)
    assert chunks[0][0] == b"VP8X" and bool(chunks[0][1][0] & 0x10) == (mode == "RGBA") and chunks[-1][0] == b"PRIV"
    with Image.open(io.BytesIO(made)) as image:
        image.load()
        assert image.mode == mode and image.size == (24, 16)


def test_broken_tags_of_a_tiff_cost_themselves(tmp_path, caplog):
    data = bytearray(tiff_file(noise(), ">", [*texts(">"), Tag(700, 1, len(XMP), XMP)]))
    at = data.index(struct.pack(">HHI", 700, 1, len(XMP)))
    struct.pack_into(">I", data, at + 8, 1 << 30)
    made = through(tmp_path, bytes(data), "a.tif", "b.tif")
    assert "TIFF tags 700 are damaged and left out" in caplog.text
    assert entries(made)["main", 0x010E][2] == DESCRIPTION + b"\0"


def test_unknown_segments_of_a_jpeg_are_kept_and_elsewhere_named(tmp_path, caplog):
    data = with_segments(picture(noise(), "JPEG"), segment(0xEC, b"Ducky\0\1\2"))
    assert (0xEC, b"Ducky\0\1\2") in jpeg_segments(through(tmp_path, data, "a.jpg", "b.jpg"))
    through(tmp_path, data, "a.jpg", "b.png")
    assert "APP12 segment" in caplog.text


@pytest.mark.parametrize(
    ("rest", "words"),
    [
        (picture(noise(), "JPEG"), "further images"),
        (b"\0\0\0\x18ftypmp42" + bytes(100), "a video follows"),
        (b"SEFT" * 10, "40 bytes of unknown data"),
    ],
)
def test_what_follows_a_jpeg_is_named(tmp_path, caplog, rest, words):
    through(tmp_path, picture(noise(), "JPEG") + rest, "a.jpg", "b.jpg")
    assert words in caplog.text
    caplog.clear()
    through(tmp_path, picture(noise(), "JPEG") + b"\0\0\r\n", "a.jpg", "b.jpg")
    assert not caplog.records


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("missing", [2, 1, 300, 2000])
def test_a_jpeg_that_is_cut_short_is_read_as_far_as_it_goes(tmp_path, caplog, progressive, missing):
    image = noise(size=(200, 160)).resize((400, 320))
    whole = picture(image, "JPEG", quality=90, progressive=progressive)
    (tmp_path / "a.jpg").write_bytes(whole[:-missing])
    found = read_image(tmp_path / "a.jpg").image_HWC.numpy() * 255
    assert "a.jpg: its end is missing; read as far as it goes" in caplog.text
    expected = np.asarray(Image.open(io.BytesIO(whole)).convert("RGB"), float)
    rows = 320 if missing <= 2 else 160
    error = np.abs(found - expected)[: rows if not progressive else 0]
    assert error.max(initial=0) < 0.01 and found.shape == expected.shape
    with pytest.raises(ValueError, match=r"a\.jpg: is truncated: its end marker is missing"):
        read_image(tmp_path / "a.jpg", strict=True)


def test_a_jpeg_without_pixels_is_refused(tmp_path):
    whole = picture(noise(), "JPEG")
    for end in (3, 20, whole.index(b"\xff\xda") + 4):
        (tmp_path / "a.jpg").write_bytes(whole[:end])
        with pytest.raises(ValueError, match=r"a\.jpg: (is truncated|not an image)"):
            read_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("missing", [12, 5])
@pytest.mark.parametrize("depth", [8, 16])
def test_a_png_without_its_end_marker(tmp_path, caplog, depth, missing):
    gray = np.random.default_rng(1).integers(0, 65536, (16, 24), dtype=np.uint16)
    whole = picture(noise(), "PNG") if depth == 8 else gray16_png(gray)
    (tmp_path / "a.png").write_bytes(whole)
    expected = read_image(tmp_path / "a.png").image_HWC
    (tmp_path / "a.png").write_bytes(whole[:-missing])
    assert torch.equal(read_image(tmp_path / "a.png").image_HWC, expected)
    assert "a.png: its end marker is missing" in caplog.text
    with pytest.raises(ValueError, match=r"a\.png: is damaged: its end marker is missing"):
        read_image(tmp_path / "a.png", strict=True)


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200), "HEIC"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic" + bytes(200), "HEIC"),
        (b"\xff\x0a" + bytes(60), "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(60), "JPEG XL"),
        (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(60), "JPEG 2000"),
        (b"8BPS\0\1" + bytes(60), "Photoshop"),
        (b"II*\0\x10\0\0\0CR\2\0" + bytes(60), "CR2"),
        (b"FUJIFILMCCD-RAW 0201" + bytes(60), "RAF"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + bytes(60), "CR3"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(60), "video"),
        (b"\x1aE\xdf\xa3" + bytes(60), "video"),
        (b"%PDF-1.7\n" + bytes(60), "PDF"),
        (b"<!DOCTYPE html><html>404", "HTML"),
        (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg">', "SVG"),
        (b"v/1\x01" + bytes(60), "OpenEXR"),
        (b"PK\x03\x04" + bytes(60), "ZIP"),
    ],
)
def test_what_is_not_read_is_named_whatever_it_is_called(tmp_path, head, name):
    (tmp_path / "a.jpg").write_bytes(head)
    with pytest.raises(ValueError, match=rf"a\.jpg: is an? .*{name}.*not read"):
        read_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("tag", [Tag(262, 3, 1, values(32803)), Tag(330, 4, 1, values(8, letter="I"))])
def test_a_camera_raw_in_the_shape_of_a_tiff_is_named(tmp_path, tag):
    tags = [Tag(254, 4, 1, values(1, letter="I")), Tag(256, 3, 1, values(160)), Tag(257, 3, 1, values(120)), tag]
    (tmp_path / "a.tif").write_bytes(tiff_block("<", tags, {}))
    with pytest.raises(ValueError, match=r"a\.tif: is a camera's RAW file, which is not read; develop it"):
        read_image(tmp_path / "a.tif")
