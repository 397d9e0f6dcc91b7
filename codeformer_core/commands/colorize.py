"""`python -m codeformer_core colorize`: colour for the faces in image files."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, get_args

from ..pipeline.options import MASKS_BY_PARSER, MaskKind, RestoreOptions
from ..runtime.progress import COLORIZING, FINDING, PASTING
from .batch import OnStage, Verb, add_faces, add_files, add_model, add_running, refuse_useless_options, run_batch
from .inputs import Job
from .reports import in_one_line
from .values import add_option

if TYPE_CHECKING:
    from torch import Tensor

    from .tools import CommandModels


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give `parser` its arguments; `run` takes what it parsed."""
    add_files(parser)
    add_option(
        parser,
        RestoreOptions,
        "fidelity",
        "-w",
        "--fidelity",
        default=0.0,
        help="0: the published choice, with the strongest colours (default); towards 1 closer to the image, its "
        "grayness included",
    )
    parser.add_argument(
        "--paste",
        choices=("colour", "face"),
        help="colour: the image keeps its brightness and every detail (default); face: the network's redrawn face, "
        "as the official script gives it (default with --aligned)",
    )
    about = (
        "auto (default: the best that is installed, codeformer_colorization with --download, else "
        "starter_colorization, which comes with the package), another name that `weights list` shows, or a file"
    )
    add_model(parser, "colorize", "auto", about)
    add_faces(parser, masks=get_args(MaskKind), auto="head")
    add_running(parser)


def run(args: argparse.Namespace) -> int:
    """Carry out what `add_arguments` parsed; returns the exit code."""
    refuse_useless_options(args)
    paste = args.paste or ("face" if args.aligned else "colour")

    def work(_job: Job, image_HWC: Tensor, models: CommandModels, on_stage: OnStage) -> tuple[Tensor, str]:
        from ..pipeline.colorize import colorize_aligned, colorize_photos

        restorer, chroma_only = models.bundle.restorer, paste == "colour"
        if args.aligned:
            result = colorize_aligned(
                image_HWC[None],
                restorer=restorer,
                fidelity=args.fidelity,
                chroma_only=chroma_only,
                on_progress=on_stage,
            )
        else:
            result = colorize_photos(
                image_HWC[None],
                restorer=restorer,
                face_source=models.bundle.detector,
                parser=models.bundle.parser if models.mask in MASKS_BY_PARSER else None,
                fidelity=args.fidelity,
                chroma_only=chroma_only,
                mask=models.mask,
                confidence=args.confidence,
                min_face_size=args.smallest_face,
                on_progress=on_stage,
            )
        return result.images_BHWC[0], in_one_line(result, args)

    return run_batch(args, Verb("colorization", {FINDING: 0.05, COLORIZING: 0.15, PASTING: 0.85}, work))
