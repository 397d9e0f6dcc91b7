"""Picture files: what goes in comes out, at its own depth; bad files are refused by name and nothing is left
behind."""

from __future__ import annotations

import dataclasses
import errno
import io
import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, ImageOps

from codeformer_core.imaging.codecs import encode as pictures_encode
from codeformer_core.imaging.files import Picture, read_image, write_image
from codeformer_core.runtime import memory
from codeformer_core.runtime.errors import ExistingFileError

# Pillow's own remarks about the damaged files that are made here.
pytestmark = pytest.mark.filterwarnings("ignore:Corrupt EXIF data", "ignore:Truncated File Read")

HEIGHT, WIDTH = 9, 14
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def noise(channels: int, dtype: type = np.uint8) -> np.ndarray:
    top = int(np.iinfo(dtype).max)
    return np.random.default_rng(channels).integers(0, top, (HEIGHT, WIDTH, channels), dtype=dtype, endpoint=True)


def as_integers(picture: Picture) -> np.ndarray:
    steps = 2**picture.bit_depth - 1
    return (picture.image_HWC * steps).round().numpy().astype(np.uint16 if steps > 255 else np.uint8)


def picture_of(pixels: np.ndarray, **fields) -> Picture:
    steps = int(np.iinfo(pixels.dtype).max)
    image_HWC = torch.from_numpy(pixels.astype(np.float32) / steps)
    return Picture(image_HWC, bit_depth=16 if steps > 255 else 8, **fields)


