"""Face restoration without a host: CodeFormer, face detection, alignment and paste-back.

All public names. They are imported when first used, so `import codeformer_core` costs nothing.
"""

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .dictionary.options import MAX_DICTIONARY_SEED as MAX_DICTIONARY_SEED
    from .dictionary.options import DictionaryOptions as DictionaryOptions
    from .dictionary.renew import renew_dictionary as renew_dictionary
    from .faces.batch import FaceBatch as FaceBatch
    from .faces.batch import check_same_images as check_same_images
    from .faces.batch import unlike_images as unlike_images
    from .faces.choices import REGIONS as REGIONS
    from .faces.choices import FaceSelection as FaceSelection
    from .faces.detection import FaceDetector as FaceDetector
    from .faces.events import Event as Event
    from .faces.events import EventKind as EventKind
    from .faces.events import Value as Value
    from .faces.manual_selection import apply_picks as apply_picks
    from .faces.order import Order as Order
    from .faces.regions import parse_regions as parse_regions
    from .faces.types import Face as Face
    from .faces.visualization import bounding_boxes as bounding_boxes
    from .faces.visualization import box_fractions as box_fractions
    from .faces.visualization import draw_faces as draw_faces
    from .imaging.tensors import resize as resize
    from .imaging.tensors import split_alpha as split_alpha
    from .models.bundle import ModelBundle as ModelBundle
    from .models.filenames import checked_name as checked_name
    from .models.filenames import free_path as free_path
    from .models.files import AUTO as AUTO
    from .models.files import DOWNLOAD as DOWNLOAD
    from .models.files import Fingerprint as Fingerprint
    from .models.kinds import DETECTOR as DETECTOR
    from .models.kinds import LANDMARK_DETECTOR as LANDMARK_DETECTOR
    from .models.kinds import MODEL_FOLDERS as MODEL_FOLDERS
    from .models.kinds import PARSER as PARSER
    from .models.kinds import RESTORER as RESTORER
    from .models.kinds import TASKS as TASKS
    from .models.kinds import ModelKind as ModelKind
    from .models.kinds import restorer_kind as restorer_kind
    from .models.kinds import restorer_licences as restorer_licences
    from .models.kinds import restorers_without_fidelity as restorers_without_fidelity
    from .models.kinds import starter_event as starter_event
    from .models.library import ModelChoices as ModelChoices
    from .models.library import ModelLibrary as ModelLibrary
    from .models.loading import load_detector as load_detector
    from .models.loading import load_landmark_detector as load_landmark_detector
    from .models.loading import load_parser as load_parser
    from .models.loading import load_restorer as load_restorer
    from .models.loading import load_upscaler as load_upscaler
    from .models.restorer import Restorer as Restorer
    from .models.restorer import check_task as check_task
    from .models.saving import save_restorer as save_restorer
    from .pipeline.align import AlignedFace as AlignedFace
    from .pipeline.aligned_faces import restore_aligned as restore_aligned
    from .pipeline.bulk.models import BulkModels as BulkModels
    from .pipeline.bulk.options import BulkOptions as BulkOptions
    from .pipeline.bulk.restore_bulk import BulkReport as BulkReport
    from .pipeline.bulk.restore_bulk import restore_bulk as restore_bulk
    from .pipeline.colorize import colorize_aligned as colorize_aligned
    from .pipeline.colorize import colorize_photos as colorize_photos
    from .pipeline.crop import crop_faces as crop_faces
    from .pipeline.crop import placeholder_crop as placeholder_crop
    from .pipeline.detect import faces_from_landmarks as faces_from_landmarks
    from .pipeline.detect import find_faces as find_faces
    from .pipeline.face_masks import face_masks as face_masks
    from .pipeline.face_masks import faces_in_mask as faces_in_mask
    from .pipeline.inpaint import inpaint_aligned as inpaint_aligned
    from .pipeline.inpaint import inpaint_photos as inpaint_photos
    from .pipeline.options import MASKS_BY_PARSER as MASKS_BY_PARSER
    from .pipeline.options import ColorMatch as ColorMatch
    from .pipeline.options import MaskKind as MaskKind
    from .pipeline.options import PasteOptions as PasteOptions
    from .pipeline.options import RestoreOptions as RestoreOptions
    from .pipeline.options import WhenWorse as WhenWorse
    from .pipeline.options import options_of as options_of
    from .pipeline.paste import paste_faces as paste_faces
    from .pipeline.person import Person as Person
    from .pipeline.person import load_person as load_person
    from .pipeline.report import HasEvents as HasEvents
    from .pipeline.report import report as report
    from .pipeline.restore import Models as Models
    from .pipeline.restore import restore as restore
    from .pipeline.restore import restore_images as restore_images
    from .pipeline.results import RestoredFace as RestoredFace
    from .pipeline.results import RestoredImages as RestoredImages
    from .pipeline.select import select_faces as select_faces
    from .pipeline.video.options import Smoothing as Smoothing
    from .pipeline.video.options import VideoFaces as VideoFaces
    from .pipeline.video.options import VideoOptions as VideoOptions
    from .pipeline.video.people import choose_person as choose_person
    from .pipeline.video.previews import Preview as Preview
    from .pipeline.video.report import VideoReport as VideoReport
    from .pipeline.video.restore_video import restore_video as restore_video
    from .pipeline.video.track_faces import TrackedFaces as TrackedFaces
    from .pipeline.video.track_faces import smooth_crops as smooth_crops
    from .pipeline.video.track_faces import track_faces as track_faces
    from .runtime.errors import problem_of as problem_of
    from .runtime.folders import folders_named as folders_named
    from .runtime.host import Host as Host
    from .runtime.memory import NotEnoughMemory as NotEnoughMemory
    from .runtime.memory import is_out_of_memory as is_out_of_memory
    from .runtime.patcher_host import MemoryManagement as MemoryManagement
    from .runtime.patcher_host import PatcherHost as PatcherHost
    from .runtime.torch_host import TorchHost as TorchHost
    from .study.compare import ComparedFidelities as ComparedFidelities
    from .study.compare import compare_fidelities as compare_fidelities
    from .study.degrade import degrade_images as degrade_images
    from .study.limits import DEGRADATION_NAMES as DEGRADATION_NAMES
    from .study.limits import MAX_SEED as MAX_SEED
    from .study.limits import MAX_STEPS as MAX_STEPS
    from .study.limits import MIN_STEPS as MIN_STEPS
    from .study.measure import PSNR as PSNR
    from .study.measure import SSIM as SSIM
    from .study.measure import measure_images as measure_images
    from .study.one_face import best_of as best_of
    from .study.restorers import ComparedRestorers as ComparedRestorers
    from .study.restorers import compare_restorers as compare_restorers
    from .weights.catalog import FACE_MESH as FACE_MESH
    from .weights.catalog import find_entry as find_entry
    from .weights.download import DownloadError as DownloadError
    from .weights.reading import WeightsError as WeightsError

