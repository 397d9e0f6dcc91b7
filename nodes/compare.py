"""The nodes that show one face beside itself: at several fidelities, by several restorers."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from comfy_api.latest import io
from torch import Tensor

from ..codeformer_core.models.kinds import starter_event
from ..codeformer_core.study.limits import FEWEST_STEPS, MOST_STEPS
from . import host
from .inputs import chosen_fidelity, fidelity_input
from .reports import report
from .sockets import FaceRestoreModel, FaceRestoreModelType, FacesType, own_faces

if TYPE_CHECKING:
    from ..codeformer_core.faces.batch import FaceBatch
    from ..codeformer_core.study.compare import ComparedFidelities

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
                    min=FEWEST_STEPS,
                    max=MOST_STEPS,
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
        cls, image: Tensor, face_restore_model: FaceRestoreModel, steps: int, faces: FaceBatch | None = None
    ) -> io.NodeOutput:
        # Here and not above: the host's start is not to wait for it.
        from ..codeformer_core.study.compare import compare_fidelities

        compared = compare_fidelities(
            image,
            restorer=face_restore_model.restorer,
            faces=None if faces is None else own_faces(faces),
            steps=steps,
            on_progress=host.Progress(),
        )
        said = report(compared, starter_event(face_restore_model.restorer.name))
        logger.info("Compare Fidelity: %s", said)
        grid_1HW3, faces_NSS3 = host.placed((compared.grid_HW3[None], compared.faces_NSS3))
        return io.NodeOutput(grid_1HW3, faces_NSS3, said, ui={"codeformer_fidelity": [_shown(compared)]})


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
        face_restore_model: FaceRestoreModel,
        fidelity: float,
        faces: FaceBatch | None = None,
        **others: FaceRestoreModel | None,
    ) -> io.NodeOutput:
        # Here and not above: the host's start is not to wait for it.
        from ..codeformer_core.study.restorers import compare_restorers

        models = [face_restore_model, *(model for name in OTHER_MODELS if (model := others.get(name)))]
        compared = compare_restorers(
            image,
            restorers=[model.restorer for model in models],
            fidelity=chosen_fidelity(fidelity),
            faces=None if faces is None else own_faces(faces),
            on_progress=host.Progress(),
        )
        names = dict.fromkeys(model.restorer.name for model in models)
        said = report(compared, *map(starter_event, names))
        logger.info("Compare Restorers: %s", said)
        grid_1HW3, faces_NSS3 = host.placed((compared.grid_HW3[None], compared.faces_NSS3))
        return io.NodeOutput(grid_1HW3, faces_NSS3, said, ui={"images": host.preview_images(grid_1HW3)})


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


def _shown(compared: ComparedFidelities) -> dict[str, Any]:
    """What the browser needs to set a fidelity by a click on its tile."""
    (image,) = host.preview_images(compared.grid_HW3[None])
    tiles = [
        {"fidelity": fidelity, "box": list(box)}
        for fidelity, box in zip(compared.fidelities, compared.boxes, strict=True)
    ]
    height, width = compared.grid_HW3.shape[:2]
    return {"image": image, "width": width, "height": height, "tiles": tiles}