# --- round trips
# ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
@pytest.mark.parametrize("channels", [3, 4])
def test_8_bit_round_trip_is_exact_where_the_format_is_lossless(tmp_path, suffix, channels):
    pixels = noise(channels)
    write_image(tmp_path / f"a{suffix}", picture_of(pixels))
    back = read_image(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(as_integers(back), pixels)
    assert back.bit_depth == 8 and back.lossless and not back.gray


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_16_bit_is_kept_to_the_last_bit(tmp_path, suffix, channels):
    pixels = noise(channels, np.uint16)
    rgb = np.repeat(pixels, 3, axis=2) if channels == 1 else pixels
    write_image(tmp_path / f"a{suffix}", picture_of(rgb, gray=channels == 1))
    back = read_image(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(as_integers(back), rgb)
    assert back.bit_depth == 16 and back.gray == (channels == 1)
    # OpenCV as a second reader: right values, and gray really stored as one channel.
    stored = cv2.imread(str(tmp_path / f"a{suffix}"), cv2.IMREAD_UNCHANGED)
    expected = pixels[..., 0] if channels == 1 else pixels[..., [2, 1, 0, 3][:channels]]
    np.testing.assert_array_equal(stored, expected)


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_16_bit_files_of_other_programs(tmp_path, suffix):
    pixels = noise(3, np.uint16)
    cv2.imwrite(str(tmp_path / f"a{suffix}"), pixels[..., ::-1])
    back = read_image(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(as_integers(back), pixels)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_gray_with_alpha_is_kept(tmp_path, suffix):
    gray, alpha = noise(1, np.uint16), noise(4, np.uint16)[..., 3:]
    pixels = np.concatenate([gray, gray, gray, alpha], axis=2)
    write_image(tmp_path / f"a{suffix}", picture_of(pixels, gray=True, icc_profile=SRGB))
    back = read_image(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(as_integers(back), pixels)
    assert back.icc_profile == SRGB


def test_white_is_zero_and_premultiplied_tiffs(tmp_path):
    gray = noise(1, np.uint16)
    write_image(tmp_path / "gray.tif", picture_of(np.repeat(gray, 3, axis=2), gray=True))
    patch_tiff(tmp_path / "gray.tif", 262, 0)
    np.testing.assert_array_equal(as_integers(read_image(tmp_path / "gray.tif"))[..., :1], 65535 - gray)

    pixels = np.full((HEIGHT, WIDTH, 4), (1000, 2000, 4000, 32768), dtype=np.uint16)
    write_image(tmp_path / "rgba.tif", picture_of(pixels))
    patch_tiff(tmp_path / "rgba.tif", 338, 1)
    np.testing.assert_allclose(as_integers(read_image(tmp_path / "rgba.tif"))[0, 0], (2000, 4000, 8000, 32768), atol=1)


def patch_tiff(path: Path, tag: int, value: int) -> None:
    data = bytearray(path.read_bytes())
    (directory,) = struct.unpack_from("<I", data, 4)
    (entries,) = struct.unpack_from("<H", data, directory)
    for position in range(directory + 2, directory + 2 + 12 * entries, 12):
        if struct.unpack_from("<H", data, position) == (tag,):
            struct.pack_into("<H", data, position + 8, value)
            path.write_bytes(data)
            return
    raise AssertionError(f"no tag {tag}")


def test_8_bits_are_rounded_not_truncated(tmp_path):
    image_HWC = torch.full((2, 2, 3), 100.6 / 255)
    image_HWC[0, 0] = torch.tensor([-0.5, 1.5, 0.0])
    write_image(tmp_path / "a.png", Picture(image_HWC))
    pixels = np.asarray(Image.open(tmp_path / "a.png"))
    assert pixels[1, 1].tolist() == [101, 101, 101] and pixels[0, 0].tolist() == [0, 255, 0]


def test_16_bit_source_becomes_8_bit_jpeg_of_quality_95(tmp_path):
    smooth = np.linspace(0, 65535, 64, dtype=np.uint16)[None, :, None].repeat(48, 0).repeat(3, 2)
    write_image(tmp_path / "a.jpg", picture_of(smooth))
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.format == "JPEG"
        assert np.abs(np.asarray(image, dtype=float) - smooth / 257).max() <= 2
        reference = io.BytesIO()
        image.save(reference, "JPEG", quality=95)
        assert Image.open(reference).quantization == image.quantization


@pytest.mark.parametrize("lossless", [True, False])
def test_webp_is_lossless_when_the_source_was(tmp_path, lossless):
    # 100 dpi and EXIF make it an extended file, whose frame has to be looked for.
    write_image(tmp_path / "a.webp", picture_of(noise(4), lossless=lossless, exif=Image.Exif().tobytes()))
    assert read_image(tmp_path / "a.webp").lossless == lossless
    write_image(tmp_path / "b.webp", picture_of(noise(3), lossless=lossless))
    assert read_image(tmp_path / "b.webp").lossless == lossless


@pytest.mark.parametrize("suffix", [".jpg", ".bmp"])
def test_alpha_is_dropped_with_a_warning_where_there_is_no_place_for_it(tmp_path, suffix, caplog):
    write_image(tmp_path / f"a{suffix}", picture_of(noise(4)))
    assert "transparency" in caplog.text and f"a{suffix}" in caplog.text
    assert not read_image(tmp_path / f"a{suffix}").has_alpha
    caplog.clear()
    opaque = noise(4)
    opaque[..., 3] = 255
    write_image(tmp_path / f"b{suffix}", picture_of(opaque))
    assert not caplog.records


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".bmp"])
def test_gray_is_remembered_and_written_gray_unless_it_became_colour(tmp_path, suffix):
    gray = Image.fromarray(np.full((HEIGHT, WIDTH), 77, dtype=np.uint8))
    gray.save(tmp_path / f"a{suffix}")
    picture = read_image(tmp_path / f"a{suffix}")
    assert picture.gray and picture.image_HWC.shape == (HEIGHT, WIDTH, 3)
    write_image(tmp_path / f"b{suffix}", picture)
    assert Image.open(tmp_path / f"b{suffix}").mode in ("L", "P")
    nearly = torch.tensor([0.0, 0.4, 0.0]) / 255  # what computing leaves
    write_image(tmp_path / f"d{suffix}", dataclasses.replace(picture, image_HWC=picture.image_HWC + nearly))
    assert Image.open(tmp_path / f"d{suffix}").mode in ("L", "P")
    coloured = dataclasses.replace(picture, image_HWC=picture.image_HWC * torch.tensor([1.0, 0.5, 0.2]))
    write_image(tmp_path / f"c{suffix}", coloured)
    assert Image.open(tmp_path / f"c{suffix}").mode == "RGB"


@pytest.mark.parametrize(
    ("mode", "transparent"),
    [("1", False), ("L", False), ("LA", True), ("P", False), ("PA", True), ("RGBA", True), ("CMYK", False)],
)
def test_every_pillow_mode_arrives_as_rgb_or_rgba(tmp_path, mode, transparent):
    image = Image.fromarray(noise(3)).convert("RGBA" if mode == "PA" else "RGB").convert(mode)
    image.save(tmp_path / "a.tif")
    picture = read_image(tmp_path / "a.tif")
    assert picture.has_alpha == transparent
    expected = np.asarray(image.convert("RGBA" if transparent else "RGB"))
    np.testing.assert_array_equal(as_integers(picture), expected)


def test_palette_and_colour_key_transparency(tmp_path):
    image = Image.fromarray(noise(3)).quantize(8)
    image.save(tmp_path / "palette.png", transparency=3)
    picture = read_image(tmp_path / "palette.png")
    np.testing.assert_array_equal(picture.image_HWC[..., 3].numpy() == 0, np.asarray(image) == 3)
    Image.fromarray(noise(3)).save(tmp_path / "key.png", transparency=tuple(noise(3)[2, 5].tolist()))
    assert read_image(tmp_path / "key.png").image_HWC[2, 5, 3] == 0


def test_non_ascii_and_spaced_names(tmp_path):
    for name in ("größe 写真.png", "größe 写真 16.png"):
        pixels = noise(3, np.uint16 if "16" in name else np.uint8)
        write_image(tmp_path / name, picture_of(pixels))
        np.testing.assert_array_equal(as_integers(read_image(tmp_path / name)), pixels)


# --- what travels along
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".jpg"])
def test_orientation_is_applied_and_not_written_again(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, "camera maker"
    exif.get_ifd(0x8769).update({0x829A: 0.5, 0xA002: WIDTH})
    smooth = Image.fromarray(noise(3)).resize((WIDTH * 2, HEIGHT * 2))
    smooth.save(tmp_path / f"a{suffix}", exif=exif, dpi=(72, 144), **({"lossless": True} if suffix == ".webp" else {}))
    with Image.open(tmp_path / f"a{suffix}") as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    picture = read_image(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(as_integers(picture), expected)
    write_image(tmp_path / f"b{suffix}", picture)
    with Image.open(tmp_path / f"b{suffix}") as image:
        kept = image.getexif()
        assert kept.get(0x0112, 1) == 1 and kept[0x010F] == "camera maker"
        if suffix != ".tif":  # Pillow has written no EXIF directory into the source
            assert kept.get_ifd(0x8769)[0x829A] == 0.5 and kept.get_ifd(0x8769)[0xA002] == expected.shape[1]
        assert image.size == expected.shape[1::-1]
        if suffix != ".webp":
            assert image.info["dpi"] == pytest.approx((144, 72) if orientation > 4 else (72, 144), abs=0.1)


@pytest.mark.parametrize("orientation", [1, 6])
def test_orientation_of_16_bit_files_is_applied_once(tmp_path, orientation):
    pixels = noise(3, np.uint16)
    exif = Image.Exif()
    exif[0x0112] = orientation
    expected = pixels if orientation == 1 else np.rot90(pixels, -1)
    write_image(tmp_path / "a.png", picture_of(pixels, exif=exif.tobytes()))
    np.testing.assert_array_equal(as_integers(read_image(tmp_path / "a.png")), expected)
    write_image(tmp_path / "a.tif", picture_of(pixels, dpi=(300, 300)))
    # No orientation tag of our own to patch: ResolutionUnit (296) becomes Orientation (274), out of order but
    # legal enough for every reader.
    data = (tmp_path / "a.tif").read_bytes()
    at = data.rindex(struct.pack("<HHI", 296, 3, 1))
    (tmp_path / "a.tif").write_bytes(data[:at] + struct.pack("<HHIHH", 274, 3, 1, orientation, 0) + data[at + 12 :])
    np.testing.assert_array_equal(as_integers(read_image(tmp_path / "a.tif")), expected)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".jpg"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_profile_resolution_and_camera_are_kept(tmp_path, suffix, dtype):
    exif = Image.Exif()
    exif[0x010F] = "camera maker"
    source = picture_of(noise(3, dtype), icc_profile=SRGB, dpi=(240, 240), exif=exif.tobytes())
    write_image(tmp_path / f"a{suffix}", source)
    back = read_image(tmp_path / f"a{suffix}")
    assert back.icc_profile == SRGB
    assert back.bit_depth == (16 if dtype is np.uint16 and suffix in (".png", ".tif") else 8)
    with Image.open(tmp_path / f"a{suffix}") as image:
        assert image.getexif()[0x010F] == "camera maker"
    if suffix != ".webp":
        assert back.dpi == pytest.approx((240, 240), abs=0.02)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".jpg"])
