"""The weight files this pack can use, as data: addresses, sizes, hashes, licences.

Sizes and hashes of published files were gathered from several public places; `sha256_confirmed` says whether two
independent ones agree. Those of this project's own files are of the files in `codeformer_core/assets`.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal

Task = Literal[
    "restoration", "colorization", "inpainting", "autoencoder", "detection", "parsing", "alignment", "upscaling"
]

_CODEFORMER = "https://github.com/sczhou/CodeFormer/releases/download/v0.1.0"
_FACEXLIB = "https://github.com/xinntao/facexlib/releases/download"
_REAL_ESRGAN = "https://github.com/xinntao/Real-ESRGAN/releases/download"
_OPENCV_ZOO = "https://media.githubusercontent.com/media/opencv/opencv_zoo/main/models"
_REACTOR = "https://huggingface.co/datasets/Gourieff/ReActor/resolve/main/models"

_S_LAB = "S-Lab License 1.0"
_S_LAB_NOTE = "non-commercial use only; https://github.com/sczhou/CodeFormer/blob/master/LICENSE"
_FACEXLIB_MIT = "MIT (facexlib)"
_OWN = "trained by this project from freely licensed faces; comes with this pack"


@dataclass(frozen=True)
class CatalogEntry:
    """One file.

    name: what a user types; filename: what it is called on disk, and `aliases` what others call the same
    bytes. url, mirrors: tried in this order; url is None for a file that is nowhere but in this package. size: bytes,
    or None where nobody recorded it. sha256: 64 lowercase hex digits or None. sha256_confirmed: False when the hash
    comes from a single source; then a mismatch only warns. folder: the folder's name below a models root, as ComfyUI
    users have it. bundled: it comes with this package, in its assets.
    """

    name: str
    filename: str
    task: Task
    url: str | None
    mirrors: tuple[str, ...]
    size: int | None
    sha256: str | None
    sha256_confirmed: bool
    licence: str
    licence_note: str
    folder: str
    aliases: tuple[str, ...] = ()
    bundled: bool = False

    def __post_init__(self) -> None:
        if self.sha256 is not None and (len(self.sha256) != 64 or set(self.sha256) - set("0123456789abcdef")):
            raise ValueError(f"{self.name}: sha256 must be 64 lowercase hex digits, got {self.sha256!r}")
        if self.sha256_confirmed and self.sha256 is None:
            raise ValueError(f"{self.name}: a confirmed sha256 is needed, got None")
        for file_name in (self.filename, *self.aliases):
            if not file_name or PurePath(file_name).name != file_name or "\\" in file_name:
                raise ValueError(f"{self.name}: a plain file name is needed, got {file_name!r}")
        if self.url is None and not self.bundled:
            raise ValueError(f"{self.name}: a file that doesn't come with the package needs an address")

    @property
    def expectation(self) -> str:
        """Size and hash in words, for messages: what a good file looks like."""
        parts = []
        if self.size is not None:
            parts.append(f"{self.size:,} bytes")
        if self.sha256 is not None:
            parts.append(f"sha256 {self.sha256}" + ("" if self.sha256_confirmed else " (from a single source)"))
        return ", ".join(parts) or "size and hash are not known"

    @property
    def how_to_get(self) -> str:
        """The way to the file in words, for messages."""
        if self.url is None:
            return "install this package again, which brings it"
        return f"`python -m codeformer_core weights download {self.name}`, or by hand from {self.url}"


CATALOG: tuple[CatalogEntry, ...] = (
    CatalogEntry(
        name="codeformer",
        filename="codeformer.pth",
        task="restoration",
        url=f"{_CODEFORMER}/codeformer.pth",
        mirrors=(f"{_REACTOR}/facerestore_models/codeformer-v0.1.0.pth",),
        size=376_637_898,
        sha256="1009e537e0c2a07d4cabce6355f53cb66767cd4b4297ec7a4a64ca4b8a5684b7",
        sha256_confirmed=True,
        licence=_S_LAB,
        licence_note=_S_LAB_NOTE,
        folder="facerestore_models",
        aliases=("codeformer-v0.1.0.pth",),
    ),
    CatalogEntry(
        name="codeformer_colorization",
        filename="codeformer_colorization.pth",
        task="colorization",
        url=f"{_CODEFORMER}/codeformer_colorization.pth",
        mirrors=(),
        size=372_359_475,
        sha256="4f041f194fe17cc128d7c76526fe45689079ce5f5811e1441ccfd3d5aec4693d",
        sha256_confirmed=False,
        licence=_S_LAB,
        licence_note=_S_LAB_NOTE,
        folder="facerestore_models",
    ),
    CatalogEntry(
        name="codeformer_inpainting",
        filename="codeformer_inpainting.pth",
        task="inpainting",
        url=f"{_CODEFORMER}/codeformer_inpainting.pth",
        mirrors=(),
        size=370_786_611,
        sha256="b0d1b868c3dacf75d637bbcc0d4b3dd4ce2a064a338dfb4d35c740d3b4ae8797",
        sha256_confirmed=True,
        licence=_S_LAB,
        licence_note=_S_LAB_NOTE,
        folder="facerestore_models",
    ),
    CatalogEntry(
        name="vqgan_code1024",
        filename="vqgan_code1024.pth",
        task="autoencoder",
        url=f"{_CODEFORMER}/vqgan_code1024.pth",
        mirrors=(),
        size=255_078_528,
        sha256="4d1c6741b3cffcbdc2cd1a12b2c3c2442282e042d5de66909cb643d4fa31b20f",
        sha256_confirmed=False,
        licence=_S_LAB,
        licence_note=_S_LAB_NOTE,
        folder="facerestore_models",
    ),
    CatalogEntry(
        name="retinaface_resnet50",
        filename="detection_Resnet50_Final.pth",
        task="detection",
        url=f"{_FACEXLIB}/v0.1.0/detection_Resnet50_Final.pth",
        mirrors=(f"{_CODEFORMER}/detection_Resnet50_Final.pth",),
        size=109_497_761,
        sha256="6d1de9c2944f2ccddca5f5e010ea5ae64a39845a86311af6fdf30841b0a5a16d",
        sha256_confirmed=True,
        licence=_FACEXLIB_MIT,
        licence_note="after biubug6/Pytorch_Retinaface, MIT",
        folder="facedetection",
    ),
    CatalogEntry(
        name="retinaface_mobile0.25",
        filename="detection_mobilenet0.25_Final.pth",
        task="detection",
        url=f"{_FACEXLIB}/v0.1.0/detection_mobilenet0.25_Final.pth",
        mirrors=(f"{_CODEFORMER}/detection_mobilenet0.25_Final.pth",),
        size=None,
        sha256="2979b33ffafda5d74b6948cd7a5b9a7a62f62b949cef24e95fd15d2883a65220",
        sha256_confirmed=True,
        licence=_FACEXLIB_MIT,
        licence_note="after biubug6/Pytorch_Retinaface, MIT",
        folder="facedetection",
    ),
    CatalogEntry(
        name="parsenet",
        filename="parsing_parsenet.pth",
        task="parsing",
        url=f"{_FACEXLIB}/v0.2.2/parsing_parsenet.pth",
        mirrors=(f"{_CODEFORMER}/parsing_parsenet.pth",),
        size=85_331_193,
        sha256="3d558d8d0e42c20224f13cf5a29c79eba2d59913419f945545d8cf7b72920de2",
        sha256_confirmed=True,
        licence=_FACEXLIB_MIT,
        licence_note="the network comes from chaofengc/PSFRGAN, whose own licence is CC BY-NC-SA 4.0",
        folder="facedetection",
    ),
    CatalogEntry(
        name="facexlib_alignment",
        filename="alignment_WFLW_4HG.pth",
        task="alignment",
        url=f"{_FACEXLIB}/v0.1.0/alignment_WFLW_4HG.pth",
        mirrors=(),
        size=193_670_248,
        sha256="bbfd137307a4c7debd5c283b9b0ce539466cee417ac0a155e184d857f9f2899c",
        sha256_confirmed=True,
        licence=_FACEXLIB_MIT,
        licence_note="68 landmarks for DFDNet; the network comes from protossw512/AdaptiveWingLoss",
        folder="facedetection",
    ),
    CatalogEntry(
        name="yunet",
        filename="face_detection_yunet_2023mar.onnx",
        task="detection",
        url=f"{_OPENCV_ZOO}/face_detection_yunet/face_detection_yunet_2023mar.onnx",
        mirrors=(),
        size=232_589,
        sha256="8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
        sha256_confirmed=True,
        licence="Apache-2.0",
        licence_note="ShiqiYu/libfacedetection.train; OpenCV Zoo gives it under MIT; comes with this pack",
        folder="facedetection",
        bundled=True,
    ),
    CatalogEntry(
        name="starter_detector",
        filename="starter_detector.safetensors",
        task="detection",
        url=None,
        mirrors=(),
        size=1_159_380,
        sha256="d5fbd6c584371735e7bba9fa31daa6a85cfb8a049c5e1ab68c64abf177f85323",
        sha256_confirmed=True,
        licence="Apache-2.0",
        licence_note=_OWN,
        folder="facedetection",
        bundled=True,
    ),
    CatalogEntry(
        name="realesrgan_x2plus",
        filename="RealESRGAN_x2plus.pth",
        task="upscaling",
        url=f"{_REAL_ESRGAN}/v0.2.1/RealESRGAN_x2plus.pth",
        mirrors=(f"{_CODEFORMER}/RealESRGAN_x2plus.pth",),
        size=67_061_725,
        sha256="49fafd45f8fd7aa8d31ab2a22d14d91b536c34494a5cfe31eb5d89c2fa266abb",
        sha256_confirmed=True,
        licence="BSD-3-Clause",
        licence_note="xinntao/Real-ESRGAN",
        folder="upscale_models",
    ),
    CatalogEntry(
        name="realesrgan_x4plus",
        filename="RealESRGAN_x4plus.pth",
        task="upscaling",
        url=f"{_REAL_ESRGAN}/v0.1.0/RealESRGAN_x4plus.pth",
        mirrors=(),
        size=67_040_989,
        sha256="4fa0d38905f75ac06eb49a7951b426670021be3018265fd191d2125df9d682f1",
        sha256_confirmed=True,
        licence="BSD-3-Clause",
        licence_note="xinntao/Real-ESRGAN",
        folder="upscale_models",
    ),
)

# Catalog names, best first.
DETECTORS = ("retinaface_resnet50", "retinaface_mobile0.25", "starter_detector", "yunet")
RESTORERS = ("codeformer",)
# What finds 68 landmarks for a restorer that asks where the parts of a face lie.
ALIGNER = "facexlib_alignment"
# The detector for those whose facexlib is missing or broken.
WITHOUT_FACEXLIB = "yunet"


def find_entry(name: str) -> CatalogEntry | None:
    """The entry called `name`: its catalog name, file name, an alias, or the safetensors copy of one of them.

    Upper and lower case are the same; a folder in front is not looked at. None when the catalog has no such
    file.
    """
    wanted = name.replace("\\", "/").rsplit("/", 1)[-1].lower()
    return next((entry for entry in CATALOG if wanted in _spellings(entry)), None)


def nearest_name(name: str) -> str | None:
    """The catalog name that `name` most probably meant, or None when nothing is close."""
    wanted = name.lower()
    # A part of a name says more than a likeness to another: "resnet50" is close to "parsenet" in letters.
    if len(wanted) > 2 and (part := next((e.name for e in CATALOG if wanted in e.name), None)):
        return part
    spellings = {spelling: entry.name for entry in CATALOG for spelling in _spellings(entry)}
    close = difflib.get_close_matches(wanted, spellings, n=1, cutoff=0.6)
    return spellings[close[0]] if close else None


def unknown_name(name: str) -> str:
    """The sentence for a name the catalog doesn't have: the nearest one, and all of them."""
    near = nearest_name(name)
    hint = f" Did you mean {near}?" if near else ""
    return f"{name!r} is not in the catalog.{hint} Known: {', '.join(entry.name for entry in CATALOG)}."


def _spellings(entry: CatalogEntry) -> tuple[str, ...]:
    files = (entry.filename.lower(), *(alias.lower() for alias in entry.aliases))
    copies = (file[: -len(".pth")] + ".safetensors" for file in files if file.endswith(".pth"))
    return (entry.name, *files, *copies)
