"""The loaders: a restorer with its default detector and parser, or a detector alone."""

from __future__ import annotations

import logging
from typing import Any

import torch
from comfy_api.latest import io

from .. import codeformer_core as core
from . import choices, host
from .choices import LIBRARY
from .reports import report
from .sockets import FaceDetectorType, FaceRestoreModelType

logger = logging.getLogger(__name__)

ALIASES = ("codeformer", "face restore", "face fix", "gfpgan", "vqfr", "dfdnet", "restoreformer")
DETECTOR_ALIASES = ("codeformer", "face detection", "retinaface", "yunet")
USES_OF_MODEL = "For all nodes that restore, colorize, inpaint or compare faces."
USES_OF_DETECTOR = "For Face Restore, Colorize Photo, Inpaint Photo and Detect Faces."
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
DTYPE_TOOLTIP = (
    "Precision of the restoration network. bfloat16 halves its memory and is faster on newer graphics cards, at "
    "slightly less accuracy. Where the device has no fast bfloat16, float32 is used and the log says so."
)
TASK_TOOLTIP = (
    "What the model is for. With colorization or inpainting, auto in model stands for the best one for that. Where a "
    "file doesn't say what it was trained for, as a fine-tune of CodeFormer may not, this does. auto: as the file "
    "says, else as the published model of the same sizes, and the report says so. A file that is known to be for "
    "another task is refused."
)


class LoadFaceRestoreModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        models = choices.or_auto(LIBRARY.restorers())
        detectors = choices.Offered(choices.or_auto(LIBRARY.detectors()), core.DETECTOR)
        parsers = choices.Offered(choices.or_auto(LIBRARY.parsers()), core.PARSER)
        schema = io.Schema(
            node_id="CodeFormerLoadModel",
            display_name="Load Face Restore Model",
            category="image/face restore",
            description="Loads a face restorer (CodeFormer, VQFR, DFDNet, GFPGAN or RestoreFormer), with the face "
            "detector and parser to go with it.",
            inputs=[
                io.Combo.Input("model", options=models, tooltip=choices.MODEL_TOOLTIP),
                host.advanced(io.Combo.Input("detector", options=detectors, tooltip=choices.DETECTOR_TOOLTIP)),
                host.advanced(io.Combo.Input("parser", options=parsers, tooltip=choices.PARSER_TOOLTIP)),
                host.advanced(io.Combo.Input("dtype", options=list(DTYPES), tooltip=DTYPE_TOOLTIP)),
                # Optional: it came later, and prompts without it stay valid.
                host.advanced(
                    io.Combo.Input("task", options=[core.AUTO, *core.TASKS], tooltip=TASK_TOOLTIP, optional=True)
                ),
            ],
            outputs=[FaceRestoreModelType.Output(display_name="FACE_RESTORE_MODEL", tooltip=USES_OF_MODEL)],
        )
        return host.aliased(schema, *ALIASES)

    @classmethod
    def validate_inputs(cls, model: str | None = None, task: str | None = None) -> bool | str:
        # The host repeats what is wrong for each input that is named here. It checks the others by their lists (0.3.64
        # doesn't: there a file that is missing is said by the node that needs it).
        return choices.verdict((model, core.restorer_kind(_task(task))))

    @classmethod
    def fingerprint_inputs(
        cls,
        model: str | None = None,
        detector: str | None = None,
        parser: str | None = None,
        dtype: str | None = None,
        task: str | None = None,
    ) -> tuple[Any, ...]:
        """Load again when a file has arrived that "auto" would take, or a file was replaced."""
        return (
            choices.state(model, core.restorer_kind(_task(task))),
            choices.state(detector, core.DETECTOR),
            choices.state(parser, core.PARSER),
            choices.state(core.AUTO, core.LANDMARK_DETECTOR),
        )

    @classmethod
    def execute(cls, model: str, detector: str, parser: str, dtype: str, task: str = core.AUTO) -> io.NodeOutput:
        # Here and not above: the host's start is not to wait for the networks.

        wanted = _task(task)
        bundle = LIBRARY.load(core.ModelChoices(model, detector, parser, DTYPES[dtype], task=wanted))
        if wanted:
            core.check_task(bundle.restorer, wanted)
        if starter := core.starter_event(bundle.restorer.name):
            logger.info("Load Face Restore Model: %s", report([starter]))
        return io.NodeOutput(bundle)


def _task(chosen: str | None) -> str | None:
    """None: what the file says. What another node feeds isn't known before it has run."""
    return chosen if chosen in core.TASKS else None


class LoadFaceDetector(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        schema = io.Schema(
            node_id="CodeFormerLoadDetector",
            display_name="Load Face Detector",
            category="image/face restore",
            description="Loads a face detector to be used instead of the one that Load Face Restore Model brings.",
            inputs=[io.Combo.Input("detector", options=LIBRARY.detectors(), tooltip=choices.DETECTOR_TOOLTIP)],
            outputs=[FaceDetectorType.Output(display_name="FACE_DETECTOR", tooltip=USES_OF_DETECTOR)],
        )
        return host.aliased(schema, *DETECTOR_ALIASES)

    @classmethod
    def validate_inputs(cls, detector: str | None = None) -> bool | str:
        return choices.verdict((detector, core.DETECTOR))

    @classmethod
    def fingerprint_inputs(cls, detector: str | None = None) -> core.Fingerprint | None:
        """Load again when the file was replaced."""
        return choices.state(detector, core.DETECTOR)

    @classmethod
    def execute(cls, detector: str) -> io.NodeOutput:
        return io.NodeOutput(LIBRARY.load_detector(detector))