@pytest.mark.parametrize("per_meter", [1, 2**32 - 1])
def test_a_resolution_that_is_nonsense_does_not_cost_the_picture(tmp_path, suffix, per_meter):
    pixels = noise(3)
    write_image(tmp_path / "a.png", picture_of(pixels, dpi=(240, 240)))
    data = (tmp_path / "a.png").read_bytes()
    at = data.index(b"pHYs")
    chunk = b"pHYs" + struct.pack(">IIB", per_meter, per_meter, 1)
    chunk += struct.pack(">I", zlib.crc32(chunk))
    (tmp_path / "a.png").write_bytes(data[:at] + chunk + data[at + len(chunk) :])
    picture = read_image(tmp_path / "a.png")
    assert picture.dpi is None
    write_image(tmp_path / f"b{suffix}", picture)
    assert read_image(tmp_path / f"b{suffix}").image_HWC.shape == picture.image_HWC.shape


def test_exif_too_long_for_jpeg_is_left_out_with_a_warning(tmp_path, caplog):
    exif = Image.Exif()
    exif[0x010E] = "description " * 6000
    source = picture_of(noise(3), exif=exif.tobytes())
    write_image(tmp_path / "a.jpg", source)
    assert "a.jpg: not carried over into JPEG: EXIF data of 72," in caplog.text and "too many for JPEG" in caplog.text
    with Image.open(tmp_path / "a.jpg") as image:
        assert len(image.getexif()) == 0
    write_image(tmp_path / "a.png", source)
    assert read_image(tmp_path / "a.png").exif == exif.tobytes()


