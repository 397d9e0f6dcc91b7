"""The node that restores the faces in pictures."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from comfy_api.latest import io
from torch import Tensor

from .. import codeformer_core as core
from . import host
from .previews import before_and_after
from .sockets import FaceDetectorType, FaceRestoreModel, FaceRestoreModelType, FacesType, own_faces

if TYPE_CHECKING:
    from ..codeformer_core.faces.detection import FaceDetector
    from ..codeformer_core.faces.found import Faces
    from ..codeformer_core.faces.selection import Which
    from ..codeformer_core.steps.shapes import MaskKind

logger = logging.getLogger(__name__)

ALIASES = ("codeformer", "face restore", "face fix", "gfpgan", "restore faces", "face enhance", "fix faces")


class FaceRestore(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        schema = io.Schema(
            node_id="CodeFormerFaceRestore",
            display_name="Face Restore",
            category="image/face restore",
            description="Finds the faces in pictures, restores them and blends them back. Pictures without a face come "
            "back as they were.",
            inputs=_inputs(),
            outputs=[
                io.Image.Output(display_name="IMAGE", tooltip="The pictures with restored faces."),
                io.Mask.Output(display_name="MASK", tooltip="Where faces were pasted, 1 where only they show."),
                FacesType.Output(display_name="FACES", tooltip="Boxes and landmarks of the restored faces."),
                io.String.Output(display_name="report", tooltip="What was found, restored and skipped, and why."),
            ],
        )
        return host.with_view(host.aliased(schema, *ALIASES))

    @classmethod
    def execute(
        cls,
        image: Tensor,
        face_restore_model: FaceRestoreModel,
        fidelity: float,
        upscale: float,
        confidence: float,
        smallest_face: float,
        faces: Which,
        mask: MaskKind,
        opacity: float,
        parity: bool,
        detector: FaceDetector | None = None,
        selected_faces: Faces | None = None,
        upscale_model: Any = None,
    ) -> io.NodeOutput:
        given = None if selected_faces is None else own_faces(selected_faces, "selected_faces")
        parser = face_restore_model.parser.value if mask == "face" else None
        restored = core.restore_images(
            image,
            restorer=face_restore_model.restorer,
            detector=given or detector or face_restore_model.detector.value,
            parser=parser,
            fidelity=fidelity,
            upscale=upscale,
            background=host.upscaler(upscale_model) if upscale_model is not None else None,
            confidence=confidence or None,
            smallest_face=smallest_face,
            faces=faces,
            mask=mask,
            opacity=opacity,
            parity=parity,
            keep_crops=False,
            on_progress=host.Progress(),
        )
        logger.info("Face Restore: %s", restored.made_with())
        report = "\n".join(filter(None, (restored.summary(), face_restore_model.remark)))
        images_BHWC, masks_BHW = host.placed((restored.images_BHWC, restored.masks_BHW))
        compare = before_and_after(image, images_BHWC)
        return io.NodeOutput(images_BHWC, masks_BHW, core.Faces.of(image, restored.faces), report, ui=compare)


def fidelity_input() -> io.Input:
    """The paper's w, as a slider."""
    return io.Float.Input(
        "fidelity",
        default=0.5,
        min=0.0,
        max=1.0,
        step=0.01,
        display_mode=io.NumberDisplay.slider,
        tooltip="0: cleanest faces, invented where the picture says little. 1: closest to the picture and its "
        "faults. Around 0.5 suits most photos; go up when a face no longer looks like the person.",
    )


def _inputs() -> list[io.Input]:
    return [
        io.Image.Input("image", tooltip="Pictures of any size, RGB or RGBA; transparency is kept."),
        FaceRestoreModelType.Input("face_restore_model", tooltip="From Load Face Restore Model."),
        fidelity_input(),
        FaceDetectorType.Input(
            "detector", optional=True, tooltip="Finds the faces instead of the detector of the face restore model."
        ),
        FacesType.Input(
            "selected_faces",
            optional=True,
            tooltip="From Detect Faces or Select Faces: exactly these are restored. Nothing is detected then, and "
            "confidence, smallest_face and faces have no effect.",
        ),
        io.UpscaleModel.Input(
            "upscale_model",
            optional=True,
            tooltip="Redraws the background with this model (Load Upscale Model), which takes far longer than the "
            "faces. The result's size is set by upscale alone. Without it the background is only resized.",
        ),
        io.Float.Input(
            "upscale",
            default=1.0,
            min=1.0,
            max=8.0,
            step=0.25,
            tooltip="Size of the result: 1 keeps the picture's size, 2 doubles width and height (4 times the memory).",
        ),
        *map(host.advanced, _advanced_inputs()),
    ]


def _advanced_inputs() -> list[io.Input]:
    return [
        io.Float.Input(
            "confidence",
            default=0.0,
            min=0.0,
            max=1.0,
            step=0.01,
            tooltip="How sure the detector must be that something is a face. Lower finds more faces and more that are "
            "none. 0: the detector's own default (RetinaFace 0.8, starter detector 0.5, YuNet 0.75).",
        ),
        io.Float.Input(
            "smallest_face",
            default=0.0,
            min=0.0,
            max=4096.0,
            step=1.0,
            tooltip="Faces whose box is narrower or lower than this many pixels of the picture are left alone.",
        ),
        io.Combo.Input(
            "faces",
            options=["all", "largest", "center"],
            tooltip="Which faces of a picture are restored: all, the largest, or the one nearest to the middle.",
        ),
        io.Combo.Input(
            "mask",
            options=["face", "outline", "box"],
            tooltip="What is pasted. face: the face and its hair as the parser finds them; without a parser's file "
            "(see Load Face Restore Model) the outline, and the report says so. outline: the face from forehead to "
            "chin, drawn from its landmarks. box: a soft-edged box.",
        ),
        io.Float.Input(
            "opacity",
            default=1.0,
            min=0.0,
            max=1.0,
            step=0.01,
            display_mode=io.NumberDisplay.slider,
            tooltip="How much of the restored face shows: 1 only it, 0.5 half it and half the picture, 0 nothing.",
        ),
        io.Boolean.Input(
            "parity",
            default=False,
            tooltip="Do exactly what the official CodeFormer program does, its faults and its 8-bit steps included, to "
            "compare results. Small pictures are enlarged, so the size may change.",
        ),
    ]
