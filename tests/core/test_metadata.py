"""What photos, files and workflows bring along goes over as bytes, or is named."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from codeformer_core.imaging.files import Picture, read_image, write_image

from .picture_files import (
    ARTIST,
    DESCRIPTION,
    IPTC,
    IPTC_BLOCK,
    MAKER_NOTE,
    PREFIX,
    SRGB,
    URL_BLOCK,
    XMP,
    Tag,
    entries,
    exif_block,
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
WITH_EXIF = (".jpg", ".png", ".webp", ".tif", ".avif")
XMP_IN_JPEG = b"http://ns.adobe.com/xap/1.0/\0" + XMP


def through(tmp_path: Path, data: bytes, source: str, target: str) -> bytes:
    """The bytes of the file that is written after reading `data`."""
    (tmp_path / source).write_bytes(data)
    write_image(tmp_path / f"made_{target}", read_image(tmp_path / source), overwrite=True)
    return (tmp_path / f"made_{target}").read_bytes()


def exif_in(data: bytes) -> dict[tuple[str, int], tuple[int, int, bytes]]:
    if data[:2] in (b"II", b"MM"):
        return entries(data)
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return entries(image.info["exif"])


# --- EXIF ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("target", WITH_EXIF)
@pytest.mark.parametrize("source", ["jpg", "png", "webp", "tif"])
def test_exif_goes_over_as_bytes(tmp_path, caplog, source, target, order):
    block = exif_block(order, size=(24, 16))
    data = {
        "jpg": lambda: with_segments(picture(noise(), "JPEG"), segment(0xE1, PREFIX + block)),
        "png": lambda: with_chunks(picture(noise(), "PNG"), png_chunk(b"eXIf", block)),
        "webp": lambda: picture(noise(), "WEBP", exif=block),
        "tif": lambda: tiff_file(noise(), order, texts(order), below_of(block, order)),
    }[source]()
    made = exif_in(through(tmp_path, data, f"a.{source}", f"b{target}"))
    before = entries(block)
    before.pop(("main", 0))  # the thumbnail of the old picture
    for (name, tag), entry in before.items():
        if tag not in (0x8769, 0x8825):
            assert made[name, tag] == entry, hex(tag)
    assert made["main", 0x010E][2] == DESCRIPTION + b"\0" and made["main", 0x013B][2] == ARTIST + b"\0"
    assert made["8769", 0x927C][2] == MAKER_NOTE
    assert ("main", 0) not in made and "not carried over" not in caplog.text


def below_of(block: bytes, order: str) -> dict[int, list[Tag]]:
    """The directories below the main one, as tags of another file."""
    found = entries(block)
    return {
        number: [
            Tag(tag, kind, count, content)
            for (name, tag), (kind, count, content) in found.items()
            if name == f"{number:x}"
        ]
        for number in (0x8769, 0x8825)
    }


@pytest.mark.parametrize("target", [".jpg", ".png", ".webp"])
def test_exif_that_fits_is_the_same_to_the_last_byte(tmp_path, target):
    block = tiff_block(">", texts(">"), {0x8769: [Tag(0x927C, 7, len(MAKER_NOTE), MAKER_NOTE)]})
    data = with_segments(picture(noise(), "JPEG"), segment(0xE1, PREFIX + block))
    with Image.open(io.BytesIO(through(tmp_path, data, "a.jpg", f"b{target}"))) as image:
        assert image.info["exif"].removeprefix(PREFIX) == block


def test_maker_notes_stay_where_they_point_to_in_a_tiff(tmp_path):
    block = exif_block(">")
    data = with_segments(picture(noise(), "JPEG"), segment(0xE1, PREFIX + block))
    made = through(tmp_path, data, "a.jpg", "b.tif")
    assert made.index(MAKER_NOTE) == block.index(MAKER_NOTE) and made.startswith(b"MM")


@pytest.mark.parametrize("orientation", [3, 6])
@pytest.mark.parametrize("target", WITH_EXIF)
def test_exif_and_xmp_tell_the_new_orientation_and_size(tmp_path, target, orientation):
    block = exif_block("<", orientation, size=(24, 16))
    packet = XMP.replace(b'Orientation="1"', b'Orientation="%d"' % orientation)
    data = with_segments(
        picture(noise(), "JPEG"),
        segment(0xE1, PREFIX + block),
        segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + packet),
    )
    made = through(tmp_path, data, "a.jpg", f"b{target}")
    found = exif_in(made)
    assert found.get(("main", 0x0112), (3, 1, b"\1\0"))[2] == b"\1\0"
    size = (24, 16) if orientation == 3 else (16, 24)
    assert found["8769", 0xA002][2] + found["8769", 0xA003][2] == values(*size, letter="I")
    with Image.open(io.BytesIO(made)) as image:
        assert image.size == size
        assert xmp_of(image) == XMP


def xmp_of(image: Image.Image) -> bytes | None:
    tags = getattr(image, "tag_v2", {})
    packet = tags.get(700) or image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")
    return packet.encode() if isinstance(packet, str) else packet


def test_sizes_in_exif_follow_an_enlargement(tmp_path):
    picture_of = Picture(torch.zeros(32, 48, 3), exif=exif_block("<", size=(24, 16)))
    write_image(tmp_path / "a.jpg", picture_of)
    found = exif_in((tmp_path / "a.jpg").read_bytes())
    assert found["8769", 0xA002][2] == values(48, letter="I")


@pytest.mark.parametrize("part", [0.1, 0.5, 0.8])
def test_exif_cut_short_costs_what_is_missing_and_a_warning(tmp_path, caplog, part):
    block = exif_block("<")
    cut = block[: int(block.index(b"\xff\xd8") * part)]  # before the thumbnail
    data = with_chunks(picture(noise(), "PNG"), png_chunk(b"eXIf", cut))
    made = through(tmp_path, data, "a.png", "b.png")
    assert "EXIF data" in caplog.text and "left out" in caplog.text
    with Image.open(io.BytesIO(made)) as image:
        assert np.array_equal(image, noise())
        kept = entries(image.info["exif"]) if "exif" in image.info else {}
    whole = entries(block)
    assert all(whole[key] == entry for key, entry in kept.items() if key[1] not in (0, 0x8769, 0x8825))


def test_directories_that_repeat_one_value_do_not_fill_the_memory(tmp_path, caplog):
    content = bytes(200_000)
    data = tiff_file(noise(), "<", [Tag(50000, 7, len(content), content)])
    at = data.index(struct.pack("<HHI", 50000, 7, len(content)))
    # A hundred entries, all pointing to the same bytes: behind the file, as a directory of its own.
    (first,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, first)
    lines = data[first + 2 : first + 2 + 12 * (count - 1)]
    repeated = b"".join(struct.pack("<H", 50000 + number) + data[at + 2 : at + 12] for number in range(100))
    directory = struct.pack("<H", count - 1 + 100) + lines + repeated + bytes(4)
    bomb = data[:4] + struct.pack("<I", len(data)) + data[8:] + directory
    made = through(tmp_path, bomb, "a.tif", "b.tif")
    assert len(made) < 2 * len(bomb) and "too large and left out" in caplog.text
    with Image.open(io.BytesIO(made)) as image:
        assert np.array_equal(image, noise())


# --- XMP, IPTC, comments ---------------------------------------------------------------------------------------------


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


# --- PNG -------------------------------------------------------------------------------------------------------------

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


COLOURS = (
    (b"cICP", bytes((9, 16, 0, 1))),
    (b"gAMA", struct.pack(">I", 100_000)),
    (b"cHRM", struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)),
    (b"mDCV", bytes(24)),
    (b"cLLI", bytes(8)),
)


@pytest.mark.parametrize("depth", [8, 16])
def test_colour_chunks_go_over(tmp_path, caplog, depth):
    chunks = [png_chunk(*colour) for colour in (*COLOURS, (b"sRGB", b"\0"))]
    gray = np.arange(24 * 16, dtype=np.uint16).reshape(16, 24) * 100
    data = gray16_png(gray, *chunks) if depth == 16 else with_chunks(picture(noise(), "PNG"), *chunks)
    made = png_chunks(through(tmp_path, data, "a.png", "b.png"))
    assert set(COLOURS) | {(b"sRGB", b"\0")} <= set(made) and not caplog.records
    assert [kind for kind, _ in made].index(b"IDAT") > [kind for kind, _ in made].index(b"cLLI")


def test_colour_chunks_are_named_where_colours_would_look_different(tmp_path, caplog):
    data = with_chunks(picture(noise(), "PNG"), png_chunk(*COLOURS[1]))
    through(tmp_path, data, "a.png", "b.jpg")
    assert "gAMA" in caplog.text
    caplog.clear()
    usual = with_chunks(
        picture(noise(), "PNG"), png_chunk(b"gAMA", struct.pack(">I", 45455)), png_chunk(b"sRGB", b"\0")
    )
    through(tmp_path, usual, "a.png", "b.jpg")
    assert not caplog.records


def test_other_chunks_are_copied_where_the_standard_allows_it(tmp_path, caplog):
    safe, unsafe = png_chunk(b"priv", b"may stay"), png_chunk(b"caBX", b"signed")
    data = with_chunks(picture(noise(), "PNG"), safe, unsafe, png_chunk(b"tIME", bytes(7)))
    made = png_chunks(through(tmp_path, data, "a.png", "b.png"))
    assert (b"priv", b"may stay") in made and not {b"caBX", b"tIME"} & {kind for kind, _ in made}
    assert "its caBX chunk describes the unchanged image and is left out" in caplog.text
    caplog.clear()
    through(tmp_path, data, "a.png", "b.webp")
    assert "priv chunk" in caplog.text


@pytest.mark.parametrize("mode", ["RGB", "L", "P"])
def test_the_background_colour_goes_over(tmp_path, mode):
    image = noise(mode)
    background = {"RGB": struct.pack(">3H", 9, 8, 7), "L": struct.pack(">H", 5), "P": b"\3"}[mode]
    plain = picture(image, "PNG")
    at = plain.index(b"IDAT") - 4
    data = plain[:at] + png_chunk(b"bKGD", background) + plain[at:]
    expected = struct.pack(">3H", *image.getpalette()[9:12]) if mode == "P" else background
    assert (b"bKGD", expected) in png_chunks(through(tmp_path, data, "a.png", "b.png"))


@pytest.mark.parametrize(("unit", "name"), [(1, "dpi"), (0, "aspect")])
def test_resolution_and_pixel_shape_go_over(tmp_path, unit, name):
    data = with_chunks(picture(noise(), "PNG"), png_chunk(b"pHYs", struct.pack(">IIB", 11811, 5906, unit)))
    assert (b"pHYs", struct.pack(">IIB", 11811, 5906, unit)) in png_chunks(through(tmp_path, data, "a.png", "b.png"))
    for target in (".jpg", ".tif"):
        made = through(tmp_path, data, "a.png", f"b{target}")
        (tmp_path / f"b{target}").write_bytes(made)
        found = read_image(tmp_path / f"b{target}")
        if unit:
            assert found.dpi == pytest.approx((300, 150), abs=0.1)
        else:
            assert found.metadata.aspect == (11811, 5906) and found.dpi is None


# --- transparency ----------------------------------------------------------------------------------------------------


def test_16_bit_gray_with_a_transparent_value_keeps_it(tmp_path):
    gray = np.random.default_rng(1).integers(0, 65536, (16, 24), dtype=np.uint16)
    gray[3:7, 5:9] = 30355
    data = gray16_png(gray, png_chunk(b"tRNS", struct.pack(">H", 30355)))
    (tmp_path / "a.png").write_bytes(data)
    found = read_image(tmp_path / "a.png")
    assert found.bit_depth == 16 and found.gray
    np.testing.assert_array_equal(found.image_HWC[..., 3].numpy() == 0, gray == 30355)
    write_image(tmp_path / "b.png", found)
    again = read_image(tmp_path / "b.png")
    assert torch.equal(again.image_HWC, found.image_HWC)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_gray_of_few_bits_with_a_transparent_value(tmp_path, depth):
    top = (1 << depth) - 1
    gray = np.random.default_rng(depth).integers(0, top + 1, (16, 24), dtype=np.uint8)
    bits = np.unpackbits(gray[..., None], axis=2)[..., 8 - depth :].reshape(16, -1)
    rows = b"".join(b"\0" + np.packbits(row).tobytes() for row in bits)
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 24, 16, depth, 0, 0, 0, 0))
    key = png_chunk(b"tRNS", struct.pack(">H", top - 1 if depth > 1 else 1))
    end = png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + key + end)
    found = read_image(tmp_path / "a.png").image_HWC.numpy()
    np.testing.assert_array_equal(found[..., 3] == 0, gray == (top - 1 if depth > 1 else 1))
    np.testing.assert_allclose(found[..., 0], gray / top, atol=1e-6)


def test_rgb_of_16_bits_with_a_transparent_colour(tmp_path):
    pixels = np.random.default_rng(2).integers(0, 65536, (16, 24, 3), dtype=np.uint16)
    pixels[2, 3] = pixels[9, 1]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 24, 16, 16, 2, 0, 0, 0))
    key = png_chunk(b"tRNS", struct.pack(">3H", *pixels[2, 3].tolist()))
    end = png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + key + end)
    clear = read_image(tmp_path / "a.png").image_HWC[..., 3].numpy() == 0
    assert clear.sum() == 2 and clear[2, 3] and clear[9, 1]


# --- parts too large or broken ---------------------------------------------------------------------------------------


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


# --- pictures cut short ----------------------------------------------------------------------------------------------


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


# --- formats ---------------------------------------------------------------------------------------------------------


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


avif = pytest.mark.skipif("AVIF" not in (Image.init(), Image.SAVE)[1], reason="this Pillow has no AVIF")


@avif
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_avif_is_read_and_written(tmp_path, mode):
    image = noise(mode).resize((96, 64))
    data = picture(image, "AVIF", quality=100, subsampling="4:4:4", icc_profile=SRGB if mode != "L" else None)
    (tmp_path / "named.jpg").write_bytes(data)
    found = read_image(tmp_path / "named.jpg")
    assert found.format == "AVIF" and found.has_alpha == (mode == "RGBA")
    write_image(tmp_path / "b.avif", found)
    with Image.open(tmp_path / "b.avif") as made, Image.open(io.BytesIO(data)) as before:
        assert made.format == "AVIF" and made.info.get("icc_profile") == before.info.get("icc_profile")
        difference = np.abs(np.asarray(made.convert("RGB"), float) - np.asarray(before.convert("RGB"), float))
        assert difference.mean() < 2


@avif
@pytest.mark.parametrize("damage", ["cut", "mdat", "iloc"])
def test_a_damaged_avif_is_refused_by_name(tmp_path, damage):
    data = picture(noise(), "AVIF")
    if damage == "cut":
        data = data[:-50]
    else:
        at = data.index(damage.encode()) + 4
        data = data[:at] + b"\xff" * 40 + data[at + 40 :]
    (tmp_path / "a.avif").write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.avif: .*(damaged|decode)"):
        read_image(tmp_path / "a.avif")


@avif
@pytest.mark.parametrize("inside", [None, 1, 6])
def test_exif_of_an_avif_is_that_of_the_file_whatever_turns_its_pixels(tmp_path, inside):
    """The container's orientation and the one in EXIF may differ; Pillow makes a new EXIF block then."""
    image = noise(size=(24, 16))
    # An orientation in EXIF becomes the container's when Pillow writes; EXIF gets another one behind its back.
    turned = tiff_block("<", [*texts("<"), Tag(0x0112, 3, 1, values(6))], {})
    data = picture(image, "AVIF", exif=turned, quality=100, subsampling="4:4:4")
    block = tiff_block("<", texts("<") + ([] if inside is None else [Tag(0x0112, 3, 1, values(inside))]), {})
    with Image.open(io.BytesIO(data)) as opened:
        assert opened.getexif()[0x0112] == 6
    (tmp_path / "a.avif").write_bytes(replaced_exif(data, block))
    found = read_image(tmp_path / "a.avif")
    assert found.image_HWC.shape[:2] == (24, 16)
    write_image(tmp_path / "b.jpg", found)
    made = exif_in((tmp_path / "b.jpg").read_bytes())
    assert made["main", 0x010E][2] == DESCRIPTION + b"\0" and made["main", 0x013B][2] == ARTIST + b"\0"
    assert made.get(("main", 0x0112), (3, 1, b"\1\0"))[2] == b"\1\0"