def test_a_picture_written_in_strips_is_the_same(tmp_path, monkeypatch):
    pixels = noise(4, np.uint16)
    monkeypatch.setattr(pictures_encode, "_STRIP_VALUES", 4 * WIDTH * 4)  # strips of 4, 4 and 1 rows
    write_image(tmp_path / "a.png", picture_of(pixels))
    np.testing.assert_array_equal(as_integers(read_image(tmp_path / "a.png")), pixels)


def test_a_gray_profile_does_not_get_into_a_colour_file(tmp_path):
    gray_profile = SRGB[:16] + b"GRAY" + SRGB[20:]
    write_image(tmp_path / "a.png", picture_of(noise(3), icc_profile=gray_profile, gray=True))
    assert read_image(tmp_path / "a.png").icc_profile is None


def test_cmyk_goes_through_its_profile_when_that_is_usable(tmp_path, caplog):
    Image.new("CMYK", (4, 4), (0, 255, 255, 0)).save(tmp_path / "a.jpg", icc_profile=b"x" * 200)
    picture = read_image(tmp_path / "a.jpg")
    assert "CMYK colour profile is unusable" in caplog.text
    assert picture.image_HWC[0, 0, 0] > 0.9 and picture.image_HWC[0, 0, 1] < 0.1 and picture.icc_profile is None


def test_the_first_picture_of_an_animation_with_a_warning(tmp_path, caplog):
    frames = [Image.fromarray(np.full((HEIGHT, WIDTH, 3), value, dtype=np.uint8)) for value in (10, 200)]
    for name in ("a.png", "a.webp", "a.gif", "a.tif"):
        caplog.clear()
        options = {"lossless": True} if name == "a.webp" else {}
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
        assert as_integers(read_image(tmp_path / name))[0, 0].tolist() == [10, 10, 10]
        assert name in caplog.text and "only the first" in caplog.text


def test_damaged_exif_does_not_cost_the_picture(tmp_path, caplog):
    Image.fromarray(noise(3)).save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x12\x01" * 40)
    assert read_image(tmp_path / "a.jpg").image_HWC.shape == (HEIGHT, WIDTH, 3)


# --- bad files
# -------------------------------------------------------------------------------------------------------


