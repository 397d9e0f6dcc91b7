"""Inputs that several nodes have, so that they look and mean the same everywhere; and what finds the faces."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfy_api.latest import io

from . import host
from .sockets import FaceDetectorType, FaceRestoreModel, FacesType, own_faces

if TYPE_CHECKING:
    from ..codeformer_core.faces.batch import Faces
    from ..codeformer_core.faces.detection import FaceDetector

CONFIDENCE = (
    "How sure the detector must be that something is a face. Lower finds more faces and more that are none. 0: the "
    "detector's own default (RetinaFace 0.8, starter detector 0.5, YuNet 0.75)."
)
LEFT_ALONE = "Faces whose box is narrower or lower than this many pixels of the picture are left alone."
LEFT_OUT = "Faces whose box is narrower or lower than this many pixels of the picture are left out. 0: none."


def share_input(name: str, default: float, tooltip: str, *, slider: bool = True) -> io.Input:
    """A number from 0 to 1."""
    display = io.NumberDisplay.slider if slider else None
    return io.Float.Input(name, default=default, min=0.0, max=1.0, step=0.01, display_mode=display, tooltip=tooltip)


def pixels_input(name: str, tooltip: str, most: float = 4096.0) -> io.Input:
    return io.Float.Input(name, default=0.0, min=0.0, max=most, step=1.0, tooltip=tooltip)


def fidelity_input() -> io.Input:
    """The paper's w."""
    return share_input(
        "fidelity",
        0.5,
        "0: cleanest faces, invented where the picture says little. 1: closest to the picture and its faults. Around "
        "0.5 suits most photos; go up when a face no longer looks like the person. For CodeFormer and VQFR v2; other "
        "restorers know none.",
    )


def confidence_input() -> io.Input:
    return share_input("confidence", 0.0, CONFIDENCE, slider=False)


def mask_input(begins: str) -> io.Input:
    """The masks of whole-picture nodes. begins: what the mask decides there, the tooltip's first sentence."""
    return io.Combo.Input(
        "mask",
        options=["face", "outline", "box"],
        tooltip=f"{begins} face: the face and its hair as the parser finds them; without a parser's file (see Load "
        "Face Restore Model) the outline, and the report says so. outline: the face from forehead to chin, drawn from "
        "its landmarks. box: a soft-edged box.",
    )


def detector_input() -> io.Input:
    return FaceDetectorType.Input(
        "detector", optional=True, tooltip="Finds the faces instead of the detector of the face restore model."
    )


def finding_inputs() -> list[io.Input]:
    """What says which faces of a photo are worked on."""
    return [
        detector_input(),
        FacesType.Input(
            "faces",
            optional=True,
            tooltip="Works on these faces of the same pictures; nothing is detected, and confidence and smallest_face "
            "have no effect.",
        ),
        host.advanced(confidence_input()),
        host.advanced(pixels_input("smallest_face", LEFT_ALONE)),
    ]


def finder(
    model: FaceRestoreModel, detector: FaceDetector | None, faces: Faces | None, name: str = "faces"
) -> FaceDetector | Faces:
    """The faces themselves, or what looks for them; the model's own detector is loaded only when it is the one.

    name: of the input that the faces came in by. Raises ValueError, see `own_faces`.
    """
    if faces is not None:
        return own_faces(faces, name)
    return detector or model.detector
