"""The node that restores the faces in a video: VIDEO in, VIDEO out, frame after frame, never all at once."""

from __future__ import annotations

import logging
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from .. import codeformer_core as core
from . import host
from .inputs import (
    LEFT_ALONE,
    MASKS_BY_PARSER,
    chosen_fidelity,
    chosen_person,
    confidence_input,
    detector_input,
    fidelity_input,
    mask_input,
    option_input,
    paste_options,
    person_inputs,
    pixels_input,
)
from .previews import frames_before_and_after
from .reports import report
from .sockets import FaceRestoreModelType

logger = logging.getLogger(__name__)


class RestoreVideoFaces(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        schema = io.Schema(
            node_id="CodeFormerRestoreVideoFaces",
            display_name="Restore Video Faces",
            category="image/face restore",
            description="Restores the faces in a video of any length, one person on one steady path. Frames, times and "
            "sound stay as they are, and so does everything outside the faces.",
            inputs=_inputs(),
            outputs=[
                io.Video.Output(display_name="VIDEO", tooltip="The video with restored faces, for Save Video."),
                io.String.Output(display_name="report", tooltip="Frames, persons, cuts, and what was mended."),
            ],
        )
        return host.with_view(
            host.aliased(schema, "codeformer", "video face restore", "restore film", "face enhance video", "deflicker")
        )

    @classmethod
    def execute(
        cls,
        video: Any,
        face_restore_model: core.ModelBundle,
        fidelity: float,
        smoothing: core.Smoothing,
        faces: core.VideoFaces,
        detector: core.FaceDetector | None = None,
        confidence: float = 0.0,
        smallest_face: float = 0.0,
        mask: str = "face",
        opacity: float = 1.0,
        quality: float = -1.0,
        look_ahead: int = 12,
        when_worse: core.WhenWorse = "fade",
        reference: Tensor | None = None,
        person: str = "only this person",
        person_distance: float = 0.6,
    ) -> io.NodeOutput:
        found_by = detector or face_restore_model.detector
        whose = chosen_person(reference, person, person_distance, lambda: found_by)
        progress = host.Progress()
        with host.video_file(video) as part:
            made = core.restore_video(
                part.path,
                host.new_video(part.path),
                restorer=face_restore_model.restorer,
                detector=found_by,
                parser=face_restore_model.parser if mask in MASKS_BY_PARSER else None,
                landmark_detector=face_restore_model.landmark_detector,
                options=core.RestoreOptions(
                    fidelity=chosen_fidelity(fidelity),
                    confidence=confidence or None,
                    min_face_size=smallest_face,
                    detail=0.0,
                    when_worse=when_worse,
                    paste=paste_options(mask, "", opacity=opacity),
                ),
                video=core.VideoOptions(
                    smoothing=smoothing,
                    faces=faces,
                    look_ahead=look_ahead,
                    quality=None if quality < 0 else quality,
                ),
                choose=core.choose_person(whose) if whose else None,
                start=part.start,
                end=part.end,
                keep_parts=False,
                leave_out=("data", "attachment", "subtitle"),
                on_progress=progress,
                on_pasted=progress.show,
            )
        said = report(made, core.starter_event(face_restore_model.restorer.name))
        logger.info("Restore Video Faces: %s", said)
        view = frames_before_and_after(made.previews, made.frames, said)
        return io.NodeOutput(host.video_of(made.target), said, ui=view)


def _inputs() -> list[io.Input]:
    return [
        io.Video.Input("video", tooltip="From Load Video; a trimmed one is restored as far as it is trimmed."),
        FaceRestoreModelType.Input("face_restore_model", tooltip="From Load Face Restore Model."),
        fidelity_input(),
        option_input(core.VideoOptions, "smoothing"),
        option_input(core.VideoOptions, "faces"),
        detector_input(),
        *map(host.advanced, _advanced_inputs()),
        *person_inputs(),
    ]


def _advanced_inputs() -> list[io.Input]:
    return [
        confidence_input(),
        pixels_input("smallest_face", LEFT_ALONE),
        mask_input("What is pasted."),
        option_input(core.PasteOptions, "opacity"),
        io.Float.Input(
            "quality",
            default=-1.0,
            min=-1.0,
            max=63.0,
            step=1.0,
            tooltip=f"-1: automatic. {core.options_of(core.VideoOptions)['quality'].help}",
        ),
        io.Int.Input(
            "look_ahead",
            default=12,
            min=4,
            max=48,
            tooltip=core.options_of(core.VideoOptions)["look_ahead"].help,
        ),
        option_input(core.RestoreOptions, "when_worse", optional=True),
    ]
