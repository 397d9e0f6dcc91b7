"""The ComfyUI nodes: schema, resolve the inputs, one call into codeformer_core, wrap the output."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from . import host
from .colorize import ColorizeFaces, ColorizePhoto
from .compare import CompareFidelity, CompareRestorers
from .crops import CropFaces, PasteFaces, RestoreFaceCrops
from .detect import DetectFaces, FacesFromLandmarks
from .dictionary import BuildFaceDictionary
from .frames import SmoothFaceCrops, TrackFaces
from .inpaint import InpaintFaces, InpaintPhoto
from .load import LoadFaceDetector, LoadFaceRestoreModel
from .measure import DegradeFaces, MeasureFaces
from .quick import QuickFaceRestore
from .replacements import REPLACEMENTS
from .reports import with_fixes
from .restore import FaceRestore
from .save import SaveFaceRestoreModel
from .select import FacesFromMask, SelectFaces
from .video import RestoreVideoFaces

NODES: tuple[type[io.ComfyNode], ...] = (
    LoadFaceRestoreModel,
    LoadFaceDetector,
    FaceRestore,
    QuickFaceRestore,
    RestoreVideoFaces,
    ColorizePhoto,
    InpaintPhoto,
    DetectFaces,
    FacesFromLandmarks,
    FacesFromMask,
    SelectFaces,
    TrackFaces,
    CropFaces,
    RestoreFaceCrops,
    SmoothFaceCrops,
    ColorizeFaces,
    InpaintFaces,
    PasteFaces,
    CompareFidelity,
    CompareRestorers,
    DegradeFaces,
    MeasureFaces,
    SaveFaceRestoreModel,
    BuildFaceDictionary,
)


class CodeFormerExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        host.FOLDERS.register()
        for old in REPLACEMENTS:
            await host.replace_node(old.id, old.new_id, old.widgets, old.input_mapping())
        return [*map(with_fixes, NODES)]
