"""The node that restores the faces in pictures."""

from __future__ import annotations

import logging
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from .. import codeformer_core as core
from . import host
from .inputs import (
    AUTOMATIC,
    DETAILS,
    LEFT_ALONE,
    MASKS_BY_PARSER,
    USUAL_REGIONS,
    chosen_fidelity,
    chosen_person,
    confidence_input,
    detail_input,
    detector_input,
    face_source,
    fidelity_input,
    mask_input,
    option_input,
    paste_options,
    person_inputs,
    pixels_input,
    regions_input,
)
from .previews import before_and_after
from .reports import report
from .sockets import FaceRestoreModelType, FacesType

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
        face_restore_model: core.ModelBundle,
        fidelity: float,
        upscale: float,
        confidence: float,
        smallest_face: float,
        faces: core.FaceSelection,
        mask: str,
        opacity: float,
        parity: bool,
        detector: core.FaceDetector | None = None,
        selected_faces: core.FaceBatch | None = None,
        upscale_model: Any = None,
        regions: str = USUAL_REGIONS,
        grow: float = 0.0,
        feather: float = 0.0,
        color_match: core.ColorMatch = "automatic",
        chroma_only: bool = False,
        clip_mask: Tensor | None = None,
        detail: str = AUTOMATIC,
        when_worse: core.WhenWorse = "fade",
        largest_face: float = 0.0,
        reference: Tensor | None = None,
        person: str = "only this person",
        person_distance: float = 0.6,
    ) -> io.NodeOutput:
        paste = paste_options(
            mask,
            regions,
            grow=grow,
            feather=feather,
            opacity=opacity,
            color_match=color_match,
            chroma_only=chroma_only,
        )
        parser = face_restore_model.parser if mask in MASKS_BY_PARSER else None
        progress = host.Progress()
        restored = core.restore_images(
            image,
            restorer=face_restore_model.restorer,
            detector=face_source(face_restore_model, detector, selected_faces, "selected_faces"),
            parser=parser,
            landmark_detector=face_restore_model.landmark_detector,
            fidelity=chosen_fidelity(fidelity),
            upscale=upscale,
            background=host.upscaler(upscale_model) if upscale_model is not None else None,
            confidence=confidence or None,
            min_face_size=smallest_face,
            max_face_size=largest_face,
            faces=faces,
            paste=paste,
            person=chosen_person(reference, person, person_distance, lambda: detector or face_restore_model.detector),
            clip_mask_BHW=clip_mask,
            detail=DETAILS[detail],
            when_worse=when_worse,
            parity=parity,
            keep_crops=False,
            on_progress=progress,
            on_pasted=progress.show,
        )
        said = report(restored, core.starter_event(face_restore_model.restorer.name))
        logger.info("Face Restore: %s", said)
        images_BHWC, masks_BHW = host.placed((restored.images_BHWC, restored.masks_BHW))
        compare = before_and_after(image, restored, when_worse, said)
        return io.NodeOutput(images_BHWC, masks_BHW, core.FaceBatch.of(image, restored.faces), said, ui=compare)


def _inputs() -> list[io.Input]:
    return [
        io.Image.Input("image", tooltip="Pictures of any size, RGB or RGBA; transparency is kept."),
        FaceRestoreModelType.Input("face_restore_model", tooltip="From Load Face Restore Model."),
        fidelity_input(),
        detector_input(),
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
        option_input(core.RestoreOptions, "upscale"),
        *map(host.advanced, _advanced_inputs()),
    ]


def _advanced_inputs() -> list[io.Input]:
    return [
        confidence_input(),
        pixels_input("smallest_face", LEFT_ALONE),
        option_input(core.RestoreOptions, "faces"),
        mask_input("What is pasted.", regions=True),
        option_input(core.PasteOptions, "opacity"),
        option_input(core.RestoreOptions, "parity"),
        *_paste_inputs(),
    ]


def _paste_inputs() -> list[io.Input]:
    """Behind all others, and optional, so that saved workflows and prompts mean the same as before they came."""
    return [
        regions_input("parsing_parsenet.pth, see Load Face Restore Model", optional=True),
        option_input(core.PasteOptions, "grow", optional=True),
        option_input(core.PasteOptions, "feather", optional=True),
        option_input(
            core.PasteOptions,
            "color_match",
            tooltip="automatic: a restored face has the light and skin tone that it had in its photo. low-frequency: "
            "that of the result's background. mean-std: the same mean and contrast per channel as the background. off: "
            "the restorer's colours.",
            optional=True,
        ),
        option_input(
            core.PasteOptions,
            "chroma_only",
            tooltip="The picture keeps its brightness and gets only the colours of the restored face.",
            optional=True,
        ),
        io.Mask.Input(
            "clip_mask",
            optional=True,
            tooltip="Faces are pasted only where this mask is white. Stretched to the result's size; one for each "
            "picture, or one for all.",
        ),
        detail_input(),
        option_input(core.RestoreOptions, "when_worse", optional=True),
        option_input(core.RestoreOptions, "max_face_size", name="largest_face", optional=True),
        *person_inputs(),
    ]
