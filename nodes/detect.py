"""The nodes that find faces: with a detector, or in landmarks that another node found."""

from __future__ import annotations

import logging
import math
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from .. import codeformer_core as core
from . import choices, host
from .choices import LIBRARY
from .inputs import LEFT_OUT, confidence_input, pixels_input
from .picker import face_outputs, face_values, picked_input, picker_view
from .reports import report
from .sockets import FaceDetectorType

logger = logging.getLogger(__name__)

ALIASES = ("codeformer", "face detection", "find faces", "face bbox", "retinaface", "yunet")
# The host's, from its MediaPipe nodes.
FaceLandmarksType = io.Custom("FACE_LANDMARKS")


class DetectFaces(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        schema = io.Schema(
            node_id="CodeFormerDetectFaces",
            display_name="Detect Faces",
            category="image/face restore",
            description="Finds the faces in pictures and numbers them as one reads. Nothing is restored.",
            inputs=_inputs(),
            outputs=[
                *face_outputs(),
                io.Image.Output(
                    display_name="preview",
                    tooltip="The pictures, 512 to 1024 pixels long, with numbered boxes; faces left out are gray.",
                ),
                io.String.Output(display_name="report", tooltip="What was found and left out, and why."),
            ],
            # So that it also runs alone, to look and to pick.
            is_output_node=True,
        )
        return host.with_view(host.aliased(schema, *ALIASES))

    @classmethod
    def validate_inputs(cls, detector: str | None = None) -> bool | str:
        return choices.verdict((detector, core.DETECTOR))

    @classmethod
    def fingerprint_inputs(cls, detector: str | None = None, **others: Any) -> core.Fingerprint | None:
        """Look again when a file has arrived that "auto" would take, or the file was replaced."""
        return choices.state(detector, core.DETECTOR)

    @classmethod
    def execute(
        cls,
        image: Tensor,
        detector: str,
        confidence: float,
        smallest_face: float,
        largest_face: float,
        merge_duplicates: bool,
        picked: str,
        face_detector: core.FaceDetector | None = None,
    ) -> io.NodeOutput:
        found = core.find_faces(
            image,
            detector=face_detector or LIBRARY.load_detector(detector),
            confidence=confidence or None,
            min_face_size=smallest_face,
            max_face_size=largest_face or math.inf,
            merge_duplicates=merge_duplicates,
            on_progress=host.Progress(),
        )
        picks = core.apply_picks(found.faces, picked)
        said = report(found, *picks.events)
        logger.info("Detect Faces: %s", said)
        dropped = [
            [*(entry.face for entry in skipped), *(face for face, kept in zip(came, flags, strict=True) if not kept)]
            for skipped, came, flags in zip(found.skipped, found.faces.per_image, picks.kept, strict=True)
        ]
        (preview_Bhw3,) = host.placed([core.draw_faces(image, picks.faces, dropped)])
        ui = picker_view(image, found.faces, picks.kept, picks.changed)
        return io.NodeOutput(*face_values(picks.faces), preview_Bhw3, said, ui=ui)


class FacesFromLandmarks(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        schema = io.Schema(
            node_id="CodeFormerFacesFromLandmarks",
            display_name="Faces from Landmarks",
            category="image/face restore",
            description="Makes FACES of a face mesh that the MediaPipe node found, numbered as one reads.",
            inputs=[
                io.Image.Input("image", tooltip="The pictures in which the landmarks were found."),
                FaceLandmarksType.Input(
                    "face_landmarks",
                    tooltip="From Detect Face Landmarks (MediaPipe): 468 or 478 points for each face. That node finds "
                    "one face per picture unless its num_faces says otherwise.",
                ),
            ],
            outputs=[
                *face_outputs(),
                io.String.Output(display_name="report", tooltip="How many faces, and what was left out and why."),
            ],
        )
        return host.aliased(schema, "mediapipe", "face mesh", "face landmarks", "codeformer")

    @classmethod
    def execute(cls, image: Tensor, face_landmarks: Any) -> io.NodeOutput:
        found = core.faces_from_landmarks(image, face_landmarks)
        said = report(found)
        logger.info("Faces from Landmarks: %s", said)
        return io.NodeOutput(*face_values(found.faces), said)


def _inputs() -> list[io.Input]:
    return [
        io.Image.Input("image", tooltip="Pictures of any size, RGB or RGBA."),
        io.Combo.Input("detector", options=choices.or_auto(LIBRARY.detectors()), tooltip=choices.DETECTOR_TOOLTIP),
        FaceDetectorType.Input(
            "face_detector",
            optional=True,
            tooltip="From Load Face Detector: finds the faces instead of the detector chosen below, and stays loaded "
            "when another input changes.",
        ),
        confidence_input(),
        pixels_input("smallest_face", LEFT_OUT),
        pixels_input(
            "largest_face",
            "Faces whose box is wider or higher than this many pixels of the picture are left out. 0: none.",
            maximum=16384.0,
        ),
        host.advanced(
            io.Boolean.Input(
                "merge_duplicates",
                default=True,
                tooltip="Of detections that are the same face, keep only the surest. Off: each of them is a face.",
            )
        ),
        picked_input(),
    ]
