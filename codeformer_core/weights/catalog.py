"""Weight files found by what users type, and which of them are the best of their kind."""

from __future__ import annotations

import difflib

from .entries import CATALOG
from .entry import CatalogEntry

# Catalog names, best first. What auto chooses from.
DETECTORS = ("retinaface_resnet50", "retinaface_mobile0.25", "yunet", "starter_detector")
RESTORERS = (
    "codeformer",
    "vqfr_v2",
    "gfpgan_1.4",
    "restoreformer",
    "gfpgan_1.3",
    "gfpgan_1.2",
    "vqfr_v1",
    "dfdnet",
    "codeformer_starter",
)
COLORIZERS = ("codeformer_colorization", "starter_colorization")
INPAINTERS = ("codeformer_inpainting", "starter_inpainting")
UPSCALERS = ("realesrgan_x2plus", "realesrgan_x4plus")
# What finds 68 landmarks for a restorer that asks where the parts of a face lie.
ALIGNER = "facexlib_alignment"
# 468 points of a face, for its shape and its landmarks; comes with this package.
FACE_MESH = "face_mesh"
PARSERS = ("parsenet", FACE_MESH)
LANDMARK_DETECTORS = (ALIGNER, FACE_MESH)
# The detector for those whose facexlib is missing or broken.
WITHOUT_FACEXLIB = "yunet"


def find_entry(name: str) -> CatalogEntry | None:
    """The entry called `name`; None when the catalog has no such file.

    name: catalog name, file name, an alias, or the safetensors copy of one of them, in upper or lower case; a folder in
    front is ignored.
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
