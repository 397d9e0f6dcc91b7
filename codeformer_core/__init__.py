"""Face restoration without a host: CodeFormer, face detection, alignment and paste-back.

Names are imported when first used, so `import codeformer_core` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .faces.batch import Faces
    from .faces.types import Face, FaceCrop
    from .models.loading import load_aligner, load_detector, load_parser, load_restorer
    from .models.restorer import Restorer
    from .pipeline.aligned_faces import restore_aligned
    from .pipeline.colorize import colorize_aligned, colorize_photos
    from .pipeline.crop import crop_faces
    from .pipeline.detect import faces_from_landmarks, find_faces
    from .pipeline.face_masks import faces_in_mask
    from .pipeline.inpaint import inpaint_aligned, inpaint_photos
    from .pipeline.paste import paste_faces
    from .pipeline.paste_masks import PasteShape
    from .pipeline.restore import restore_images
    from .pipeline.results import RestoredImages
    from .pipeline.select import select_faces
    from .weights.reading import WeightsError

_HOMES = {
    "Face": "faces.types",
    "FaceCrop": "faces.types",
    "Faces": "faces.batch",
    "PasteShape": "pipeline.paste_masks",
    "RestoredImages": "pipeline.results",
    "Restorer": "models.restorer",
    "WeightsError": "weights.reading",
    "colorize_aligned": "pipeline.colorize",
    "colorize_photos": "pipeline.colorize",
    "crop_faces": "pipeline.crop",
    "faces_from_landmarks": "pipeline.detect",
    "faces_in_mask": "pipeline.face_masks",
    "find_faces": "pipeline.detect",
    "inpaint_aligned": "pipeline.inpaint",
    "inpaint_photos": "pipeline.inpaint",
    "load_aligner": "models.loading",
    "load_detector": "models.loading",
    "load_parser": "models.loading",
    "load_restorer": "models.loading",
    "paste_faces": "pipeline.paste",
    "restore_aligned": "pipeline.aligned_faces",
    "restore_images": "pipeline.restore",
    "select_faces": "pipeline.select",
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
