"""Face restoration without a host: CodeFormer, face detection, alignment and paste-back.

Names are imported when first used, so `import codeformer_core` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .aligned import restore_aligned
    from .edit.colorize import colorize_aligned, colorize_photos
    from .edit.inpaint import inpaint_aligned, inpaint_photos
    from .faces.found import Faces
    from .faces.types import Face, FaceCrop
    from .loading import load_aligner, load_detector, load_parser, load_restorer
    from .restore import restore_images
    from .restorer import Restorer
    from .results import RestoredImages
    from .steps.areas import faces_in_mask
    from .steps.crop import crop_faces
    from .steps.detect import faces_from_landmarks, find_faces
    from .steps.paste import paste_faces
    from .steps.select import select_faces
    from .steps.shapes import PasteShape
    from .weights.load import WeightsError

_HOMES = {
    "Face": "faces.types",
    "FaceCrop": "faces.types",
    "Faces": "faces.found",
    "PasteShape": "steps.shapes",
    "RestoredImages": "results",
    "Restorer": "restorer",
    "WeightsError": "weights.load",
    "colorize_aligned": "edit.colorize",
    "colorize_photos": "edit.colorize",
    "crop_faces": "steps.crop",
    "faces_from_landmarks": "steps.detect",
    "faces_in_mask": "steps.areas",
    "find_faces": "steps.detect",
    "inpaint_aligned": "edit.inpaint",
    "inpaint_photos": "edit.inpaint",
    "load_aligner": "loading",
    "load_detector": "loading",
    "load_parser": "loading",
    "load_restorer": "loading",
    "paste_faces": "steps.paste",
    "restore_aligned": "aligned",
    "restore_images": "restore",
    "select_faces": "steps.select",
}

__all__ = [
    "Face",
    "FaceCrop",
    "Faces",
    "PasteShape",
    "RestoredImages",
    "Restorer",
    "WeightsError",
    "colorize_aligned",
    "colorize_photos",
    "crop_faces",
    "faces_from_landmarks",
    "faces_in_mask",
    "find_faces",
    "inpaint_aligned",
    "inpaint_photos",
    "load_aligner",
    "load_detector",
    "load_parser",
    "load_restorer",
    "paste_faces",
    "restore_aligned",
    "restore_images",
    "select_faces",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
