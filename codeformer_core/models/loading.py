"""From a name or a path to something that works: restorers, detectors, parsers, upscalers."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar, cast

import torch
from torch import Tensor

from ..faces.detection import FaceDetector
from ..faces.detectors.retinaface import build_retinaface
from ..faces.detectors.starter.detector import build_starter_detector, is_starter_detector
from ..faces.detectors.yunet import YuNetDetector
from ..faces.face_mesh import MeshLandmarkDetector, build_face_mesh, is_face_mesh
from ..faces.landmarks import LandmarkDetector, build_landmark_detector
from ..faces.mesh_parsing import MeshParser
from ..faces.parsing import FaceParser, build_parsenet
from ..networks.operations import Operations
from ..runtime.host import FixedFolders
from ..weights.folders import default_roots
from ..weights.reading import WeightsError, read_state_dict, read_weights
from ..weights.wrappers import state_dicts_in
from .architectures import find_checkpoint
from .checkpoints import open_checkpoint
from .files import DownloadProgress, ModelFiles, as_choice
from .kinds import DETECTOR, LANDMARK_DETECTOR, PARSER, RESTORER, TASKS, UPSCALER, ModelKind
from .restorer import USUAL_FIDELITY, Restorer
from .spandrel_upscalers import open_upscaler, supported_dtype
from .upscaler import ImageUpscaler

Loaded = TypeVar("Loaded")


def load_restorer(
    source: str | os.PathLike[str] | Mapping[str, Tensor],
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    *,
    operations: Operations = torch.nn,
    roots: Sequence[Path] | None = None,
    download: bool = False,
    on_progress: DownloadProgress | None = None,
    task: str | None = None,
) -> Restorer:
    """A loaded restorer.

    Heads, image size and tasks are taken from a file's metadata; for state dicts and pickles the published ones are
    assumed where shapes can't tell.

    source: a file, a catalog name ("codeformer", or "codeformer_starter", which comes with this package) or a state
    dict in the published layout or ours.
    device, dtype: where and in what precision faces are computed; float32 if None, bfloat16 halves the memory.
    operations: torch.nn or a host's own layers.
    roots: models folders to search, `weights.folders.default_roots()` if None.
    download: fetch a catalog file that is missing.
    on_progress: called with the bytes fetched so far and their total, None where that is unknown.
    task: "restoration", "colorization" or "inpainting": what the network was trained for, where the file doesn't say.
    Raises WeightsError naming the file, what is wrong with it and the fix, and ValueError for an unknown task.
    """
    if task not in (None, *TASKS):
        raise ValueError(f"task must be one of {', '.join(TASKS)}, got {task!r}")
    if isinstance(source, Mapping):
        name, file, metadata = "the given state dict", None, None
        found = state_dicts_in(cast(Mapping[object, object], source)) or {"": {}}
        checkpoint, state = find_checkpoint(found, name)
    else:
        path = locate(source, RESTORER, roots=roots, download=download, on_progress=on_progress)
        opened, name = open_checkpoint(path, path.name), path.name
        file, checkpoint, state, metadata = opened.file, opened.checkpoint, opened.state, opened.metadata
    checkpoint, dtype = checkpoint.taken_for(task), dtype or torch.float32
    module = checkpoint.build(state, device=device, dtype=dtype, operations=operations)
    if file is not None:
        file.keep_copy(state)
    return Restorer(
        kind=checkpoint.architecture,
        task=checkpoint.task,
        also=checkpoint.also,
        task_source=checkpoint.task_source,
        name=name,
        module=module,
        device=torch.device(device),
        dtype=dtype,
        casts_weights=operations is not torch.nn and checkpoint.architecture.takes_operations,
        recommended_fidelity=USUAL_FIDELITY if metadata is None or metadata.fidelity is None else metadata.fidelity,
    )


def load_detector(
    source: str | os.PathLike[str] = "retinaface_resnet50",
    device: torch.device | str = "cpu",
    *,
    roots: Sequence[Path] | None = None,
    download: bool = False,
    on_progress: DownloadProgress | None = None,
) -> FaceDetector:
    """A loaded face detector.

    source: a catalog name ("retinaface_resnet50", "retinaface_mobile0.25", "starter_detector", "yunet"; the last two
    come with this package) or a file. ONNX files are taken for YuNet, which runs on the CPU; others are a starter
    detector or a RetinaFace, which their keys tell.
    device, roots, download, on_progress: as for `load_restorer`.
    """
    path = locate(source, DETECTOR, roots=roots, download=download, on_progress=on_progress)
    if path.suffix.lower() == ".onnx":
        return YuNetDetector(weights_path=path)

    def build(state: Mapping[str, Tensor]) -> FaceDetector:
        build_it = build_starter_detector if is_starter_detector(state) else build_retinaface
        return build_it(state, device)

    return _built(path, build)


def load_parser(
    source: str | os.PathLike[str] = "parsenet",
    device: torch.device | str = "cpu",
    *,
    roots: Sequence[Path] | None = None,
    download: bool = False,
    on_progress: DownloadProgress | None = None,
) -> FaceParser:
    """A loaded face parser.

    source: a catalog name ("parsenet", or "face_mesh", which comes with this package and sees no hair) or a file of
    either, which its keys tell.
    device, roots, download, on_progress: as for `load_restorer`.
    """
    path = locate(source, PARSER, roots=roots, download=download, on_progress=on_progress)

    def build(state: Mapping[str, Tensor]) -> FaceParser:
        return MeshParser(build_face_mesh(state, device)) if is_face_mesh(state) else build_parsenet(state, device)

    return _built(path, build)


def load_landmark_detector(
    source: str | os.PathLike[str] = "facexlib_alignment",
    device: torch.device | str = "cpu",
    *,
    roots: Sequence[Path] | None = None,
    download: bool = False,
    on_progress: DownloadProgress | None = None,
) -> LandmarkDetector:
    """A loaded landmark detector, which finds 68 landmarks.

    source: a catalog name ("facexlib_alignment", or "face_mesh", which comes with this package) or a file of either,
    which its keys tell.
    device, roots, download, on_progress: as for `load_restorer`.
    """
    path = locate(source, LANDMARK_DETECTOR, roots=roots, download=download, on_progress=on_progress)

    def build(state: Mapping[str, Tensor]) -> LandmarkDetector:
        if is_face_mesh(state):
            return MeshLandmarkDetector(build_face_mesh(state, device))
        return build_landmark_detector(state, device)

    return _built(path, build)


def load_upscaler(
    source: str | os.PathLike[str] | Mapping[str, Tensor] = "realesrgan_x2plus",
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    *,
    tile: int | None = None,
    roots: Sequence[Path] | None = None,
    download: bool = False,
    on_progress: DownloadProgress | None = None,
) -> ImageUpscaler:
    """A loaded network that enlarges images.

    source: a file of any super-resolution network that spandrel knows (Real-ESRGAN, SwinIR, ...), a catalog name
    ("realesrgan_x2plus", "realesrgan_x4plus") or a state dict.
    device, dtype: where and in what precision images are computed; float32 if None, bfloat16 halves the memory.
    tile: side in pixels of the tiles that images are cut into; chosen from the free memory if None.
    roots, download, on_progress: as for `load_restorer`.
    Raises WeightsError naming the file, what it is instead and the fix; ImportError with the command to install
    spandrel where it is missing; ValueError for tiles that are too small.
    """
    if isinstance(source, Mapping):
        name, state = "the given state dict", dict(source)
    else:
        path = locate(source, UPSCALER, roots=roots, download=download, on_progress=on_progress)
        # Without `keep_copy`: other programs list this folder's files.
        name, state = path.name, read_state_dict(path)
    descriptor = open_upscaler(state, name)
    dtype = supported_dtype(descriptor, dtype or torch.float32, name)
    descriptor.model.to(device, dtype).eval().requires_grad_(False)
    return ImageUpscaler(name, descriptor, torch.device(device), dtype, tile)


def locate(
    source: str | os.PathLike[str],
    kind: ModelKind = RESTORER,
    *,
    roots: Sequence[Path] | None = None,
    download: bool = False,
    on_progress: DownloadProgress | None = None,
) -> Path:
    """The file that `source` (a path, a catalog name or a file name) stands for.

    Raises WeightsError when there is none, with its address and the folder to put it into.
    """
    files = ModelFiles(FixedFolders(tuple(default_roots() if roots is None else roots)))
    return files.locate(as_choice(source), kind, fetch=download, on_progress=on_progress)


def _built(path: Path, build: Callable[[Mapping[str, Tensor]], Loaded]) -> Loaded:
    """What `build` makes of a file's weights, of which a copy is kept once they have proved to fit."""
    file = read_weights(path)
    try:
        built = build(file.state_dict)
    except WeightsError:
        raise
    except ValueError as error:
        raise WeightsError(f"{path}: {error}") from error
    file.keep_copy(file.state_dict)
    return built
