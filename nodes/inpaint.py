"""The nodes that fill holes in faces: in aligned face crops, or in the faces of whole pictures."""

from __future__ import annotations

import logging

from comfy_api.latest import io
from torch import Tensor

from .. import codeformer_core as core
from . import host
from .inputs import face_source, finding_inputs
from .reports import report
from .sockets import FaceRestoreModelType, FacesType

logger = logging.getLogger(__name__)

ALIASES = ("codeformer", "face inpaint", "fill face", "remove from face", "repair face", "scratches")
MODEL_TOOLTIP = (
    "From Load Face Restore Model, with its task set to inpainting, or with codeformer_inpainting.pth or another model "
    "for inpainting."
)


class InpaintFaces(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        schema = io.Schema(
            node_id="CodeFormerInpaintFaces",
            display_name="Inpaint Faces",
            category="image/face restore",
            description="Fills holes in pictures that are aligned faces already. Nothing is detected or pasted, and "
            "what is not marked stays as it is.",
            inputs=[
                io.Image.Input(
                    "image",
                    tooltip="Aligned faces, as Crop Faces makes them. Other sizes are resized to 512 for the network "
                    "and back.",
                ),
                FaceRestoreModelType.Input("face_restore_model", tooltip=MODEL_TOOLTIP),
                *_marking_inputs("crop"),
            ],
            outputs=[
                io.Image.Output(display_name="IMAGE", tooltip="The filled faces, of the size they came in."),
                io.Mask.Output(display_name="MASK", tooltip="What was filled: 1 there, 0 elsewhere."),
                io.String.Output(display_name="report", tooltip="How much of each crop was filled, by which model."),
            ],
        )
        return host.aliased(schema, *ALIASES)

    @classmethod
    def execute(
        cls, image: Tensor, face_restore_model: core.ModelBundle, white_pixels: bool, mask: Tensor | None = None
    ) -> io.NodeOutput:
        inpainted = core.inpaint_aligned(
            image,
            restorer=face_restore_model.restorer,
            mask_BHW=mask,
            white_pixels=white_pixels,
            on_progress=host.Progress(),
        )
        said = report(inpainted)
        logger.info("Inpaint Faces: %s", said)
        images_BHWC, masks_BHW = host.placed((inpainted.images_BHWC, inpainted.masks_BHW))
        return io.NodeOutput(images_BHWC, masks_BHW, said)


class InpaintPhoto(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        schema = io.Schema(
            node_id="CodeFormerInpaintPhoto",
            display_name="Inpaint Photo",
            category="image/face restore",
            description="Finds the faces in pictures and fills what is marked in them. Marks that lie on no face stay.",
            inputs=[
                io.Image.Input("image", tooltip="Pictures of any size; transparency is kept."),
                FaceRestoreModelType.Input("face_restore_model", tooltip=MODEL_TOOLTIP),
                *_marking_inputs("picture"),
                *finding_inputs(),
            ],
            outputs=[
                io.Image.Output(display_name="IMAGE", tooltip="The pictures with their faces filled."),
                io.Mask.Output(display_name="MASK", tooltip="What was filled, 1 where only the new pixels show."),
                FacesType.Output(display_name="FACES", tooltip="The faces in which something was filled."),
                io.String.Output(display_name="report", tooltip="What was found, filled and left as it was, and why."),
            ],
        )
        return host.aliased(schema, *ALIASES)

    @classmethod
    def execute(
        cls,
        image: Tensor,
        face_restore_model: core.ModelBundle,
        white_pixels: bool,
        confidence: float,
        smallest_face: float,
        mask: Tensor | None = None,
        detector: core.FaceDetector | None = None,
        faces: core.FaceBatch | None = None,
    ) -> io.NodeOutput:
        inpainted = core.inpaint_photos(
            image,
            restorer=face_restore_model.restorer,
            face_source=face_source(face_restore_model, detector, faces),
            mask_BHW=mask,
            white_pixels=white_pixels,
            confidence=confidence or None,
            min_face_size=smallest_face,
            on_progress=host.Progress(),
        )
        said = report(inpainted)
        logger.info("Inpaint Photo: %s", said)
        images_BHWC, masks_BHW = host.placed((inpainted.images_BHWC, inpainted.masks_BHW))
        return io.NodeOutput(images_BHWC, masks_BHW, inpainted.faces, said)


def _marking_inputs(what: str) -> list[io.Input]:
    return [
        io.Mask.Input(
            "mask",
            optional=True,
            tooltip=f"What is to be filled: 1 there, 0 elsewhere (the limit is 0.5). One for each {what}, or one for "
            f"all; another size is stretched to the {what}'s.",
        ),
        io.Boolean.Input(
            "white_pixels",
            default=True,
            tooltip="Without a mask: fill the pixels that are pure white (255, 255, 255), as the official program "
            "does. Off: without a mask nothing is filled. With a mask it has no effect.",
        ),
    ]
