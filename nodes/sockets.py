"""The pack's own socket types and what travels through them. Payloads are values: nothing a node gets is changed.

FACE_RESTORE_MODEL  FaceRestoreModel: a restorer, and the detector and parser to use with it unless told otherwise
                    (codeformer_core.models.bundle.ModelBundle)
FACE_DETECTOR       anything that satisfies codeformer_core.faces.detection.FaceDetector
FACES               codeformer_core.faces.batch.Faces: what was found in each picture of a batch
BOUNDING_BOX        the host's: per picture a list of {x, y, width, height, label, score}
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from comfy_api.latest import io

from ..codeformer_core.models.bundle import ModelBundle as FaceRestoreModel

if TYPE_CHECKING:
    from ..codeformer_core.faces.batch import FaceBatch

FaceRestoreModelType = io.Custom("FACE_RESTORE_MODEL")
FaceDetectorType = io.Custom("FACE_DETECTOR")
FacesType = io.Custom("FACES")
# The oldest supported hosts have the type, but no name for it in their API.
BoundingBoxType = io.Custom("BOUNDING_BOX")

__all__ = [
    "BoundingBoxType",
    "FaceDetectorType",
    "FaceRestoreModel",
    "FaceRestoreModelType",
    "FacesType",
    "own_faces",
]


def own_faces(value: Any, name: str = "faces") -> FaceBatch:
    """Raises ValueError for what another pack hands out under the same socket name."""
    # Here and not above: the host's start is not to wait for it.
    from ..codeformer_core.faces.batch import FaceBatch

    if not isinstance(value, FaceBatch):
        raise ValueError(
            f"{name}: these FACES ({type(value).__name__}) come from another node pack. "
            "Connect Detect Faces, Select Faces or another node of this pack"
        )
    return value
