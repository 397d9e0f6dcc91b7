"""What the nodes that work on whole pictures share: the inputs that say which faces, and what finds them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfy_api.latest import io

from . import host
from .sockets import FaceDetectorType, FaceRestoreModel, FacesType, own_faces

if TYPE_CHECKING:
    from ..codeformer_core.faces.detection import FaceDetector
    from ..codeformer_core.faces.found import Faces


def finding_inputs() -> list[io.Input]:
    return [
        FaceDetectorType.Input(
            "detector", optional=True, tooltip="Finds the faces instead of the detector of the face restore model."
        ),
        FacesType.Input(
            "faces",
            optional=True,
            tooltip="Works on these faces of the same pictures; nothing is detected, and confidence and smallest_face "
            "have no effect.",
        ),
        host.advanced(
            io.Float.Input(
                "confidence",
                default=0.0,
                min=0.0,
                max=1.0,
                step=0.01,
                tooltip="How sure the detector must be that something is a face. Lower finds more faces and more that "
                "are none. 0: the detector's own default.",
            )
        ),
        host.advanced(
            io.Float.Input(
                "smallest_face",
                default=0.0,
                min=0.0,
                max=4096.0,
                step=1.0,
                tooltip="Faces whose box is narrower or lower than this many pixels of the picture are left alone.",
            )
        ),
    ]


def finder(model: FaceRestoreModel, detector: FaceDetector | None, faces: Faces | None) -> FaceDetector | Faces:
    """The faces themselves, or what looks for them; the model's own detector is loaded only when it is the one."""
    if faces is not None:
        return own_faces(faces)
    return detector or model.detector.value