def zero_sized_png() -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 0, 5, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"hello, I am a letter", "not an image"),
        (b"\x89PNG\r\n\x1a\n", "truncated"),
        (zero_sized_png(), "no pixels"),
    ],
)
def test_what_is_no_picture_is_refused_by_name(tmp_path, content, reason):
    (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(ValueError, match=reason) as caught:
        read_image(tmp_path / "bad.png")
    assert "bad.png" in str(caught.value)


def test_a_gray_jpeg_of_one_pixel_is_whole(tmp_path):
    Image.new("L", (1, 1), 128).save(tmp_path / "a.jpg")
    assert read_image(tmp_path / "a.jpg", strict=True).image_HWC.shape[:2] == (1, 1)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".bmp"])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.97])
def test_truncated_files_are_refused_by_name(tmp_path, suffix, part):
    write_image(tmp_path / f"a{suffix}", picture_of(np.repeat(noise(3), 20, axis=0)))
    data = (tmp_path / f"a{suffix}").read_bytes()
    (tmp_path / f"cut{suffix}").write_bytes(data[: int(len(data) * part)])
    with pytest.raises(ValueError, match=f"cut{suffix}"):
        read_image(tmp_path / f"cut{suffix}", strict=True)
    if suffix != ".jpg":
        with pytest.raises(ValueError, match=f"cut{suffix}"):
            read_image(tmp_path / f"cut{suffix}")


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.97])
def test_truncated_16_bit_files_are_refused_without_noise(tmp_path, suffix, part, capfd):
    cv2.imwrite(str(tmp_path / f"a{suffix}"), np.repeat(noise(3, np.uint16), 20, axis=0))
    data = (tmp_path / f"a{suffix}").read_bytes()
    (tmp_path / f"cut{suffix}").write_bytes(data[: int(len(data) * part)])
    with pytest.raises(ValueError, match=f"cut{suffix}"):
        read_image(tmp_path / f"cut{suffix}")
    assert capfd.readouterr().err == ""


def test_a_16_bit_png_with_a_wrong_byte_is_refused(tmp_path):
    write_image(tmp_path / "a.png", picture_of(noise(3, np.uint16)))
    data = bytearray((tmp_path / "a.png").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.png.*checksum"):
        read_image(tmp_path / "a.png")


def test_floating_point_and_other_depths_are_refused_with_the_cure(tmp_path):
    Image.new("F", (4, 4), 0.5).save(tmp_path / "float.tif")
    with pytest.raises(ValueError, match=r"float\.tif.*save it with 8 or 16 bits"):
        read_image(tmp_path / "float.tif")
    Image.new("I", (4, 4), 5).save(tmp_path / "int.tif")
    with pytest.raises(ValueError, match=r"int\.tif"):
        read_image(tmp_path / "int.tif")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ValueError, match=r"pipe\.png: a pipe or device, not an image file"):
        read_image(tmp_path / "pipe.png")


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_image(tmp_path / "nothing.png")
    with pytest.raises(OSError, match="folder"):
        (tmp_path / "folder.png").mkdir()
        read_image(tmp_path / "folder.png")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif", ".webp"])
def test_memory_is_stated_from_the_header_before_decoding(tmp_path, suffix, monkeypatch):
    asked: list[tuple[int, str]] = []

    def refuse(needed: int, device: object, what: str) -> None:
        asked.append((needed, what))
        raise ValueError(f"{what}: too much")

    monkeypatch.setattr(memory, "require", refuse)
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded before memory was asked for"))
    data = encoded(suffix)
    (tmp_path / f"a{suffix}").write_bytes(data)
    with pytest.raises(ValueError, match=rf"a{suffix}.*{WIDTH}x{HEIGHT}.*too much"):
        read_image(tmp_path / f"a{suffix}")
    assert asked[0][0] >= WIDTH * HEIGHT * (3 + 12)


def encoded(suffix: str) -> bytes:
    written, data = cv2.imencode(suffix, noise(3))
    assert written
    return data.tobytes()


def test_pillows_own_limit_neither_stops_a_large_picture_nor_stays_changed(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)  # the file has more than twice as many
    for suffix in (".png", ".jpg", ".webp", ".tif", ".bmp"):
        (tmp_path / f"a{suffix}").write_bytes(encoded(suffix))
        assert read_image(tmp_path / f"a{suffix}").image_HWC.shape == (HEIGHT, WIDTH, 3)
        assert Image.MAX_IMAGE_PIXELS == 20
    (tmp_path / "bad.png").write_bytes(encoded(".png")[:100])
    with pytest.raises(ValueError, match=r"bad\.png"):
        read_image(tmp_path / "bad.png")
    assert Image.MAX_IMAGE_PIXELS == 20


