"""Face restoration without a host: CodeFormer, face detection, alignment and paste-back.

Names are imported when first used, so `import codeformer_core` costs nothing.
"""

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .faces.batch import FaceBatch
    from .faces.events import Event
    from .faces.types import Face
    from .models.loading import load_detector, load_landmark_detector, load_parser, load_restorer, load_upscaler
    from .models.restorer import Restorer
    from .pipeline.align import AlignedFace
    from .pipeline.aligned_faces import restore_aligned
    from .pipeline.colorize import colorize_aligned, colorize_photos
    from .pipeline.crop import crop_faces
    from .pipeline.detect import faces_from_landmarks, find_faces
    from .pipeline.face_masks import faces_in_mask
    from .pipeline.inpaint import inpaint_aligned, inpaint_photos
    from .pipeline.options import PasteOptions, RestoreOptions
    from .pipeline.paste import paste_faces
    from .pipeline.person import Person, load_person
    from .pipeline.report import report
    from .pipeline.restore import Models, restore, restore_images
    from .pipeline.results import RestoredFace, RestoredImages
    from .pipeline.select import select_faces
    from .weights.reading import WeightsError

_HOMES = {
    "AlignedFace": "pipeline.align",
    "Event": "faces.events",
    "Face": "faces.types",
    "FaceBatch": "faces.batch",
    "Models": "pipeline.restore",
    "PasteOptions": "pipeline.options",
    "Person": "pipeline.person",
    "RestoreOptions": "pipeline.options",
    "RestoredFace": "pipeline.results",
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
    "load_landmark_detector": "models.loading",
    "load_detector": "models.loading",
    "load_parser": "models.loading",
    "load_person": "pipeline.person",
    "load_restorer": "models.loading",
    "load_upscaler": "models.loading",
    "paste_faces": "pipeline.paste",
    "report": "pipeline.report",
    "restore": "pipeline.restore",
    "restore_aligned": "pipeline.aligned_faces",
    "restore_images": "pipeline.restore",
    "select_faces": "pipeline.select",
}

__all__ = [
    "AlignedFace",
    "Event",
    "Face",
    "FaceBatch",
    "Models",
    "PasteOptions",
    "Person",
    "RestoreOptions",
    "RestoredFace",
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
    "load_detector",
    "load_landmark_detector",
    "load_parser",
    "load_person",
    "load_restorer",
    "load_upscaler",
    "paste_faces",
    "report",
    "restore",
    "restore_aligned",
    "restore_images",
    "select_faces",
]


# Public names of version 0.1 -> what they are called now; gone with 0.3.
_RENAMED = {
    "Faces": "FaceBatch",
    "load_aligner": "load_landmark_detector",
}


def __getattr__(name: str) -> Any:
    if name in _RENAMED:
        warnings.warn(f"{__name__}.{name} is called {_RENAMED[name]} now", DeprecationWarning, stacklevel=2)
        name = _RENAMED[name]
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