# Name -> the module that has it. Nodes and other front ends use these alone.
_HOMES = {
    # What happens to images
    "Models": "pipeline.restore",
    "restore": "pipeline.restore",
    "restore_images": "pipeline.restore",
    "ColorMatch": "pipeline.options",
    "MASKS_BY_PARSER": "pipeline.options",
    "MaskKind": "pipeline.options",
    "PasteOptions": "pipeline.options",
    "RestoreOptions": "pipeline.options",
    "WhenWorse": "pipeline.options",
    "options_of": "pipeline.options",
    "RestoredFace": "pipeline.results",
    "RestoredImages": "pipeline.results",
    "restore_aligned": "pipeline.aligned_faces",
    "colorize_aligned": "pipeline.colorize",
    "colorize_photos": "pipeline.colorize",
    "inpaint_aligned": "pipeline.inpaint",
    "inpaint_photos": "pipeline.inpaint",
    "crop_faces": "pipeline.crop",
    "placeholder_crop": "pipeline.crop",
    "paste_faces": "pipeline.paste",
    "AlignedFace": "pipeline.align",
    "HasEvents": "pipeline.report",
    "report": "pipeline.report",
    "resize": "imaging.tensors",
    "split_alpha": "imaging.tensors",
    # Faces
    "Face": "faces.types",
    "FaceBatch": "faces.batch",
    "check_same_images": "faces.batch",
    "unlike_images": "faces.batch",
    "Event": "faces.events",
    "EventKind": "faces.events",
    "Value": "faces.events",
    "REGIONS": "faces.choices",
    "FaceSelection": "faces.choices",
    "parse_regions": "faces.regions",
    "FaceDetector": "faces.detection",
    "Order": "faces.order",
    "apply_picks": "faces.manual_selection",
    "bounding_boxes": "faces.visualization",
    "box_fractions": "faces.visualization",
    "draw_faces": "faces.visualization",
    "faces_from_landmarks": "pipeline.detect",
    "find_faces": "pipeline.detect",
    "face_masks": "pipeline.face_masks",
    "faces_in_mask": "pipeline.face_masks",
    "Person": "pipeline.person",
    "load_person": "pipeline.person",
    "select_faces": "pipeline.select",
    # Videos
    "Smoothing": "pipeline.video.options",
    "VideoFaces": "pipeline.video.options",
    "VideoOptions": "pipeline.video.options",
    "choose_person": "pipeline.video.people",
    "VideoReport": "pipeline.video.report",
    "Preview": "pipeline.video.previews",
    "restore_video": "pipeline.video.restore_video",
    "TrackedFaces": "pipeline.video.track_faces",
    "smooth_crops": "pipeline.video.track_faces",
    "track_faces": "pipeline.video.track_faces",
    # Archives
    "BulkModels": "pipeline.bulk.models",
    "BulkOptions": "pipeline.bulk.options",
    "BulkReport": "pipeline.bulk.restore_bulk",
    "restore_bulk": "pipeline.bulk.restore_bulk",
    # Models
    "load_detector": "models.loading",
    "load_landmark_detector": "models.loading",
    "load_parser": "models.loading",
    "load_restorer": "models.loading",
    "load_upscaler": "models.loading",
    "Restorer": "models.restorer",
    "check_task": "models.restorer",
    "ModelBundle": "models.bundle",
    "ModelChoices": "models.library",
    "ModelLibrary": "models.library",
    "AUTO": "models.files",
    "DOWNLOAD": "models.files",
    "Fingerprint": "models.files",
    "DETECTOR": "models.kinds",
    "LANDMARK_DETECTOR": "models.kinds",
    "MODEL_FOLDERS": "models.kinds",
    "PARSER": "models.kinds",
    "RESTORER": "models.kinds",
    "restorer_kind": "models.kinds",
    "TASKS": "models.kinds",
    "ModelKind": "models.kinds",
    "restorer_licences": "models.kinds",
    "restorers_without_fidelity": "models.kinds",
    "starter_event": "models.kinds",
    "checked_name": "models.filenames",
    "free_path": "models.filenames",
    "save_restorer": "models.saving",
    "FACE_MESH": "weights.catalog",
    "find_entry": "weights.catalog",
    "DownloadError": "weights.download",
    "WeightsError": "weights.reading",
    # Programs that run the core
    "Host": "runtime.host",
    "MemoryManagement": "runtime.patcher_host",
    "PatcherHost": "runtime.patcher_host",
    "TorchHost": "runtime.torch_host",
    "NotEnoughMemory": "runtime.memory",
    "is_out_of_memory": "runtime.memory",
    "problem_of": "runtime.errors",
    "folders_named": "runtime.folders",
    # Comparing, measuring, dictionaries
    "ComparedFidelities": "study.compare",
    "compare_fidelities": "study.compare",
    "compare_restorers": "study.restorers",
    "ComparedRestorers": "study.restorers",
    "best_of": "study.one_face",
    "degrade_images": "study.degrade",
    "PSNR": "study.measure",
    "SSIM": "study.measure",
    "measure_images": "study.measure",
    "DEGRADATION_NAMES": "study.limits",
    "MAX_SEED": "study.limits",
    "MAX_STEPS": "study.limits",
    "MIN_STEPS": "study.limits",
    "MAX_DICTIONARY_SEED": "dictionary.options",
    "DictionaryOptions": "dictionary.options",
    "renew_dictionary": "dictionary.renew",
}


# Public names of version 0.1 -> what they are called now; gone with 0.3.
_RENAMED = {
    "Faces": "FaceBatch",
    "load_aligner": "load_landmark_detector",
}


def __getattr__(name: str) -> Any:
    if name in _RENAMED:
        warnings.warn(f"{__name__}.{name} is called {_RENAMED[name]} now", DeprecationWarning, stacklevel=2)
        name = _RENAMED[name]
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(_HOMES)
