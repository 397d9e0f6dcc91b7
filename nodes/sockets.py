"""The pack's own socket types and what travels through them. Payloads are values: nothing a node gets is changed.

FACE_RESTORE_MODEL  ModelBundle: a restorer, and the detector and parser to use with it unless told otherwise
FACE_DETECTOR       anything that satisfies FaceDetector
FACES               FaceBatch: what was found in each image of a batch
BOUNDING_BOX        the host's: per picture a list of {x, y, width, height, label, score}
"""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from .. import codeformer_core as core

FaceRestoreModelType = io.Custom("FACE_RESTORE_MODEL")
FaceDetectorType = io.Custom("FACE_DETECTOR")
FacesType = io.Custom("FACES")
# The oldest supported hosts have the type, but no name for it in their API.
BoundingBoxType = io.Custom("BOUNDING_BOX")

__all__ = [
    "BoundingBoxType",
    "FaceDetectorType",
    "FaceRestoreModelType",
    "FacesType",
    "own_faces",
]


def own_faces(value: Any, name: str = "faces") -> core.FaceBatch:
    """Raises ValueError for what another pack hands out under the same socket name."""
    if not isinstance(value, core.FaceBatch):
        raise ValueError(
            f"{name}: these FACES ({type(value).__name__}) come from another node pack. "
            "Connect Detect Faces, Select Faces or another node of this pack"
        )
    return value
