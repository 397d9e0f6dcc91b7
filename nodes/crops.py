"""The restoration in three steps: cut the faces out, restore the crops, paste them back."""

from __future__ import annotations

import logging
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from .. import codeformer_core as core
from . import host
from .choices import LIBRARY
from .inputs import (
    AUTOMATIC,
    DETAILS,
    MASKS,
    MASKS_BY_PARSER,
    chosen_fidelity,
    detail_input,
    fidelity_input,
    option_input,
    paste_options,
    regions_input,
)
from .reports import report
from .sockets import FaceRestoreModelType, FacesType, own_faces

logger = logging.getLogger(__name__)


class CropFaces(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        schema = io.Schema(
            node_id="CodeFormerCropFaces",
            display_name="Crop Faces",
            category="image/face restore",
            description="Cuts every face out, upright and aligned, 512x512. Paste Faces puts them back.",
            inputs=[
                io.Image.Input("image", tooltip="The pictures in which the faces were found."),
                FacesType.Input("faces", tooltip="From Detect Faces, Select Faces or Face Restore."),
            ],
            outputs=[
                io.Image.Output(display_name="IMAGE", tooltip="One crop for each face; a gray one when there is none."),
                FacesType.Output(display_name="FACES", tooltip="The faces of these crops, for Paste Faces."),
                io.String.Output(display_name="report", tooltip="How many, and what was left out."),
            ],
        )
        return host.aliased(schema, "face crop", "align faces", "extract faces", "cut out faces")

    @classmethod
    def execute(cls, image: Tensor, faces: core.FaceBatch) -> io.NodeOutput:
        cropped = core.crop_faces(image, own_faces(faces))
        said = report(cropped)
        logger.info("Crop Faces: %s", said)
        (crops_NHW3,) = host.placed([cropped.crops_NHW3 if cropped.faces.count else core.placeholder_crop()])
        return io.NodeOutput(crops_NHW3, cropped.faces, said)


class RestoreFaceCrops(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        schema = io.Schema(
            node_id="CodeFormerRestoreFaceCrops",
            display_name="Restore Face Crops",
            category="image/face restore",
            description="Restores pictures that are aligned faces already. Nothing is detected or pasted.",
            inputs=[
                io.Image.Input(
                    "image",
                    tooltip="Aligned faces, as Crop Faces makes them. Other sizes are resized to "
                    "512 for the network and back.",
                ),
                FaceRestoreModelType.Input("face_restore_model", tooltip="From Load Face Restore Model."),
                FacesType.Input(
                    "faces",
                    optional=True,
                    tooltip="From the Crop Faces node that made the crops: tells a model that restores part by part "
                    "(DFDNet) where eyes, nose and mouth lie. Others don't need it.",
                ),
                fidelity_input(),
                host.advanced(detail_input()),
            ],
            outputs=[
                io.Image.Output(display_name="IMAGE", tooltip="The restored crops, of the size they came in."),
                io.String.Output(display_name="report", tooltip="How many, by which model, and whether resized."),
            ],
        )
        return host.aliased(schema, "codeformer", "restore crops", "aligned faces")

    @classmethod
    def execute(
        cls,
        image: Tensor,
        face_restore_model: core.ModelBundle,
        fidelity: float,
        faces: core.FaceBatch | None = None,
        detail: str = AUTOMATIC,
    ) -> io.NodeOutput:
        restored = core.restore_aligned(
            image,
            restorer=face_restore_model.restorer,
            faces=None if faces is None else own_faces(faces),
            landmark_detector=face_restore_model.landmark_detector,
            fidelity=chosen_fidelity(fidelity),
            detail=DETAILS[detail],
            on_progress=host.Progress(),
        )
        said = report(restored, core.starter_event(face_restore_model.restorer.name))
        logger.info("Restore Face Crops: %s", said)
        (placed_NHWC,) = host.placed([restored.images_BHWC])
        return io.NodeOutput(placed_NHWC, said)


class PasteFaces(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        schema = io.Schema(
            node_id="CodeFormerPasteFaces",
            display_name="Paste Faces",
            category="image/face restore",
            description="Blends face crops back into their pictures, or into the same pictures enlarged. Pasted into "
            "the pictures themselves, what a crop did not change stays their own pixels.",
            inputs=_paste_inputs(),
            outputs=[
                io.Image.Output(display_name="IMAGE", tooltip="The backgrounds with the faces."),
                io.Mask.Output(display_name="MASK", tooltip="Where faces were pasted, 1 where only they show."),
                io.String.Output(display_name="report", tooltip="What was pasted and left out, and why."),
            ],
        )
        return host.aliased(schema, "paste back", "blend faces", "face composite", "uncrop faces")

    @classmethod
    def execute(
        cls,
        background: Tensor,
        crops: Tensor,
        faces: core.FaceBatch,
        mask: str,
        opacity: float,
        color_match: core.ColorMatch,
        regions: str,
        grow: float,
        feather: float,
        face_restore_model: core.ModelBundle | None = None,
        limit: Tensor | None = None,
        upscale_model: Any = None,
    ) -> io.NodeOutput:
        options = paste_options(mask, regions, grow=grow, feather=feather, opacity=opacity, color_match=color_match)
        parser = None
        if mask in MASKS_BY_PARSER:
            parser = face_restore_model.parser if face_restore_model else LIBRARY.load_parser(core.FACE_MESH)
        pasted = core.paste_faces(
            background,
            crops,
            own_faces(faces),
            options=options,
            parser=parser,
            clip_mask_BHW=limit,
            face_upscaler=host.upscaler(upscale_model) if upscale_model is not None else None,
            on_progress=host.Progress(),
        )
        said = report(pasted)
        logger.info("Paste Faces: %s", said)
        images_BHWC, masks_BHW = host.placed((pasted.images_BHWC, pasted.masks_BHW))
        return io.NodeOutput(images_BHWC, masks_BHW, said)


def _paste_inputs() -> list[io.Input]:
    return [
        io.Image.Input(
            "background",
            tooltip="The pictures the faces came from, or the same enlarged by any node. One for each picture, or one "
            "for all.",
        ),
        io.Image.Input("crops", tooltip="One crop for each face, in the order of Crop Faces, of any size."),
        FacesType.Input("faces", tooltip="From the Crop Faces node that made the crops."),
        FaceRestoreModelType.Input(
            "face_restore_model",
            optional=True,
            tooltip="Lends its face parser to the masks face, head and regions. Without it face_mesh is taken, which "
            "comes with the pack and sees no hair.",
        ),
        io.Mask.Input(
            "limit",
            optional=True,
            tooltip="Faces are pasted only where this mask is white. Stretched to the background's size; one for each "
            "picture, or one for all.",
        ),
        io.UpscaleModel.Input(
            "upscale_model",
            optional=True,
            tooltip="Redraws each crop with this model (Load Upscale Model) where pasting would enlarge it. Without it "
            "crops are only resized.",
        ),
        io.Combo.Input(
            "mask",
            options=list(MASKS),
            tooltip="What is pasted. face: the face as the parser finds it, with the hair if that is ParseNet. "
            "head: with hair, ears and neck. outline: from forehead to chin, drawn from five landmarks. box: a "
            "soft-edged box. regions: only those named below.",
        ),
        option_input(
            core.PasteOptions,
            "opacity",
            tooltip="How much of the crop shows: 1 only it, 0.5 half it and half the background, 0 nothing.",
        ),
        option_input(core.PasteOptions, "color_match", choices=("off", "mean-std", "low-frequency")),
        *map(host.advanced, _edge_inputs()),
    ]


def _edge_inputs() -> list[io.Input]:
    return [
        regions_input("face_restore_model with parsing_parsenet.pth installed"),
        option_input(core.PasteOptions, "grow"),
        option_input(core.PasteOptions, "feather"),
    ]