def replaced_exif(data: bytes, block: bytes) -> bytes:
    """The file with other EXIF at its end: the item's place and length are looked for in the container's boxes."""
    begin = next(at for at in (data.find(b"II*\0"), data.find(b"MM\0*")) if at > 0)
    for at in range(data.index(b"iloc"), data.index(b"mdat")):
        start, size = struct.unpack_from(">II", data, at)
        if start <= begin < start + size < len(data) and start > data.index(b"mdat"):
            moved = struct.pack(">II", len(data), len(block) + 4)
            return data[:at] + moved + data[at + 8 :] + bytes(4) + block
    raise AssertionError("no EXIF item")


def test_avif_without_a_pillow_for_it_names_the_cure(tmp_path, monkeypatch):
    (tmp_path / "a.avif").write_bytes(b"\0\0\0\x20ftypavif\0\0\0\0avifmif1miafMA1B" + bytes(60))
    monkeypatch.setattr(Image, "SAVE", {key: value for key, value in Image.SAVE.items() if key != "AVIF"})
    with pytest.raises(ImportError, match=r"a\.avif: AVIF needs Pillow 11\.3.*pip install --upgrade pillow"):
        read_image(tmp_path / "a.avif")
    with pytest.raises(ImportError, match=r"b\.avif: AVIF needs Pillow"):
        write_image(tmp_path / "b.avif", Picture(torch.zeros(4, 4, 3)))


def test_floats_far_outside_are_named_with_the_fix(tmp_path):
    with pytest.raises(ValueError, match=r"a\.png: not written.*from 0 to 255.*divide 8-bit values by 255"):
        write_image(tmp_path / "a.png", Picture(torch.tensor([[[0.0, 128.0, 255.0]]])))
    assert not (tmp_path / "a.png").exists()


def test_each_other_loss_is_named(tmp_path, caplog):
    deep = Picture(torch.rand(4, 4, 4), bit_depth=16, icc_profile=SRGB, exif=exif_block(), dpi=(300, 300))
    write_image(tmp_path / "a.bmp", deep)
    for words in ("no transparency", "8 bits per channel", "colour profile", "EXIF"):
        assert words in caplog.text
    caplog.clear()
    write_image(tmp_path / "b.webp", Picture(torch.rand(4, 4, 3), dpi=(300, 300)))
    assert "the resolution" in caplog.text
    caplog.clear()
    gray_profile = SRGB[:16] + b"GRAY" + SRGB[20:]
    write_image(tmp_path / "c.png", Picture(torch.rand(4, 4, 3), icc_profile=gray_profile))
    assert "its colour profile, which is for GRAY and not for RGB pixels" in caplog.text
