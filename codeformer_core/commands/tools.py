"""The models a restoration needs, chosen from what is installed and loaded; and words for what was chosen."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

import torch

from ..faces.detectors.yunet import YuNetDetector
from ..models.loading import load_aligner, load_detector, load_parser, load_restorer
from ..models.restorer import check_task, fidelity_remark
from ..runtime.packages import import_for_faces
from ..weights.catalog import ALIGNER, DETECTORS, RESTORERS, WITHOUT_FACEXLIB, find_entry
from ..weights.folders import best_installed_detector, best_installed_restorer, default_roots, find_weights
from ..weights.reading import WeightsError
from .console import Console
from .errors import UsageError

if TYPE_CHECKING:
    from ..faces.detection import FaceDetector
    from ..faces.landmarks import FaceAligner
    from ..faces.parsing import FaceParser
    from ..models.restorer import Restorer
    from ..pipeline.restore import MaskKind

Loaded = TypeVar("Loaded")

_PARSER = "parsenet"


@dataclass(frozen=True)
class Tools:
    """detector and parser are None for aligned faces; parser is None for masks that need none, too. aligner: for a
    restorer that asks where the parts of a face lie, if it is installed.

    notes: what was chosen for the user and why, one sentence each.
    """

    restorer: Restorer
    detector: FaceDetector | None
    parser: FaceParser | None
    mask: MaskKind
    notes: tuple[str, ...]
    aligner: FaceAligner | None = None


def load_tools(args: argparse.Namespace, task: str, console: Console) -> Tools:
    """Load what `args` asks for, with a model for `task`. Raises UsageError for a device that isn't there,
    WeightsError (with what to do) for missing or wrong files, ImportError with the cure for a missing package."""
    device = choose_device(args.device)
    roots = default_roots()

    def load(loader: Callable[..., Loaded], source: str) -> Loaded:
        missing = _can_be_fetched(source, roots)
        if missing and args.download:
            _announce_download(source, console)
        progress = _shown_on(console, source)
        try:
            return loader(source, device, roots=roots, download=args.download, on_progress=progress)
        except WeightsError as error:
            if not missing:
                raise
            raise WeightsError(f"{error}; or add --download to this command") from error

    notes: list[str] = []
    model = args.model
    if model == "auto":
        model = choose_restorer(roots, args.download)
        if model != RESTORERS[0]:
            why = f"model {model}, because {RESTORERS[0]} is not installed"
            notes.append("; ".join(filter(None, (why, starter_remark(model)))))
    restorer = load(partial(load_restorer, dtype=getattr(torch, args.dtype)), model)
    try:
        # The pipeline would say so for every single picture.
        check_task(restorer, task)
    except ValueError as error:
        raise WeightsError(f"--model {args.model}: {error}") from error
    # Who didn't ask for a fidelity need not be told that it does nothing.
    wished = getattr(args, "fidelity", None) is not None
    said = (remark,) if wished and (remark := fidelity_remark(restorer)) else ()
    if args.aligned:
        return Tools(restorer, None, None, "box", said + _with_cure(notes))

    detector_name = args.detector
    if detector_name == "auto":
        detector_name = choose_detector(roots, args.download)
        if detector_name != DETECTORS[0]:
            notes.append(f"detector {detector_name}, because {DETECTORS[0]} is not installed")
    wanted: MaskKind | Literal["auto"] = getattr(args, "mask", "box")
    mask: MaskKind = "face" if wanted == "auto" else wanted
    parsed = wanted == "face" or (wanted == "auto" and (args.download or not _is_missing(_PARSER, roots)))
    if mask == "face" and not parsed:
        shape = "soft box" if getattr(args, "parity", False) else "outline from landmarks"
        notes.append(f"mask {shape}, because {_PARSER} is not installed")
    try:
        # Every face needs OpenCV. What is wrong with it, or with YuNet, is said here once and not for every picture.
        import_for_faces("cv2")
        detector = load(load_detector, detector_name)
        if isinstance(detector, YuNetDetector):
            detector.check()
        parser = load(load_parser, _PARSER) if parsed else None
    except ImportError as error:
        if error.name == "cv2":  # nothing works without it
            raise
        raise ImportError(f"{error}. --detector {WITHOUT_FACEXLIB} --mask outline work without facexlib") from error
    has_aligner = restorer.needs_landmarks and not _is_missing(ALIGNER, roots)
    aligner = load(load_aligner, ALIGNER) if has_aligner else None
    return Tools(restorer, detector, parser, mask, said + _with_cure(notes), aligner)


def _with_cure(notes: list[str]) -> tuple[str, ...]:
    return (*notes, "--download fetches what is missing") if notes else ()


def choose_restorer(roots: list[Path], download: bool) -> str:
    """The best restorer that is installed, or that may be downloaded."""
    return RESTORERS[0] if download else best_installed_restorer(roots)


def starter_remark(model: str) -> str | None:
    """A sentence for those who use the restorer that comes with the package; None for other models."""
    entry = find_entry(model)
    if entry is None or not entry.bundled:
        return None
    return (
        f"the published {RESTORERS[0]} gives better faces, and may not be used commercially; "
        "the starter is best at fidelity 1"
    )


def choose_detector(roots: list[Path], download: bool) -> str:
    """The best detector that is installed, or that may be downloaded."""
    return DETECTORS[0] if download else best_installed_detector(roots)


def load_announced(model: str, roots: list[Path], console: Console) -> Restorer:
    """The restorer called `model` on the fastest device, fetched if it is missing, its licence said before."""
    if _can_be_fetched(model, roots):
        _announce_download(model, console)
    device = choose_device("auto")
    return load_restorer(model, device, roots=roots, download=True, on_progress=_shown_on(console, model))


def installed_parser(device: torch.device) -> FaceParser | None:
    """ParseNet if its file is on this machine."""
    roots = default_roots()
    return None if _is_missing(_PARSER, roots) else load_parser(_PARSER, device, roots=roots)


def choose_device(wanted: str) -> torch.device:
    """`wanted`, or for "auto" the fastest kind there is. Raises UsageError when it isn't there."""
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    device = torch.device(wanted)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(
            f"--device {wanted}: torch {torch.__version__} sees {torch.cuda.device_count()} such devices here; "
            "use --device cpu, or install torch for your GPU (https://pytorch.org/get-started)"
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UsageError("--device mps: torch sees no Apple GPU here; use --device cpu")
    return device


def _is_missing(source: str, roots: list[Path]) -> bool:
    """A catalog file that is not on this machine; a path, or a name nobody knows, is not missing but right or wrong."""
    return not Path(source).is_file() and find_entry(source) is not None and find_weights(source, roots) is None


def _can_be_fetched(source: str, roots: list[Path]) -> bool:
    """Missing, and not a file that only comes by hand."""
    entry = find_entry(source)
    return entry is not None and entry.can_be_fetched and _is_missing(source, roots)


def _announce_download(source: str, console: Console) -> None:
    entry = find_entry(source)
    assert entry is not None  # only catalog files are missing
    console.line(f"downloading {entry.filename} from {entry.url}")
    console.line(f"  licence: {entry.licence} ({entry.licence_note})")


def _shown_on(console: Console, source: str) -> Callable[[int, int | None], None]:
    def on_progress(done: int, total: int | None) -> None:
        size = f" of {total / 2**20:.0f}" if total else ""
        console.progress(done / total if total else 0.0, f"{source}: {done / 2**20:.0f}{size} MiB")

    return on_progress
