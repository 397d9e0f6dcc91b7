"""The pack's own socket types and what travels through them. Payloads are values: nothing a node gets is changed.

FACE_RESTORE_MODEL  FaceRestoreModel: a restorer, and the detector and parser to use with it unless told otherwise
FACE_DETECTOR       anything that satisfies codeformer_core.faces.detection.FaceDetector
FACES               codeformer_core.faces.batch.Faces: what was found in each picture of a batch
BOUNDING_BOX        the host's: per picture a list of {x, y, width, height, label, score}
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from comfy_api.latest import io

from .managed import ManagedRestorer

if TYPE_CHECKING:
    from ..codeformer_core.faces.batch import Faces
    from ..codeformer_core.faces.detection import FaceDetector
    from ..codeformer_core.faces.landmarks import FaceAligner
    from ..codeformer_core.faces.parsing import FaceParser

FaceRestoreModelType = io.Custom("FACE_RESTORE_MODEL")
FaceDetectorType = io.Custom("FACE_DETECTOR")
FacesType = io.Custom("FACES")
# The oldest supported hosts have the type, but no name for it in their API.
BoundingBoxType = io.Custom("BOUNDING_BOX")

Loaded = TypeVar("Loaded")


def own_faces(value: Any, name: str = "faces") -> Faces:
    """Raises ValueError for what another pack hands out under the same socket name."""
    # Here and not above: the host's start is not to wait for it.
    from ..codeformer_core.faces.batch import Faces

    if not isinstance(value, Faces):
        raise ValueError(
            f"{name}: these FACES ({type(value).__name__}) come from another node pack. "
            "Cure: connect Detect Faces, Select Faces or another node of this pack"
        )
    return value


class LoadedOnce(Generic[Loaded]):
    """Loads at the first look at `value` and keeps it as long as the payload that holds this object lives."""

    def __init__(self, load: Callable[[], Loaded]) -> None:
        self._load = load

    @cached_property
    def value(self) -> Loaded:
        return self._load()


@dataclass(frozen=True)
class FaceRestoreModel:
    """Payload of FACE_RESTORE_MODEL.

    detector, parser, aligner: loaded when first used, so a detector from another node saves loading this one.
    parser.value is None when there is no parser's file on this machine; aligner.value likewise, and for restorers that
    don't ask where the parts of a face lie. remark: what the report adds about the restorer, or None.
    """

    restorer: ManagedRestorer
    detector: LoadedOnce[FaceDetector]
    parser: LoadedOnce[FaceParser | None]
    aligner: LoadedOnce[FaceAligner | None]
    remark: str | None
