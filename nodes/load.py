"""The loaders: a restorer with its default detector and parser, or a detector alone."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from comfy_api.latest import io

from .. import codeformer_core as core
from . import choices, host
from .managed import ManagedRestorer, managed_aligner, managed_detector, managed_parser
from .sockets import FaceDetectorType, FaceRestoreModel, FaceRestoreModelType, LoadedOnce

if TYPE_CHECKING:
    from ..codeformer_core.faces.detection import FaceDetector
    from ..codeformer_core.faces.landmarks import FaceAligner
    from ..codeformer_core.faces.parsing import FaceParser

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


class LoadFaceRestoreModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        detectors, parsers = choices.detectors_or_auto(), choices.parsers_or_auto()
        schema = io.Schema(
            node_id="CodeFormerLoadModel",
            display_name="Load Face Restore Model",
            category="image/face restore",
            description="Loads a face restorer (CodeFormer, VQFR, DFDNet, GFPGAN or RestoreFormer), with the face "
            "detector and parser to go with it.",
            inputs=[
                io.Combo.Input("model", options=choices.restorers_or_auto(), tooltip=choices.MODEL_TOOLTIP),
                host.advanced(io.Combo.Input("detector", options=detectors, tooltip=choices.DETECTOR_TOOLTIP)),
                host.advanced(io.Combo.Input("parser", options=parsers, tooltip=choices.PARSER_TOOLTIP)),
                host.advanced(io.Combo.Input("dtype", options=list(DTYPES), tooltip=DTYPE_TOOLTIP)),
            ],
            outputs=[FaceRestoreModelType.Output(display_name="FACE_RESTORE_MODEL", tooltip=USES_OF_MODEL)],
        )
        return host.aliased(schema, *ALIASES)

    @classmethod
    def validate_inputs(
        cls, model: str | None = None, detector: str | None = None, parser: str | None = None
    ) -> bool | str:
        # "auto" may find nothing here: that is said before anything runs.
        model = choices.best_local_restorer() if model == choices.AUTO else model
        return choices.verdict(
            choices.complaint(model, choices.restorers(), choices.RESTORER_FOLDERS),
            choices.complaint(detector, choices.detectors_or_auto(), choices.FACE_FOLDERS),
            choices.complaint(parser, choices.parsers_or_auto(), choices.FACE_FOLDERS),
        )

    @classmethod
    def fingerprint_inputs(
        cls, model: str | None = None, detector: str | None = None, parser: str | None = None, dtype: str | None = None
    ) -> tuple[Any, ...]:
        """Load again when a file has arrived that "auto" would take, or a file was replaced."""
        return (
            _state(model, choices.best_local_restorer, choices.RESTORER_FOLDERS),
            _state(detector, choices.best_local_detector, choices.FACE_FOLDERS),
            _state(parser, lambda: choices.PARSER, choices.FACE_FOLDERS),
        )

    @classmethod
    def execute(cls, model: str, detector: str, parser: str, dtype: str) -> io.NodeOutput:
        chosen = choices.best_local_restorer() if model == choices.AUTO else model
        path = choices.resolve(chosen, choices.RESTORER_FOLDERS)
        if remark := choices.starter_remark(path):
            logger.info("Load Face Restore Model: %s", remark)
        restorer = core.load_restorer(
            path,
            device=host.offload_device(),
            dtype=host.supported_dtype(DTYPES[dtype]),
            operations=host.operations(),
        )
        return io.NodeOutput(
            FaceRestoreModel(
                restorer=ManagedRestorer(restorer, host.managed(restorer.module)),
                detector=LoadedOnce(lambda: load_detector(detector)),
                parser=LoadedOnce(lambda: _load_parser(parser)),
                aligner=LoadedOnce(lambda: _load_aligner() if restorer.needs_landmarks else None),
                remark=remark,
            )
        )


class LoadFaceDetector(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        schema = io.Schema(
            node_id="CodeFormerLoadDetector",
            display_name="Load Face Detector",
            category="image/face restore",
            description="Loads a face detector to be used instead of the one that Load Face Restore Model brings.",
            inputs=[io.Combo.Input("detector", options=choices.detectors(), tooltip=choices.DETECTOR_TOOLTIP)],
            outputs=[FaceDetectorType.Output(display_name="FACE_DETECTOR", tooltip=USES_OF_DETECTOR)],
        )
        return host.aliased(schema, *DETECTOR_ALIASES)

    @classmethod
    def validate_inputs(cls, detector: str | None = None) -> bool | str:
        return choices.verdict(choices.complaint(detector, choices.detectors(), choices.FACE_FOLDERS))

    @classmethod
    def fingerprint_inputs(cls, detector: str | None = None) -> tuple[str, int, int] | None:
        """Load again when the file was replaced."""
        return detector_state(detector)

    @classmethod
    def execute(cls, detector: str) -> io.NodeOutput:
        return io.NodeOutput(load_detector(detector))


def detector_state(choice: str | None) -> tuple[str, int, int] | None:
    """What changes when another detector would be loaded for this entry; None for an input that another node feeds."""
    return _state(choice, choices.best_local_detector, choices.FACE_FOLDERS)


def _state(choice: str | None, best_local: Callable[[], str], folders: Sequence[str]) -> tuple[str, int, int] | None:
    if choice is None:
        return None
    return choices.file_state(best_local() if choice == choices.AUTO else choice, folders)


def load_detector(choice: str) -> FaceDetector:
    """The detector of a dropdown's entry, downloaded if the entry says so."""
    path = choices.resolve(choices.best_local_detector() if choice == choices.AUTO else choice, choices.FACE_FOLDERS)
    return managed_detector(core.load_detector(path, device=host.offload_device()))


def _load_aligner() -> FaceAligner | None:
    path = choices.local_aligner()
    return managed_aligner(core.load_aligner(path, device=host.offload_device())) if path else None


def _load_parser(choice: str) -> FaceParser | None:
    path = choices.local_parser() if choice == choices.AUTO else choices.resolve(choice, choices.FACE_FOLDERS)
    return managed_parser(core.load_parser(path, device=host.offload_device())) if path else None
