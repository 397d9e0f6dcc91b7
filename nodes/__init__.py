"""The ComfyUI nodes: schema, resolve the inputs, one call into codeformer_core, wrap the output."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from . import host
from .crops import CropFaces, PasteFaces, RestoreFaceCrops
from .load import LoadFaceDetector, LoadFaceRestoreModel
from .restore import FaceRestore

NODES: tuple[type[io.ComfyNode], ...] = (
    LoadFaceRestoreModel,
    LoadFaceDetector,
    FaceRestore,
    CropFaces,
    RestoreFaceCrops,
    PasteFaces,
)


class CodeFormerExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        host.register_folders()
        return list(NODES)
