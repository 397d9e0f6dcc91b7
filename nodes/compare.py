"""The nodes that show one face beside itself: at several fidelities, by several restorers."""

from __future__ import annotations

import logging
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from .. import codeformer_core as core
from . import host
from .inputs import chosen_fidelity, fidelity_input
from .reports import report
from .sockets import FaceRestoreModelType, FacesType, own_faces

logger = logging.getLogger(__name__)

OTHER_MODELS = ("face_restore_model_2", "face_restore_model_3", "face_restore_model_4", "face_restore_model_5")
ALIASES = ("codeformer", "compare fidelity", "fidelity grid", "codeformer weight", "xy plot faces")


class CompareFidelity(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        schema = io.Schema(
            node_id="CodeFormerCompareFidelity",
            display_name="Compare Fidelity",
            category="image/face restore",
            description="Restores one face with several fidelities and shows them beside each other, to choose one.",
            inputs=[
                *_shown_inputs(),
                io.Int.Input(
                    "steps",
                    default=5,
                    min=core.MIN_STEPS,
                    max=core.MAX_STEPS,
                    tooltip="How many fidelities, evenly from 0 to 1. Each takes as long as restoring one face.",
                ),
                _faces_input(),
            ],
            outputs=[
                io.Image.Output(display_name="grid", tooltip="The input and all results, labelled, in one picture."),
                io.Image.Output(display_name="faces", tooltip="The restored faces alone, 512x512, fidelity 0 first."),
                io.String.Output(display_name="report", tooltip="Which face, and of each fidelity how near and sharp."),
            ],
            is_output_node=True,
        )
        return host.aliased(schema, *ALIASES)

    @classmethod
    def execute(
        cls, image: Tensor, face_restore_model: core.ModelBundle, steps: int, faces: core.FaceBatch | None = None
    ) -> io.NodeOutput:
        compared = core.compare_fidelities(
            image,
            restorer=face_restore_model.restorer,
            faces=None if faces is None else own_faces(faces),
            steps=steps,
            on_progress=host.Progress(),
        )
        said = report(compared, core.starter_event(face_restore_model.restorer.name))
        logger.info("Compare Fidelity: %s", said)
        grid_1HW3, faces_NSS3 = host.placed((compared.grid_HW3[None], compared.faces_NSS3))
        return io.NodeOutput(grid_1HW3, faces_NSS3, said, ui={"codeformer_fidelity": [_shown_fidelities(compared)]})


class CompareRestorers(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        schema = io.Schema(
            node_id="CodeFormerCompareRestorers",
            display_name="Compare Restorers",
            category="image/face restore",
            description="Restores one face with several models and shows them beside each other, to choose one.",
            inputs=[
                *_shown_inputs(),
                *(
                    FaceRestoreModelType.Input(name, optional=True, tooltip="Another one, to be compared with it.")
                    for name in OTHER_MODELS
                ),
                fidelity_input(),
                _faces_input(),
            ],
            outputs=[
                io.Image.Output(display_name="grid", tooltip="The input and all results, labelled, in one picture."),
                io.Image.Output(
                    display_name="faces", tooltip="The restored faces alone, 512x512, in the models' order."
                ),
                io.String.Output(display_name="report", tooltip="Which face, and of each model how near and sharp."),
            ],
            is_output_node=True,
        )
        return host.aliased(schema, "codeformer", "gfpgan", "vqfr", "dfdnet", "restoreformer", "compare models")

    @classmethod
    def execute(
        cls,
        image: Tensor,
        face_restore_model: core.ModelBundle,
        fidelity: float,
        faces: core.FaceBatch | None = None,
        **others: core.ModelBundle | None,
    ) -> io.NodeOutput:
        models = [face_restore_model, *(model for name in OTHER_MODELS if (model := others.get(name)))]
        compared = core.compare_restorers(
            image,
            restorers=[model.restorer for model in models],
            fidelity=chosen_fidelity(fidelity),
            faces=None if faces is None else own_faces(faces),
            on_progress=host.Progress(),
        )
        names = dict.fromkeys(model.restorer.name for model in models)
        said = report(compared, *map(core.starter_event, names))
        logger.info("Compare Restorers: %s", said)
        grid_1HW3, faces_NSS3 = host.placed((compared.grid_HW3[None], compared.faces_NSS3))
        return io.NodeOutput(grid_1HW3, faces_NSS3, said, ui={"codeformer_restorers": [_shown(compared)]})


def _shown_inputs() -> list[io.Input]:
    return [
        io.Image.Input(
            "image",
            tooltip="An aligned face, of which the first is taken; or, with faces connected, the pictures in which "
            "they were found.",
        ),
        FaceRestoreModelType.Input("face_restore_model", tooltip="From Load Face Restore Model."),
    ]


def _faces_input() -> io.Input:
    return FacesType.Input(
        "faces",
        optional=True,
        tooltip="Faces found in image: the first of them is cropped and compared. Without it, image is taken for an "
        "aligned face.",
    )


def _shown(compared: core.ComparedFidelities | core.ComparedRestorers) -> dict[str, Any]:
    """For the tiles in the node: the input, and each face with its numbers and those in which it is the best."""
    if compared.crop_1SS3 is None:
        return {"tiles": []}
    (given,) = host.preview_images(compared.crop_1SS3)
    best = core.best_of(compared.numbers)
    tiles = [
        {
            "image": image,
            "label": one.label,
            "identity": one.identity,
            "best": [measure.lower() for measure, places in best.items() if place in places],
            **({} if one.sharpness is None else {"sharpness": one.sharpness}),
            **({} if one.niqe is None else {"niqe": one.niqe}),
        }
        for place, (one, image) in enumerate(
            zip(compared.numbers, host.preview_images(compared.faces_NSS3), strict=True)
        )
    ]
    return {"input": given, "tiles": tiles}


def _shown_fidelities(compared: core.ComparedFidelities) -> dict[str, Any]:
    """The same, and what the browser needs to set a fidelity by a press on its tile."""
    shown = _shown(compared)
    for tile, fidelity in zip(shown["tiles"], compared.fidelities, strict=True):
        tile["fidelity"] = fidelity
    return shown
