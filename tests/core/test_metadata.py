"""XMP, IPTC, comments and texts go over as bytes."""

from __future__ import annotations

import io
import struct
import zlib

import pytest
from PIL import Image

from .metadata_files import WITH_EXIF, XMP_IN_JPEG, through, xmp_of
from .picture_files import (
    IPTC,
    IPTC_BLOCK,
    URL_BLOCK,
    XMP,
    Tag,
    entries,
    jpeg_segments,
    noise,
    picture,
    png_chunk,
    png_chunks,
    segment,
    tiff_file,
    with_chunks,
    with_segments,
)

pytestmark = pytest.mark.filterwarnings("ignore:Corrupt EXIF data", "ignore:Truncated File Read")


@pytest.mark.parametrize("target", WITH_EXIF)
@pytest.mark.parametrize("source", ["jpg", "png", "webp", "tif"])
def test_xmp_goes_over_as_bytes(tmp_path, source, target):
    data = {
        "jpg": lambda: with_segments(picture(noise(), "JPEG"), segment(0xE1, XMP_IN_JPEG)),
        "png": lambda: with_chunks(picture(noise(), "PNG"), png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)),
        "webp": lambda: picture(noise(), "WEBP", xmp=XMP),
        "tif": lambda: tiff_file(noise(), more=[Tag(700, 1, len(XMP), XMP)]),
    }[source]()
    with Image.open(io.BytesIO(through(tmp_path, data, f"a.{source}", f"b{target}"))) as image:
        image.load()
        assert xmp_of(image) == XMP


@pytest.mark.parametrize("target", [".jpg", ".png", ".tif"])
@pytest.mark.parametrize("source", ["jpg", "png", "tif", "iptc only.tif"])
def test_iptc_and_photoshop_data_go_over_as_bytes(tmp_path, caplog, source, target):
    blocks = IPTC_BLOCK if source == "iptc only.tif" else IPTC_BLOCK + URL_BLOCK
    digits = blocks.hex().encode()
    data = {
        "jpg": lambda: with_segments(picture(noise(), "JPEG"), segment(0xED, b"Photoshop 3.0\0" + blocks)),
        "png": lambda: with_chunks(
            picture(noise(), "PNG"),
            png_chunk(b"tEXt", b"Raw profile type iptc\0\niptc\n%8d\n" % len(blocks) + digits + b"\n"),
        ),
        "tif": lambda: tiff_file(noise(), more=[Tag(34377, 1, len(blocks), blocks)]),
        "iptc only.tif": lambda: tiff_file(noise(), more=[Tag(33723, 7, len(IPTC), IPTC)]),
    }[source]()
    made = through(tmp_path, data, f"a.{source.split()[-1]}" if " " in source else f"a.{source}", f"b{target}")
    if target == ".jpg":
        assert (0xED, b"Photoshop 3.0\0" + blocks) in jpeg_segments(made)
    elif target == ".png":
        (text,) = [content for kind, content in png_chunks(made) if kind == b"zTXt"]
        _, _, size, *hexadecimal = zlib.decompress(text.partition(b"\0")[2][1:]).split(b"\n")
        assert int(size) == len(blocks) and bytes.fromhex(b"".join(hexadecimal).decode()) == blocks
    else:
        found = entries(made)
        assert found["main", 33723][2] == IPTC
        assert source == "iptc only.tif" or found["main", 34377][2] == blocks
    assert "not carried over" not in caplog.text


def test_photoshops_thumbnail_of_the_old_picture_is_left_out(tmp_path):
    thumbnail = b"8BIM\x04\x0c\0\0" + struct.pack(">I", 30) + bytes(30)
    content = b"Photoshop 3.0\0" + thumbnail + IPTC_BLOCK
    data = with_segments(picture(noise(), "JPEG"), segment(0xED, content))
    made = through(tmp_path, data, "a.jpg", "b.jpg")
    assert [entry for entry in jpeg_segments(made) if entry[0] == 0xED] == [(0xED, b"Photoshop 3.0\0" + IPTC_BLOCK)]


@pytest.mark.parametrize("comment", [b"aunt Mary", "Großmutter".encode(), "Großmutter".encode("latin-1")])
def test_comments_go_over_as_bytes(tmp_path, caplog, comment):
    data = with_segments(picture(noise(), "JPEG"), segment(0xFE, comment), segment(0xFE, b"another"))
    again = through(tmp_path, data, "a.jpg", "b.jpg")
    assert [content for marker, content in jpeg_segments(again) if marker == 0xFE] == [comment, b"another"]
    png = through(tmp_path, data, "a.jpg", "b.png")
    found = [content for kind, content in png_chunks(png) if kind in (b"tEXt", b"iTXt")]
    assert found[0].startswith(b"Comment\0") and found[0].endswith(comment)
    back = through(tmp_path, png, "c.png", "c.jpg")
    assert [content for marker, content in jpeg_segments(back) if marker == 0xFE] == [comment, b"another"]
    assert "not carried over" not in caplog.text
    through(tmp_path, data, "a.jpg", "b.webp")
    assert "b.webp: not carried over into WebP: the comment" in caplog.text


def test_a_gif_comment_reaches_the_png(tmp_path):
    data = picture(noise("P"), "GIF", comment=b"made in 1994")
    assert (b"tEXt", b"Comment\0made in 1994") in png_chunks(through(tmp_path, data, "a.gif", "b.png"))


def test_long_xmp_of_a_jpeg_keeps_its_second_part(tmp_path, caplog):
    more = segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + b"0" * 32 + bytes(8) + b"<rest/>")
    data = with_segments(picture(noise(), "JPEG"), segment(0xE1, XMP_IN_JPEG), more)
    assert more in through(tmp_path, data, "a.jpg", "b.jpg") and not caplog.records
    through(tmp_path, data, "a.jpg", "b.png")
    assert "the second part of its long XMP" in caplog.text


TEXTS = (
    (b"tEXt", b"parameters\0portrait\nSteps: 20, Seed: 42"),
    (b"tEXt", b'prompt\0{"1": {"class_type": "KSampler"}}'),
    (b"zTXt", b"workflow\0\0" + zlib.compress(b'{"nodes": []}' * 50)),
    (b"iTXt", "Title\0\0\0de\0Titel\0Großmutter 1950".encode()),
    (b"iTXt", b"Packed\0\1\0\0\0" + zlib.compress("Zoë".encode())),
)


def test_texts_of_a_png_go_over_as_they_stand(tmp_path, caplog):
    data = with_chunks(picture(noise(), "PNG"), *(png_chunk(*text) for text in TEXTS))
    made = through(tmp_path, data, "a.png", "b.png")
    assert [entry for entry in png_chunks(made) if entry[0] in (b"tEXt", b"zTXt", b"iTXt")] == list(TEXTS)
    assert not caplog.records


@pytest.mark.parametrize("target", [".jpg", ".webp", ".tif", ".avif", ".bmp"])
def test_texts_of_a_png_are_named_where_there_is_no_place(tmp_path, caplog, target):
    data = with_chunks(picture(noise(), "PNG"), *(png_chunk(*text) for text in TEXTS))
    through(tmp_path, data, "a.png", f"b{target}")
    assert "PNG text 'parameters', 'prompt', 'workflow', 'Title' and 'Packed'" in caplog.text
