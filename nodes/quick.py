"""Load Face Restore Model and Face Restore in one node: what other packs have as one becomes one of ours."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io
from torch import Tensor

from .. import codeformer_core as core
from . import choices, host
from .choices import LIBRARY
from .inputs import defaults_of, fidelity_input, option_input
from .load import LoadFaceRestoreModel
from .restore import FaceRestore


class QuickFaceRestore(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        schema = io.Schema(
            node_id="CodeFormerQuickFaceRestore",
            display_name="Quick Face Restore",
            category="image/face restore",
            description="Load Face Restore Model and Face Restore in one node, for graphs that need no more of them.",
            inputs=[
                io.Image.Input("image", tooltip="Pictures of any size, RGB or RGBA; transparency is kept."),
                io.Combo.Input("model", options=choices.or_auto(LIBRARY.restorers()), tooltip=choices.MODEL_TOOLTIP),
                fidelity_input(),
                option_input(core.PasteOptions, "opacity"),
            ],
            outputs=[
                io.Image.Output(display_name="IMAGE", tooltip="The pictures with restored faces."),
                io.Mask.Output(display_name="MASK", tooltip="Where faces were pasted, 1 where only they show."),
                io.String.Output(display_name="report", tooltip="What was found, restored and skipped, and why."),
            ],
            enable_expand=True,
        )
        return host.aliased(schema, "codeformer", "face restore", "reactor", "restore face", "gfpgan")

    @classmethod
    def validate_inputs(cls, model: str | None = None) -> bool | str:
        return choices.verdict((model, core.restorer_kind(None)))

    @classmethod
    def fingerprint_inputs(cls, model: str | None = None, **others: Any) -> core.Fingerprint | None:
        """Restore again when another file would be loaded."""
        return choices.state(model, core.restorer_kind(None))

    @classmethod
    def execute(cls, image: Tensor, model: str, fidelity: float, opacity: float) -> io.NodeOutput:
        # As nodes of their own: the host keeps the loaded model for the next run.
        graph = host.new_graph()
        loader = graph.node(
            LoadFaceRestoreModel.define_schema().node_id, **defaults_of(LoadFaceRestoreModel) | {"model": model}
        )
        wanted = {"image": image, "face_restore_model": loader.out(0), "fidelity": fidelity, "opacity": opacity}
        restore = graph.node(FaceRestore.define_schema().node_id, **defaults_of(FaceRestore) | wanted)
        return io.NodeOutput(restore.out(0), restore.out(1), restore.out(3), expand=graph.finalize())
