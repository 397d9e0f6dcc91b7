"""The node that writes a loaded face restore model into a file."""

from __future__ import annotations

import logging

import torch
from comfy_api.latest import io

from .. import codeformer_core as core
from . import host
from .choices import LIBRARY
from .reports import report
from .sockets import FaceRestoreModelType

logger = logging.getLogger(__name__)

ALIASES = ("codeformer", "save model", "export checkpoint", "convert to safetensors")
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


class SaveFaceRestoreModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        schema = io.Schema(
            node_id="CodeFormerSaveModel",
            display_name="Save Face Restore Model",
            category="image/face restore",
            description="Saves the network of a face restore model as safetensors, where Load Face Restore Model "
            "finds it.",
            inputs=[
                FaceRestoreModelType.Input("face_restore_model", tooltip="From Load Face Restore Model."),
                io.String.Input(
                    "filename",
                    default="my_codeformer",
                    tooltip="Name of the file in models/facerestore_models, without a folder; .safetensors is added.",
                ),
                io.Combo.Input(
                    "dtype",
                    options=list(DTYPES),
                    tooltip="Precision of the numbers in the file. float16 and bfloat16 halve its size; float16 keeps "
                    "more digits, bfloat16 larger numbers.",
                ),
                io.Boolean.Input(
                    "overwrite",
                    default=False,
                    tooltip="On: a file of this name is replaced. Off: it is an error, and nothing is written.",
                ),
            ],
            outputs=[io.String.Output(display_name="report", tooltip="The file's path, size in bytes and SHA-256.")],
            is_output_node=True,
        )
        return host.aliased(schema, *ALIASES)

    @classmethod
    def validate_inputs(cls, filename: str | None = None) -> bool | str:
        return name_verdict(filename)

    @classmethod
    def execute(cls, face_restore_model: core.ModelBundle, filename: str, dtype: str, overwrite: bool) -> io.NodeOutput:
        saved = core.save_restorer(
            face_restore_model.restorer.restorer,
            LIBRARY.folder_for(core.RESTORER),
            listed_name(filename),
            dtype=DTYPES[dtype],
            overwrite=overwrite,
        )
        said = report(saved)
        logger.info("Save Face Restore Model: %s", said)
        return io.NodeOutput(said)


def name_verdict(filename: str | None) -> bool | str:
    """For validate_inputs: True, or what is wrong. filename is None when another node gives it."""
    try:
        return True if filename is None else bool(listed_name(filename))
    except ValueError as error:
        return str(error)


def listed_name(filename: str) -> str:
    """Raises ValueError for a name that can't be, and for one that the loader would not offer."""

    name = core.checked_name(filename)
    if name.lower().startswith(core.RESTORER.foreign):
        raise ValueError(
            f"filename {filename!r} begins as files of other kinds do, which Load Face Restore Model leaves out: "
            "choose another name"
        )
    return name
