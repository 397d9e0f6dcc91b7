"""Chunks of PNG files: colours, resolution, transparency go over, or are named."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
import torch

from codeformer_core.imaging.files import read_image, write_image

from .metadata_files import through
from .picture_files import (
    gray16_png,
    noise,
    picture,
    png_chunk,
    png_chunks,
    with_chunks,
)

pytestmark = pytest.mark.filterwarnings("ignore:Corrupt EXIF data", "ignore:Truncated File Read")


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
