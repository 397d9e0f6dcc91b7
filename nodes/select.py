"""The nodes that choose among the faces found."""

from __future__ import annotations

import logging
from typing import get_args

from comfy_api.latest import io
from torch import Tensor

from .. import codeformer_core as core
from . import host
from .choices import LIBRARY
from .inputs import LEFT_OUT, chosen_person, person_inputs, pixels_input, share_input
from .picker import face_outputs, face_values, picked_input, picker_view
from .reports import report
from .sockets import FacesType, own_faces

logger = logging.getLogger(__name__)


class SelectFaces(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        schema = io.Schema(
            node_id="CodeFormerSelectFaces",
            display_name="Select Faces",
            category="image/face restore",
            description="Keeps some of the faces found in each picture: by number, size, turn, score, or picked by "
            "hand. They go on in the chosen order, numbered anew.",
            inputs=_inputs(),
            outputs=[
                *face_outputs(),
                io.String.Output(display_name="report", tooltip="What is selected and what left out, and why."),
            ],
            # So that it also runs alone, to look and to pick.
            is_output_node=True,
        )
        return host.with_view(
            host.aliased(schema, "codeformer", "filter faces", "pick faces", "face index", "sort faces")
        )

    @classmethod
    def execute(
        cls,
        faces: core.FaceBatch,
        numbers: str,
        order: core.Order,
        keep: int,
        confidence: float,
        smallest_face: float,
        largest_turn: float,
        picked: str,
        image: Tensor | None = None,
        reference: Tensor | None = None,
        person: str = "only this person",
        person_distance: float = 0.6,
    ) -> io.NodeOutput:
        if image is not None:
            core.check_same_images(own_faces(faces), image)
        selected = core.select_faces(
            own_faces(faces),
            numbers=numbers,
            order=order,
            keep=keep,
            confidence=confidence,
            min_face_size=smallest_face,
            max_yaw=largest_turn,
            picked=picked,
            person=chosen_person(reference, person, person_distance, lambda: LIBRARY.load_detector(core.AUTO)),
            images_BHWC=image,
        )
        unlike = [] if image is None else core.unlike_images(faces, image)
        said = report(selected, *unlike)
        logger.info("Select Faces: %s", said)
        ui = picker_view(image, faces, selected.picked, selected.changed, selected.kept)
        return io.NodeOutput(*face_values(selected.faces), said, ui=ui)


class FacesFromMask(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        schema = io.Schema(
            node_id="CodeFormerFacesFromMask",
            display_name="Faces from Mask",
            category="image/face restore",
            description="Keeps the faces that lie inside a mask.",
            inputs=[
                FacesType.Input("faces", tooltip="From Detect Faces or any other node that hands out FACES."),
                io.Mask.Input(
                    "mask",
                    tooltip="White where faces are to be kept. Stretched to the pictures' size; one for each picture, "
                    "or one for all.",
                ),
                io.Float.Input(
                    "share",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    display_mode=io.NumberDisplay.slider,
                    tooltip="How much of a face's box must lie inside the mask: 0.5 half of its area, 1 all of it, 0 "
                    "any part. Lower keeps more faces.",
                ),
            ],
            outputs=[
                *face_outputs(),
                io.String.Output(
                    display_name="report", tooltip="How many are kept, and how far the others are inside."
                ),
            ],
        )
        return host.aliased(schema, "filter faces", "faces in mask", "mask faces", "codeformer")

    @classmethod
    def execute(cls, faces: core.FaceBatch, mask: Tensor, share: float) -> io.NodeOutput:
        inside = core.faces_in_mask(own_faces(faces), mask, share)
        said = report(inside)
        logger.info("Faces from Mask: %s", said)
        return io.NodeOutput(*face_values(inside.faces), said)


def _inputs() -> list[io.Input]:
    return [
        FacesType.Input("faces", tooltip="From Detect Faces or any other node that hands out FACES."),
        io.Image.Input(
            "image",
            optional=True,
            tooltip="The pictures in which the faces were found: shown in the face picker, and compared with the faces "
            "so that a mix-up is reported. A reference photo needs them, too.",
        ),
        io.String.Input(
            "numbers",
            default="",
            tooltip="Keep only these faces of each picture: numbers as in the preview of Detect Faces, such as 1, 3-5. "
            "Empty: all.",
        ),
        io.Combo.Input(
            "order",
            options=list(get_args(core.Order)),
            tooltip="The order in which the faces go on and are numbered anew; with keep, it decides which ones stay.",
        ),
        io.Int.Input(
            "keep",
            default=0,
            min=0,
            max=1024,
            tooltip="Keep so many faces of each picture, the first in the order above. 0: all.",
        ),
        pixels_input("smallest_face", LEFT_OUT),
        io.Float.Input(
            "largest_turn",
            default=90.0,
            min=0.0,
            max=90.0,
            step=1.0,
            tooltip="Faces turned further to the side than this many degrees are left out: 30 keeps faces that look at "
            "the camera, 60 drops profiles, 90 keeps all. Estimated from the landmarks, to about 10 degrees.",
        ),
        host.advanced(
            share_input(
                "confidence",
                0.0,
                "Faces that the detector was less sure of are left out. Higher keeps fewer. 0: all that came.",
                slider=False,
            )
        ),
        picked_input(),
        *map(host.advanced, person_inputs()),
    ]