def test_a_declared_20000_by_20000_is_refused_by_memory_not_by_pillow(tmp_path, monkeypatch):
    data = bytearray(encoded(".bmp"))
    struct.pack_into("<ii", data, 18, 20000, 20000)
    (tmp_path / "huge.bmp").write_bytes(data)
    monkeypatch.setattr(memory, "free_bytes", lambda device: 1 << 30)
    with pytest.raises(ValueError, match=r"huge\.bmp.*20000x20000.*GiB"):
        read_image(tmp_path / "huge.bmp")


# --- writing safely
# --------------------------------------------------------------------------------------------------


def test_an_existing_file_is_kept_unless_overwriting_is_asked_for(tmp_path):
    path = tmp_path / "a.png"
    write_image(path, picture_of(noise(3)))
    before = path.read_bytes()
    with pytest.raises(ExistingFileError, match="exists already") as caught:
        write_image(path, picture_of(noise(4)))
    assert caught.value.filename == str(path) and path.read_bytes() == before
    write_image(path, picture_of(noise(4)), overwrite=True)
    assert read_image(path).has_alpha
    assert os.listdir(tmp_path) == ["a.png"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EIO])
def test_a_failing_disk_leaves_nothing_half_written(tmp_path, monkeypatch, code):
    write_image(tmp_path / "a.png", picture_of(noise(3)))
    before = (tmp_path / "a.png").read_bytes()

    def fail(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match=r"a\.png") as caught:
        write_image(tmp_path / "a.png", picture_of(noise(4)), overwrite=True)
    assert caught.value.errno == code and caught.value.filename.endswith("a.png")
    if code == errno.ENOSPC:
        assert "the disk is full" in str(caught.value)
    assert (tmp_path / "a.png").read_bytes() == before
    assert os.listdir(tmp_path) == ["a.png"]


def test_an_interrupt_leaves_nothing_half_written(tmp_path, monkeypatch):
    def interrupt(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_image(tmp_path / "a.png", picture_of(noise(3)))
    assert os.listdir(tmp_path) == []


def test_a_missing_folder_and_an_unknown_suffix(tmp_path):
    with pytest.raises(OSError, match=r"a\.png"):
        write_image(tmp_path / "nowhere" / "a.png", picture_of(noise(3)))
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"a\.png"):
        write_image(tmp_path / "file" / "a.png", picture_of(noise(3)))
    with pytest.raises(ValueError, match=r"a\.gif.*\.png"):
        write_image(tmp_path / "a.gif", picture_of(noise(3)))


def test_values_that_are_no_numbers_and_sizes_a_format_cannot_hold(tmp_path):
    with pytest.raises(ValueError, match=r"a\.png.*NaN"):
        write_image(tmp_path / "a.png", Picture(torch.full((4, 4, 3), float("nan"))))
    with pytest.raises(ValueError, match=r"a\.webp.*16383"):
        write_image(tmp_path / "a.webp", Picture(torch.zeros(1, 16384, 3)))
    assert os.listdir(tmp_path) == []
    with pytest.raises(ValueError, match="at least one pixel"):
        Picture(torch.zeros(0, 4, 3))


def test_writing_changes_nothing_it_was_given(tmp_path):
    image_HWC = torch.rand(5, 5, 4, generator=torch.Generator().manual_seed(0)) * 2 - 0.5
    before = image_HWC.clone()
    write_image(tmp_path / "a.jpg", Picture(image_HWC))
    assert torch.equal(image_HWC, before)


def test_without_opencv_8_bit_works_and_16_bit_names_the_cure(tmp_path, monkeypatch):
    import sys

    write_image(tmp_path / "deep.png", picture_of(noise(3, np.uint16)))
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ImportError, match=r"deep\.png.*pip install opencv-python"):
        read_image(tmp_path / "deep.png")
    with pytest.raises(ImportError, match=r"b\.png.*pip install opencv-python"):
        write_image(tmp_path / "b.png", picture_of(noise(3, np.uint16)))
    write_image(tmp_path / "c.png", picture_of(noise(3)))
    assert read_image(tmp_path / "c.png").bit_depth == 8
