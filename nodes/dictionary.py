"""The node that gives DFDNet a dictionary of the user's own faces."""

from __future__ import annotations

import logging

from comfy_api.latest import io
from torch import Tensor

from .. import codeformer_core as core
from . import host
from .choices import LIBRARY
from .reports import report
from .save import listed_name, name_verdict
from .sockets import FaceRestoreModelType

logger = logging.getLogger(__name__)

ALIASES = ("codeformer", "dfdnet", "component dictionary", "k-means faces", "own dictionary")
MOST_ATOMS = 4096


class BuildFaceDictionary(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        schema = io.Schema(
            node_id="CodeFormerBuildDictionary",
            display_name="Build Face Dictionary",
            category="image/face restore",
            description="Gives DFDNet a dictionary of your own faces: the eyes, noses and mouths that it restores "
            "with. Needs scikit-learn.",
            inputs=[
                io.Image.Input(
                    "image",
                    tooltip="Sharp aligned faces, as Crop Faces makes them, at least as many as atoms; hundreds are "
                    "better. Other sizes than 512 are resized. On a CPU each takes some seconds.",
                ),
                FaceRestoreModelType.Input(
                    "face_restore_model", tooltip="A DFDNet from Load Face Restore Model; it measures the faces."
                ),
                io.Int.Input(
                    "atoms",
                    default=32,
                    min=1,
                    max=MOST_ATOMS,
                    tooltip="Entries of each part at each scale, 6 MB each; the published dictionaries have 512. More "
                    "keep more of what is particular to single faces, and make a larger file.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=core.MAX_DICTIONARY_SEED,
                    tooltip="Which faces the search begins with. The same seed and faces give the same dictionary.",
                ),
                io.String.Input(
                    "filename",
                    default="my_dfdnet",
                    tooltip="Name of the file in models/facerestore_models, without a folder; .safetensors is added.",
                ),
                io.Boolean.Input(
                    "overwrite",
                    default=False,
                    tooltip="On: a file of this name is replaced. Off: it is an error, and nothing is built.",
                ),
            ],
            outputs=[
                FaceRestoreModelType.Output(
                    display_name="FACE_RESTORE_MODEL", tooltip="The same DFDNet with the new dictionary."
                ),
                io.Image.Output(
                    display_name="preview", tooltip="For each part, the faces that its atoms are nearest to."
                ),
                io.String.Output(display_name="report", tooltip="How many faces, what was left out, and the file."),
            ],
            is_output_node=True,
        )
        return host.aliased(schema, *ALIASES)

    @classmethod
    def validate_inputs(cls, filename: str | None = None) -> bool | str:
        return name_verdict(filename)

    @classmethod
    def execute(
        cls, image: Tensor, face_restore_model: core.ModelBundle, atoms: int, seed: int, filename: str, overwrite: bool
    ) -> io.NodeOutput:
        path = core.free_path(LIBRARY.folder_for(core.RESTORER), listed_name(filename), overwrite)
        restorer = face_restore_model.restorer
        renewed = core.renew_dictionary(
            restorer,
            image,
            path,
            options=core.DictionaryOptions(atoms, seed),
            scratch=host.temporary_folder(),
            on_progress=host.Progress(),
        )
        said = report(renewed)
        logger.info("Build Face Dictionary: %s", said)
        model = face_restore_model.with_restorer(LIBRARY.load_restorer(path, restorer.restorer.dtype))
        (sheet_1HW3,) = host.placed((renewed.sheet_HW3[None],))
        shown = {"images": host.preview_images(sheet_1HW3)}
        return io.NodeOutput(model, sheet_1HW3, said, ui=shown)
