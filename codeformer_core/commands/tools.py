"""The models that a command works with: chosen by its options, loaded before the first image, and reported."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from ..faces.detectors.refined import unrefined
from ..faces.detectors.yunet import YuNetDetector
from ..faces.mesh_parsing import MESH_REGIONS
from ..models.bundle import ModelBundle
from ..models.files import AUTO, as_choice
from ..models.kinds import DETECTOR, PARSER, ModelKind, restorer_kind, starter_event
from ..models.library import ModelChoices, ModelLibrary
from ..models.managed import ManagedUpscaler
from ..models.restorer import check_task, task_assumed, without_fidelity
from ..pipeline.options import MASKS_BY_PARSER
from ..runtime.host import FixedFolders
from ..runtime.packages import import_for_faces
from ..runtime.plain_host import PlainHost
from ..weights.catalog import WITHOUT_FACEXLIB, CatalogEntry
from ..weights.folders import default_roots
from ..weights.reading import WeightsError
from .console import Console
from .errors import UsageError
from .person import load_chosen_person
from .reports import lines_of

if TYPE_CHECKING:
    from ..models.precision import Precision
    from ..pipeline.bulk.models import BulkModels
    from ..pipeline.person import Person
    from ..pipeline.restore import MaskKind

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class CommandModels:
    """What a command works with.

    bundle: for aligned faces only the restorer is loaded, and a parser only where `mask` needs one.
    mask: what --mask stands for.
    notes: what was chosen for the user and why, one sentence each.
    background_upscaler, face_upscaler: what --background-upscaler and --face-upscaler name.
    person: whose faces are worked on.
    """

    bundle: ModelBundle
    mask: MaskKind
    notes: tuple[str, ...]
    background_upscaler: ManagedUpscaler | None = None
    face_upscaler: ManagedUpscaler | None = None
    person: Person | None = None


def model_library(device: torch.device, console: Console) -> ModelLibrary:
    """The models of this machine on `device`; downloads are announced and shown on `console`."""

    def on_progress(stage: str, done: int, total: int) -> None:
        console.progress(done / total, f"{stage}: {done / 2**20:.0f} of {total / 2**20:.0f} MiB")

    host = PlainHost(device, FixedFolders(tuple(default_roots())), on_progress)
    return ModelLibrary(host, how_to_fetch=_how_to_fetch, announce=console.line)


def load_models(args: argparse.Namespace, task: str, console: Console) -> CommandModels:
    """Load what `args` asks for, with a model for `task`.

    Raises UsageError for a device that isn't there, WeightsError with the fix for missing or wrong files, ImportError
    with the fix for a missing package.
    """
    library = model_library(choose_device(args.device), console)
    parser_choice = _parser_choice(args, library)
    bundle = library.load(_choices(args, task, parser_choice))
    try:
        # The pipeline would say so for every single image.
        check_task(bundle.restorer, task)
    except ValueError as error:
        fitting = restorer_kind(task).best_first[0]
        raise WeightsError(f"--model {args.model}: {error} (--model {fitting})") from error
    # That a fidelity does nothing matters only to those who asked for one.
    wanted_fidelity = getattr(args, "fidelity", None) is not None
    of_restorer = [*task_assumed(bundle.restorer), *(without_fidelity(bundle.restorer) if wanted_fidelity else ())]
    report = lines_of(of_restorer, args)
    notes = _chosen(library, "model", args.model, restorer_kind(task), args)
    if args.aligned:
        return CommandModels(bundle, "box", (*report, *_with_fix(notes)))

    notes += _chosen(library, "detector", args.detector, DETECTOR, args)
    wanted: MaskKind | Literal["auto"] = getattr(args, "mask", "box")
    mask: MaskKind = getattr(args, "auto_mask", "face") if wanted == "auto" else wanted
    if parser_choice == AUTO:
        notes += _chosen(library, "parser", AUTO, PARSER, args)
    if mask == "face" and (parser_choice is None or library.auto(PARSER, args.download) is None):
        shape = "soft box" if getattr(args, "parity", False) else "outline from landmarks"
        notes.append(f"mask {shape}, because {PARSER.best_first[0]} is not installed")
    _load_what_faces_need(bundle, parser_choice is not None)
    person = load_chosen_person(args, bundle.detector)
    return CommandModels(bundle, mask, (*report, *_with_fix(notes)), *_load_upscalers(args, library), person)


def name_models(args: argparse.Namespace, console: Console) -> tuple[BulkModels, MaskKind, tuple[str, ...]]:
    """The models of an archive's workers, what --mask stands for, and notes; nothing is loaded, only found.

    Raises as `load_models`.
    """
    from ..pipeline.bulk.models import BulkModels

    device = choose_device(args.device)
    library = model_library(device, console)
    parser_choice = _parser_choice(args, library)
    choices = _choices(args, "restoration", parser_choice)
    notes = _chosen(library, "model", args.model, restorer_kind(choices.task), args)
    notes += _chosen(library, "detector", args.detector, DETECTOR, args)
    library.locate(choices.restorer, restorer_kind(choices.task), fetch=args.download)
    library.locate(choices.detector, DETECTOR, fetch=args.download)
    if parser_choice is not None and (parser_choice != AUTO or args.download):
        library.locate(parser_choice, PARSER, fetch=args.download)
    models = BulkModels(choices, tuple(library.folders.roots()), str(device), parser_choice is not None)
    return models, "face" if args.mask == AUTO else args.mask, _with_fix(notes)


def _choices(args: argparse.Namespace, task: str, parser_choice: str | None) -> ModelChoices:
    return ModelChoices(
        restorer=as_choice(args.model),
        detector=as_choice(args.detector),
        parser=parser_choice or AUTO,
        dtype=_precision(args),
        fetch=args.download,
        # Of a file that doesn't say what it is for, the verb says it.
        task=task,
    )


def _precision(args: argparse.Namespace) -> Precision:
    if args.dtype != AUTO:
        return DTYPES[args.dtype]
    return torch.float32 if getattr(args, "parity", False) else AUTO


def _parser_choice(args: argparse.Namespace, library: ModelLibrary) -> str | None:
    """The parser for the mask; None where none is needed, and where the official recipe has to do without."""
    mask = getattr(args, "mask", "box")
    if args.aligned or mask not in (*MASKS_BY_PARSER, AUTO):
        return None
    best = PARSER.best_first[0]
    if getattr(args, "parity", False):
        return best if mask == "face" or args.download or library.auto(PARSER) == best else None
    return AUTO if set(getattr(args, "regions", ())) <= set(MESH_REGIONS) else best


def _load_what_faces_need(bundle: ModelBundle, parsed: bool) -> None:
    """Load now, so that an unusable model or package is reported once and not for every image."""
    try:
        # Every face needs OpenCV.
        import_for_faces("cv2")
        if isinstance(detector := unrefined(bundle.detector), YuNetDetector):
            detector.check()
        if parsed:
            _ = bundle.parser
    except ImportError as error:
        if error.name == "cv2":  # nothing works without it
            raise
        raise ImportError(f"{error}. --detector {WITHOUT_FACEXLIB} --mask outline work without facexlib") from error
    _ = bundle.landmark_detector


def _load_upscalers(
    args: argparse.Namespace, library: ModelLibrary
) -> tuple[ManagedUpscaler | None, ManagedUpscaler | None]:
    """For the background and for faces; one file for both is loaded once."""
    wanted = [getattr(args, name, None) for name in ("background_upscaler", "face_upscaler")]
    loaded = {
        name: library.load_upscaler(
            as_choice(name), DTYPES.get(args.dtype, torch.float32), tile=args.tile or None, fetch=args.download
        )
        for name in dict.fromkeys(filter(None, wanted))
    }
    background, face = map(loaded.get, wanted)
    return background, face


def _chosen(library: ModelLibrary, what: str, choice: str, kind: ModelKind, args: argparse.Namespace) -> list[str]:
    """What auto stands for, where that is not the best."""
    best, chosen = kind.best_first[0], library.auto(kind, args.download)
    if choice != AUTO or chosen is None or chosen == best:
        return []
    starter = starter_event(chosen)
    return [f"{what} {chosen}, because {best} is not installed", *lines_of([starter] if starter else [], args)]


def _with_fix(notes: list[str]) -> tuple[str, ...]:
    return (*notes, "--download fetches what is missing") if notes else ()


def _how_to_fetch(_choice: str, entry: CatalogEntry) -> str:
    return f"add --download to this command, or run `python -m codeformer_core weights download {entry.name}`"


def choose_device(wanted: str) -> torch.device:
    """`wanted`, or for "auto" the fastest kind that is available. Raises UsageError when it isn't."""
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
