"""AVIF: pixels, EXIF, and Pillow without it; and what else is named as lost."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import torch
from PIL import Image

from codeformer_core.imaging.files import Picture, read_image, write_image

from .metadata_files import exif_in
from .picture_files import (
    ARTIST,
    DESCRIPTION,
    SRGB,
    Tag,
    exif_block,
    noise,
    picture,
    texts,
    tiff_block,
    values,
)

pytestmark = pytest.mark.filterwarnings("ignore:Corrupt EXIF data", "ignore:Truncated File Read")


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
