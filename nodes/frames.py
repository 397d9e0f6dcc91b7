"""The nodes for the frames of a video that are a batch of pictures: tracks, and steady crops."""

from __future__ import annotations

import logging

from comfy_api.latest import io
from torch import Tensor

from .. import codeformer_core as core
from . import host
from .choices import LIBRARY
from .inputs import chosen_person, person_inputs
from .reports import report
from .sockets import BoundingBoxType, FacesType, own_faces

logger = logging.getLogger(__name__)


class TrackFaces(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        schema = io.Schema(
            node_id="CodeFormerTrackFaces",
            display_name="Track Faces",
            category="image/face restore",
            description="Follows the faces through frames: one person on one steady path, in one order. False "
            "detections of a few frames go, gaps of up to 12 frames are closed, and no path reaches over a cut.",
            inputs=[
                io.Image.Input("image", tooltip="The frames in which the faces were found, all and in order."),
                FacesType.Input("faces", tooltip="From Detect Faces."),
                io.Int.Input(
                    "look_ahead",
                    default=0,
                    min=0,
                    max=48,
                    tooltip="Frames after one that its path depends on, 4 or more. 0: as many as are of any use.",
                ),
                *person_inputs(),
            ],
            outputs=[
                FacesType.Output(display_name="FACES", tooltip="For Face Restore (selected_faces) and Crop Faces."),
                BoundingBoxType.Output(display_name="BOUNDING_BOX", tooltip="Their boxes, a list for each frame."),
                io.String.Output(display_name="report", tooltip="Persons, cuts, closed gaps, and faces of each frame."),
            ],
        )
        return host.aliased(schema, "codeformer", "face tracking", "stabilize faces", "video faces", "jitter")

    @classmethod
    def execute(
        cls,
        image: Tensor,
        faces: core.FaceBatch,
        look_ahead: int,
        reference: Tensor | None = None,
        person: str = "only this person",
        person_distance: float = 0.6,
    ) -> io.NodeOutput:
        tracked = core.track_faces(
            own_faces(faces),
            image,
            look_ahead=look_ahead or None,
            person=chosen_person(reference, person, person_distance, lambda: LIBRARY.load_detector(core.AUTO)),
        )
        said = report(tracked)
        logger.info("Track Faces: %s", said)
        return io.NodeOutput(tracked.faces, core.bounding_boxes(tracked.faces), said)


class SmoothFaceCrops(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        schema = io.Schema(
            node_id="CodeFormerSmoothFaceCrops",
            display_name="Smooth Face Crops",
            category="image/face restore",
            description="Takes the flicker out of restored crops: each is averaged with those of the two frames before "
            "and after it, moved to where the face is, where the crops looked the same before.",
            inputs=[
                io.Image.Input("before", tooltip="The crops as Crop Faces made them."),
                io.Image.Input("restored", tooltip="The same crops restored, for example by Restore Face Crops."),
                FacesType.Input("faces", tooltip="From the Crop Faces node that made them, fed by Track Faces."),
            ],
            outputs=[io.Image.Output(display_name="IMAGE", tooltip="The restored crops, steady; for Paste Faces.")],
        )
        return host.aliased(schema, "codeformer", "deflicker", "temporal", "video faces")

    @classmethod
    def execute(cls, before: Tensor, restored: Tensor, faces: core.FaceBatch) -> io.NodeOutput:
        if own_faces(faces).count == 0:  # the placeholder crop
            return io.NodeOutput(restored)
        (smooth_NHW3,) = host.placed([core.smooth_crops(before, restored, faces)])
        return io.NodeOutput(smooth_NHW3)
