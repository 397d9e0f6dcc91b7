"""EXIF goes over as bytes, with the new size and orientation."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import torch
from PIL import Image

from codeformer_core.imaging.files import Picture, write_image

from .metadata_files import WITH_EXIF, exif_in, through, xmp_of
from .picture_files import (
    ARTIST,
    DESCRIPTION,
    MAKER_NOTE,
    PREFIX,
    XMP,
    Tag,
    entries,
    exif_block,
    noise,
    picture,
    png_chunk,
    segment,
    texts,
    tiff_block,
    tiff_file,
    values,
    with_chunks,
    with_segments,
)

pytestmark = pytest.mark.filterwarnings("ignore:Corrupt EXIF data", "ignore:Truncated File Read")


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
