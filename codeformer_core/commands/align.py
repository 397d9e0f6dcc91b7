"""`python -m codeformer_core train align`: photos into aligned faces with a manifest, ready to train on."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from .batch import add_detector
from .console import Console
from .errors import FAILED, OK, UsageError
from .values import device, number

if TYPE_CHECKING:
    from ..faces.detection import FaceDetector
    from ..training.alignment.pipeline import Outcome

_PACKAGE = __package__.partition(".")[0] if __package__ else "codeformer_core"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give `parser` its arguments; `run` takes what it parsed."""
    parser.add_argument(
        "photos", nargs="+", metavar="PHOTOS", help="folders of photos (with those inside them), files, or patterns"
    )
    parser.add_argument("-o", "--output", required=True, metavar="FOLDER", help="folder for the faces and their lists")
    parser.add_argument("--size", type=int, default=512, help="side of the aligned faces, pixels (default %(default)s)")
    parser.add_argument("--format", choices=("png", "webp"), default="png", help="both lossless (default %(default)s)")
    faces = parser.add_argument_group("finding faces")
    add_detector(faces)
    faces.add_argument("--device", type=device, default="auto", help="auto (default), cpu, cuda, cuda:N or mps")
    filters = parser.add_argument_group("which faces are kept")
    filters.add_argument(
        "--smallest-face",
        type=number(0),
        default=128.0,
        metavar="PIXELS",
        help="least shorter side of the face in its photo (default %(default)g)",
    )
    filters.add_argument(
        "--least-sharpness",
        type=number(0),
        default=0.0,
        metavar="X",
        help="least variance of the Laplacian of the aligned face; 40 leaves out the visibly soft (default: 0, all)",
    )
    filters.add_argument(
        "--most-padding",
        type=number(0, 1),
        default=0.2,
        metavar="SHARE",
        help="most of a face that may lie outside its photo, where the photo is mirrored (default %(default)g)",
    )
    filters.add_argument(
        "--no-duplicates",
        dest="duplicates",
        action="store_false",
        default=False,
        help="leave out faces that were kept before (the default)",
    )
    filters.add_argument("--keep-duplicates", dest="duplicates", action="store_true", help="keep them all")
    split = parser.add_argument_group("training and validation")
    split.add_argument(
        "--validation-share",
        type=number(0, 1),
        default=0.1,
        metavar="SHARE",
        help="of the photos; all faces of a photo go to the same side (default %(default)g)",
    )
    split.add_argument("--seed", type=int, default=0, help="which photos these are (default %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Carry out what `add_arguments` parsed; returns the exit code, which is 1 when no face was kept."""
    console = Console(sys.stdout, sys.stderr)
    if os.environ.get("WORLD_SIZE", "1") not in ("", "1"):
        raise UsageError(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']}: align is one process's work. Start it without torchrun"
        )
    output = Path(args.output)
    if not args.output or output.is_file():
        raise UsageError(f"-o {args.output!r}: name a folder for the faces")
    from ..training.alignment.photos import find_photos

    try:
        photos = find_photos(args.photos, output)
    except ValueError as error:
        raise UsageError(str(error)) from error
    with console.showing_logs(logging.getLogger(_PACKAGE)), warnings.catch_warnings():
        # Pillow's remarks about odd metadata; what matters is raised or logged by us, with the file's name.
        warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
        # Here and not above: torch takes a second or more, which --help and typing errors need not wait for.
        from ..training.alignment.options import AlignOptions
        from ..training.alignment.pipeline import align_photos

        detector, name = _load_detector(args, console)
        console.complain(f"note: detector {name}")
        try:
            options = AlignOptions(
                detector=name,
                confidence=args.confidence,
                size=args.size,
                smallest_face=args.smallest_face,
                least_sharpness=args.least_sharpness,
                most_padding=args.most_padding,
                duplicates=args.duplicates,
                format=args.format,
                validation_share=args.validation_share,
                seed=args.seed,
            )
        except ValueError as error:
            raise UsageError(str(error)) from error
        outcome = align_photos(
            photos,
            output,
            detector,
            options,
            lambda done, total, source: console.progress(done / total, f"{done + 1}/{total} {source}"),
        )
    console.line(_in_words(outcome, output))
    if outcome.kept and 0 < args.validation_share < 1 and 0 in (outcome.train, outcome.validation):
        side, other = ("train", "val") if outcome.train else ("val", "train")
        console.line(
            f"all faces are of one photo and so all {side}; training will ask for {other}. Align more photos "
            "into this folder"
        )
    return OK if outcome.kept else FAILED


def _load_detector(args: argparse.Namespace, console: Console) -> tuple[FaceDetector, str]:
    """The detector and its name for the folder's options."""
    from ..models.files import AUTO, as_choice
    from ..models.kinds import DETECTOR
    from .tools import choose_device, model_library

    library = model_library(choose_device(args.device), console)
    chosen = library.auto(DETECTOR) or AUTO if args.detector == AUTO else args.detector
    return library.load_detector(as_choice(chosen), refine=False), Path(chosen).name


def _in_words(outcome: Outcome, output: Path) -> str:
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(outcome.rejected.items()))
    rejected = f"; rejected: {reasons}" if reasons else ""
    return (
        f"{outcome.photos} photos -> {output}: {outcome.kept} faces kept ({outcome.train} train, "
        f"{outcome.validation} val){rejected}; manifest.csv and rejected.csv list them"
    )
