"""Nodes of other packs that ours take the place of, so that workflows saved with them open and run.

Their ids and inputs are those of the packs' newest versions. No node of this pack has changed its id so far; one that
does belongs here too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from comfy_api.latest import io

from .inputs import defaults_of
from .load import LoadFaceRestoreModel
from .quick import QuickFaceRestore
from .restore import FaceRestore


@dataclass(frozen=True)
class OldNode:
    """A node that may be missing.

    id: as workflows name it.
    widgets: its widgets, in the order in which workflows hold their values.
    new: the node that takes its place.
    inputs: input of the new node -> input of this one.
    """

    id: str
    widgets: list[str]
    new: type[io.ComfyNode]
    inputs: dict[str, str]

    @property
    def new_id(self) -> str:
        return self.new.define_schema().node_id

    def input_mapping(self) -> list[dict[str, Any]]:
        """For `host.replace_node`. Widgets that the old node has not got are set to their defaults: a prompt without
        them is refused."""
        kept = [{"new_id": new, "old_id": old} for new, old in self.inputs.items()]
        defaults = defaults_of(self.new)
        return kept + [{"new_id": new, "set_value": value} for new, value in defaults.items() if new not in self.inputs]


# What they call facedetection is left out: auto is the best detector that is installed.
REPLACEMENTS = (
    # facerestore_cf (mav-rik)
    OldNode("FaceRestoreModelLoader", ["model_name"], LoadFaceRestoreModel, {"model": "model_name"}),
    OldNode(
        "FaceRestoreCFWithModel",
        ["facedetection", "codeformer_fidelity"],
        FaceRestore,
        {"image": "image", "face_restore_model": "facerestore_model", "fidelity": "codeformer_fidelity"},
    ),
    # ReActor (Gourieff)
    OldNode(
        "ReActorRestoreFace",
        ["facedetection", "model", "visibility", "codeformer_weight"],
        QuickFaceRestore,
        {"image": "image", "model": "model", "fidelity": "codeformer_weight", "opacity": "visibility"},
    ),
)
