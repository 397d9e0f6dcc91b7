"""Two hundred made-up files through the command line: formats, depths, metadata and damage in every combination that a
seed comes up with. Nothing crashes, nothing is lost that the result's format can hold, and each loss is named."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from codeformer_core import cli

from .picture_files import (
    DESCRIPTION,
    IPTC,
    IPTC_BLOCK,
    PREFIX,
    SRGB,
    XMP,
    Tag,
    exif_block,
    gray16_png,
    picture,
    png_chunk,
    png_chunks,
    segment,
    texts,
    tiff_file,
    with_chunks,
    with_segments,
)

pytestmark = pytest.mark.filterwarnings("ignore:Corrupt EXIF data", "ignore:Truncated File Read")
COUNT, SEED = 200, 14
SIZE = (24, 16)
TEXT = b"parameters\0a portrait, Steps: 20"
COMMENT = "on the back: Großmutter".encode()

BRINGS = {
    "png": ("exif", "xmp", "iptc", "text", "profile", "gamma"),
    "jpg": ("exif", "xmp", "iptc", "comment", "profile", "segment"),
    "webp": ("exif", "xmp", "profile"),
    "tif": ("exif", "xmp", "iptc", "profile"),
    "avif": ("exif", "xmp", "profile"),
    "bmp": (),
    "gif": ("comment",),
}
MODES = {
    "png": ("RGB", "RGBA", "L", "P", "gray16", "rgba16"),
    "jpg": ("RGB", "L", "CMYK"),
    "webp": ("RGB", "RGBA"),
    "tif": ("RGB", "RGBA", "L", "rgba16"),
    "avif": ("RGB", "RGBA"),
    "bmp": ("RGB", "L"),
    "gif": ("P",),
}
# What each format has a place for, by the standards and not by the code.
HOLDS = {
    "png": {"exif", "xmp", "iptc", "text", "profile", "gamma", "comment", "alpha", "depth"},
    "jpg": {"exif", "xmp", "iptc", "comment", "profile", "segment"},
    "webp": {"exif", "xmp", "profile", "alpha"},
    "tif": {"exif", "xmp", "iptc", "profile", "alpha", "depth"},
    "avif": {"exif", "xmp", "profile", "alpha"},
    "bmp": set(),
}
# How a warning calls them.
NAMES = {
    "exif": "EXIF",
    "xmp": "XMP",
    "iptc": "IPTC",
    "text": "PNG text 'parameters'",
    "profile": "colour profile",
    "gamma": "gAMA",
    "comment": "comment",
    "segment": "APP12",
    "alpha": "transparency",
    "depth": "the source's 16",
}
DAMAGES = ("none", "none", "none", "cut", "no end", "broken part", "huge part", "behind", "other name")


@dataclass(frozen=True)
class Case:
    """parts: what the file brings along. target: the ending of its result. warned: words that stderr must hold."""

    name: str
    data: bytes
    kind: str
    mode: str
    damage: str
    target: str
    parts: frozenset[str]
    warned: tuple[str, ...] = ()
    refused: bool = False


def image_of(mode: str, colour: tuple[int, int, int], chance: np.random.Generator) -> Image.Image:
    """Of one colour, so that no restorer changes it; alpha is noise."""
    image = Image.new("RGB", SIZE, colour)
    if mode == "RGBA":
        image.putalpha(Image.fromarray(chance.integers(0, 255, SIZE[::-1], dtype=np.uint8)))
        return image
    return image.quantize(16) if mode == "P" else image.convert(mode)


def deep_pixels(mode: str, chance: np.random.Generator) -> np.ndarray:
    shape = (SIZE[1], SIZE[0])
    if mode == "gray16":
        return np.full(shape, chance.integers(1000, 60000), dtype=np.uint16)
    pixels = np.empty((*shape, 4), np.uint16)
    pixels[..., :3] = chance.integers(1000, 60000, 3)
    pixels[..., 3] = chance.integers(0, 65000, shape)
    return pixels


def plain(kind: str, mode: str, chance: np.random.Generator) -> bytes:
    """The picture without metadata, but for formats whose metadata Pillow writes."""
    if mode == "gray16":
        return gray16_png(deep_pixels(mode, chance))
    if mode == "rgba16":
        return cv2.imencode(f".{kind}", deep_pixels(mode, chance))[1].tobytes()
    colour = tuple(int(value) for value in chance.integers(0, 256, 3))
    options = {"lossless": True} if kind == "webp" else {}
    return picture(image_of(mode, colour, chance), {"jpg": "JPEG", "tif": "TIFF"}.get(kind, kind.upper()), **options)


def with_parts(kind: str, mode: str, parts: frozenset[str], chance: np.random.Generator) -> bytes:
    order = "<>"[chance.integers(2)]
    exif = exif_block(order, size=SIZE)
    if kind == "png":
        iptc = b"Raw profile type iptc\0\niptc\n%8d\n" % len(IPTC_BLOCK) + IPTC_BLOCK.hex().encode()
        chunks = {
            "exif": png_chunk(b"eXIf", exif),
            "xmp": png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),
            "iptc": png_chunk(b"tEXt", iptc),
            "text": png_chunk(b"tEXt", TEXT),
            "profile": png_chunk(b"iCCP", b"sRGB\0\0" + zlib.compress(SRGB)),
            "gamma": png_chunk(b"gAMA", struct.pack(">I", 100_000)),
        }
        return with_chunks(plain(kind, mode, chance), *(chunks[part] for part in sorted(parts)))
    if kind == "jpg":
        segments = {
            "exif": segment(0xE1, PREFIX + exif),
            "xmp": segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP),
            "iptc": segment(0xED, b"Photoshop 3.0\0" + IPTC_BLOCK),
            "comment": segment(0xFE, COMMENT),
            "profile": segment(0xE2, b"ICC_PROFILE\0\1\1" + SRGB),
            "segment": segment(0xEC, b"Ducky\0\1\2"),
        }
        return with_segments(plain(kind, mode, chance), *(segments[part] for part in sorted(parts)))
    if kind == "tif" and mode == "RGB":
        tags = {
            "xmp": Tag(700, 1, len(XMP), XMP),
            "iptc": Tag(33723, 7, len(IPTC), IPTC),
            "profile": Tag(34675, 7, len(SRGB), SRGB),
        }
        more = [tags[part] for part in sorted(parts) if part in tags] + (texts(order) if "exif" in parts else [])
        return tiff_file(image_of("RGB", (9, 99, 199), chance), order, more)
    if kind in ("webp", "avif"):
        options = {"exif": exif if "exif" in parts else b"", "xmp": XMP if "xmp" in parts else b""}
        options |= {"icc_profile": SRGB} if "profile" in parts else {}
        options |= {"lossless": True} if kind == "webp" else {"quality": 100, "subsampling": "4:4:4"}
        return picture(image_of(mode, (90, 120, 150), chance), kind.upper(), **options)
    if kind == "gif" and parts:
        return picture(image_of("P", (90, 120, 150), chance), "GIF", comment=COMMENT)
    return plain(kind, mode, chance)


def make_case(index: int, chance: np.random.Generator) -> Case:
    kind = str(chance.choice(list(BRINGS)))
    mode = str(chance.choice(MODES[kind]))
    damage = str(chance.choice(DAMAGES))
    brought = BRINGS[kind] if kind != "tif" or mode == "RGB" else ()
    parts = {part for part in brought if chance.random() < 0.5}
    if mode == "CMYK":  # its pixels are converted, so that no profile goes along
        parts.discard("profile")
    if "profile" in parts:  # which overrides it
        parts.discard("gamma")
    data = with_parts(kind, mode, frozenset(parts), chance)
    parts |= {"alpha"} if mode in ("RGBA", "rgba16") else set()
    parts |= {"depth"} if mode.endswith("16") else set()
    warned: tuple[str, ...] = ()
    refused, suffix = False, kind
    if damage == "cut":
        pixels_at = data.rfind(b"\xff\xda")  # of a JPEG: the header of its only scan
        data = data[: len(data) - max(20, len(data) // 5 if kind not in ("png", "webp") else 30)]
        if kind == "webp" and (last := parts & {"exif", "xmp"}):  # these lie behind the pixels
            cut_short = "xmp" if "xmp" in last else "exif"
            parts, warned = parts - {cut_short}, ("cut short",)
        else:
            refused = kind != "jpg" or pixels_at + 16 > len(data)
            warned = () if refused else ("its end is missing",)
    elif damage == "no end" and kind in ("jpg", "png"):
        data = data[:-2] if kind == "jpg" else data[:-12]
        warned = ("its end is missing" if kind == "jpg" else "its end marker is missing",)
    elif damage == "broken part" and kind == "png":
        data, warned = with_chunks(data, png_chunk(b"zTXt", b"Broken\0\0no zlib")), ("text 'Broken' is damaged",)
    elif damage == "broken part" and kind == "jpg" and "profile" not in parts:
        data = with_segments(data, segment(0xE2, b"ICC_PROFILE\0\1\2" + SRGB[:90]))
        warned = ("colour profile is incomplete",)
    elif damage == "huge part" and kind == "png":
        data = with_chunks(data, png_chunk(b"zTXt", b"Huge\0\0" + zlib.compress(bytes(20 << 20))))
        warned = ("text 'Huge' unpacks to more than 16 MiB",)
    elif damage == "behind" and kind == "jpg":
        data, warned = data + b"\0\0\0\x18ftypmp42" + bytes(50), ("a video follows",)
    elif damage == "other name":
        suffix = str(chance.choice(["png", "jpg", "webp"]))
    named = f"{index:03}_{kind}_{mode}_{damage.replace(' ', '-')}.{suffix}"
    target = {"gif": "png"}.get(suffix, suffix)
    return Case(named, data, kind, mode, damage, target, frozenset(parts), warned, refused)


CASES = [make_case(index, np.random.default_rng((SEED, index))) for index in range(COUNT)]
# Half of them keep their format, the others are written as another one.
RUNS: dict[str | None, list[Case]] = {None: CASES[::2]}
for number, file_format in enumerate(("png", "jpg", "webp", "tif", "avif")):
    RUNS[file_format] = CASES[1::2][number::5]


def carried(part: str, made: bytes, kind: str) -> bool:
    """Whether the result holds the part, byte for byte."""
    with Image.open(io.BytesIO(made)) as image:
        image.load()
        if part == "profile":
            return image.info.get("icc_profile") == SRGB
        if part == "alpha":
            return image.mode in ("RGBA", "LA")
    needles: dict[str, Callable[[], bool]] = {
        "exif": lambda: DESCRIPTION + b"\0" in made,
        "xmp": lambda: XMP in made,
        "iptc": lambda: (IPTC_BLOCK in made or IPTC in made) if kind != "png" else iptc_of_png(made),
        "text": lambda: TEXT in made,
        "gamma": lambda: kind == "png" and (b"gAMA", struct.pack(">I", 100_000)) in png_chunks(made),
        "comment": lambda: COMMENT in made,
        "segment": lambda: segment(0xEC, b"Ducky\0\1\2") in made,
        "depth": lambda: cv2.imdecode(np.frombuffer(made, np.uint8), cv2.IMREAD_UNCHANGED).dtype == np.uint16,
    }
    return needles[part]()


def iptc_of_png(made: bytes) -> bool:
    found = [zlib.decompress(content[23:]) for kind, content in png_chunks(made) if content.startswith(b"Raw profile")]
    return any(IPTC_BLOCK.hex().encode() in text.replace(b"\n", b"") for text in found)


def test_the_generator_makes_every_kind():
    assert len(CASES) == COUNT == sum(map(len, RUNS.values()))
    assert {case.kind for case in CASES} == set(BRINGS)
    assert {part for case in CASES for part in case.parts} == set(NAMES)
    assert {case.damage for case in CASES} == set(DAMAGES)
    assert sum(bool(case.parts) for case in CASES) > COUNT / 2
    assert 5 < sum(case.refused for case in CASES) < COUNT / 5


@pytest.mark.parametrize("file_format", RUNS)
def test_generated_files_lose_nothing_in_silence(gain_file, tmp_path, capsys, file_format):
    if (file_format == "avif" or any(case.kind == "avif" for case in RUNS[file_format])) and not has_avif():
        pytest.skip("this Pillow has no AVIF")
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    cases = RUNS[file_format]
    for case in cases:
        (folder / case.name).write_bytes(case.data)
    words = ["restore", str(folder), "-o", str(out), "--aligned", "--device", "cpu", "--model", str(gain_file)]
    code = cli.main([*words, *(["--format", file_format] if file_format else [])])
    said = capsys.readouterr().err.splitlines()
    assert code == (1 if any(case.refused for case in cases) else 0), "\n".join(said)
    assert not any("unexpected" in line or "Traceback" in line for line in said)
    for case in cases:
        check(case, file_format or case.target, out, [line for line in said if case.name[:4] in line])
    assert len(list(out.iterdir())) == sum(not case.refused for case in cases)


def has_avif() -> bool:
    Image.init()
    return "AVIF" in Image.SAVE


def check(case: Case, target: str, out: Path, said: list[str]) -> None:
    told = "\n".join([case.name, *said])
    made_path = out / f"{Path(case.name).stem}.{target}"
    if case.refused:
        assert not made_path.exists() and any(line.startswith("error: ") for line in said), told
        return
    assert not any(line.startswith("error: ") for line in said), told
    for words in case.warned:
        assert any(words in line for line in said), (words, told)
    made = made_path.read_bytes()
    for part in case.parts:
        kept = carried(part, made, target)
        assert kept or part not in HOLDS[target], (part, told)
        assert kept or any(NAMES[part] in line for line in said if "warning" in line), (part, told)
    with Image.open(io.BytesIO(made)) as image:
        assert image.size == SIZE, told
    # What is said is true: a part that went over is not called lost.
    for part in HOLDS[target] & case.parts:
        assert not any("not carried over" in line and NAMES[part] in line for line in said), (part, told)
    if case.damage == "huge part":  # Pillow can't open the source
        return
    if target in ("png", "tif") and case.kind in ("png", "bmp", "gif", "webp") and not case.mode.endswith("16"):
        with Image.open(io.BytesIO(made)) as image, Image.open(io.BytesIO(case.data)) as before:
            assert np.array_equal(np.asarray(image.convert("RGBA")), np.asarray(before.convert("RGBA"))), told
