"""The nodes that colorize: aligned face crops, or the faces in whole pictures."""

from __future__ import annotations

import logging

from comfy_api.latest import io
from torch import Tensor

from .. import codeformer_core as core
from . import host
from .inputs import MASKS_BY_PARSER, face_source, finding_inputs, mask_input, option_input
from .reports import report
from .sockets import FaceRestoreModelType, FacesType

logger = logging.getLogger(__name__)

ALIASES = ("codeformer", "colorize", "colorization", "colourise", "black and white", "old photo")
COLOUR_ONLY = "colour only"
MODEL_TOOLTIP = (
    "From Load Face Restore Model, with its task set to colorization, or with codeformer_colorization.pth or another "
    "model for colorization."
)


class ColorizeFaces(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        schema = io.Schema(
            node_id="CodeFormerColorizeFaces",
            display_name="Colorize Faces",
            category="image/face restore",
            description="Gives colour to pictures that are aligned faces already. Nothing is detected or pasted.",
            inputs=[
                io.Image.Input(
                    "image",
                    tooltip="Aligned faces, as Crop Faces makes them, gray or not. Other sizes are resized to 512 for "
                    "the network and back.",
                ),
                FaceRestoreModelType.Input("face_restore_model", tooltip=MODEL_TOOLTIP),
                io.Boolean.Input(
                    "chroma_only",
                    default=False,
                    tooltip="Off: the network's face as the official program gives it, redrawn. On: only its colours; "
                    "brightness and every detail stay the crop's own.",
                ),
                _fidelity_input(),
            ],
            outputs=[
                io.Image.Output(display_name="IMAGE", tooltip="The faces in colour, of the size they came in."),
                io.String.Output(display_name="report", tooltip="How many, by which model, and what was left out."),
            ],
        )
        return host.aliased(schema, *ALIASES)

    @classmethod
    def execute(
        cls, image: Tensor, face_restore_model: core.ModelBundle, chroma_only: bool, fidelity: float
    ) -> io.NodeOutput:
        colorized = core.colorize_aligned(
            image,
            restorer=face_restore_model.restorer,
            fidelity=fidelity,
            chroma_only=chroma_only,
            on_progress=host.Progress(),
        )
        said = report(colorized)
        logger.info("Colorize Faces: %s", said)
        (images_BHWC,) = host.placed([colorized.images_BHWC])
        return io.NodeOutput(images_BHWC, said)


class ColorizePhoto(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        schema = io.Schema(
            node_id="CodeFormerColorizePhoto",
            display_name="Colorize Photo",
            category="image/face restore",
            description="Finds the faces in pictures and gives them colour. Everything but the faces stays as it is.",
            inputs=_photo_inputs(),
            outputs=[
                io.Image.Output(display_name="IMAGE", tooltip="The pictures with their faces in colour."),
                io.Mask.Output(display_name="MASK", tooltip="Where faces got colour, 1 where only the new one shows."),
                FacesType.Output(display_name="FACES", tooltip="The faces that were colorized."),
                io.String.Output(display_name="report", tooltip="What was found, colorized and skipped, and why."),
            ],
        )
        return host.aliased(schema, *ALIASES)

    @classmethod
    def execute(
        cls,
        image: Tensor,
        face_restore_model: core.ModelBundle,
        paste: str,
        confidence: float,
        smallest_face: float,
        mask: core.MaskKind,
        opacity: float,
        fidelity: float,
        detector: core.FaceDetector | None = None,
        faces: core.FaceBatch | None = None,
    ) -> io.NodeOutput:
        colorized = core.colorize_photos(
            image,
            restorer=face_restore_model.restorer,
            face_source=face_source(face_restore_model, detector, faces),
            parser=face_restore_model.parser if mask in MASKS_BY_PARSER else None,
            fidelity=fidelity,
            chroma_only=paste == COLOUR_ONLY,
            mask=mask,
            opacity=opacity,
            confidence=confidence or None,
            min_face_size=smallest_face,
            on_progress=host.Progress(),
        )
        said = report(colorized)
        logger.info("Colorize Photo: %s", said)
        images_BHWC, masks_BHW = host.placed((colorized.images_BHWC, colorized.masks_BHW))
        return io.NodeOutput(images_BHWC, masks_BHW, colorized.faces, said)


def _photo_inputs() -> list[io.Input]:
    return [
        io.Image.Input("image", tooltip="Pictures of any size, gray or not; transparency is kept."),
        FaceRestoreModelType.Input("face_restore_model", tooltip=MODEL_TOOLTIP),
        io.Combo.Input(
            "paste",
            options=[COLOUR_ONLY, "whole face"],
            tooltip="colour only: the picture keeps its brightness and every detail, and gets the network's colours. "
            "whole face: the network's redrawn face is pasted, which also mends it, but may change the person.",
        ),
        *finding_inputs(),
        *map(host.advanced, _advanced_inputs()),
    ]


def _advanced_inputs() -> list[io.Input]:
    return [
        mask_input("What gets colour.", default="head"),
        option_input(
            core.PasteOptions,
            "opacity",
            tooltip="How much of the new colour shows: 1 all of it, 0.5 half, 0 nothing.",
        ),
        _fidelity_input(),
    ]


def _fidelity_input() -> io.Input:
    tooltip = (
        "0: the published choice, with the strongest colours. Towards 1 the face comes closer to the picture, its "
        "grayness included."
    )
    return host.advanced(option_input(core.RestoreOptions, "fidelity", tooltip=tooltip, default=0.0))
