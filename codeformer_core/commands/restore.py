"""`python -m codeformer_core restore`: the faces in picture files."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ..pipeline.options import RestoreOptions
from ..runtime.progress import FINDING, RESTORING
from .batch import OnStage, Verb, add_faces, add_files, add_model, add_running, refuse_useless_options, run_batch
from .inputs import Job
from .reports import in_one_line
from .values import add_option

if TYPE_CHECKING:
    from torch import Tensor

    from .tools import Tools

# What only matters where faces are looked for and pasted, beside what all verbs have, with its value when it isn't
# given.
_FACE_OPTIONS = {"upscale": 1.0, "only_center_face": False, "parity": False}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give `parser` its arguments; `run` takes what it parsed."""
    add_files(parser)
    add_option(
        parser,
        RestoreOptions,
        "fidelity",
        "-w",
        "--fidelity",
        default=None,
        help="0: prettiest, 1: closest to the input (default: what the model recommends, or 0.5); for CodeFormer and "
        "VQFR v2",
    )
    add_option(parser, RestoreOptions, "upscale", "--upscale", help="enlarge by (default 1)")
    add_model(
        parser,
        "restore",
        "auto",
        "auto (default: the best that is installed, codeformer with --download, else codeformer_starter, which "
        "comes with the package), a name that `weights list` shows (codeformer, vqfr_v2, gfpgan_1.4, ...), or a file "
        "of one of these networks",
    )
    add_faces(parser, masks=("face", "outline", "box"))
    parser.add_argument("--only-center-face", action="store_true", help="restore the face nearest to the middle only")
    parser.add_argument(
        "--parity", action="store_true", help="the official script's numbers, its faults included (and its sizes)"
    )
    add_running(parser)


def run(args: argparse.Namespace) -> int:
    """Carry out what `add_arguments` parsed; returns the exit code."""
    refuse_useless_options(args, _FACE_OPTIONS)

    def work(_job: Job, image_HWC: Tensor, tools: Tools, on_stage: OnStage) -> tuple[Tensor, str]:
        return _restored(image_HWC, args, tools, on_stage)

    return run_batch(args, Verb("restoration", {FINDING: 0.05, RESTORING: 0.15}, work))


def _restored(image_HWC: Tensor, args: argparse.Namespace, tools: Tools, on_stage: OnStage) -> tuple[Tensor, str]:
    from ..pipeline.aligned_faces import aligned_events, restore_aligned
    from ..pipeline.restore import restore_images

    models = tools.models
    fidelity = models.restorer.recommended_fidelity if args.fidelity is None else args.fidelity
    if args.aligned:
        restored_BHWC = restore_aligned(
            image_HWC[None], restorer=models.restorer, fidelity=fidelity, on_progress=on_stage
        )
        return restored_BHWC[0], in_one_line(aligned_events(image_HWC[None], models.restorer, fidelity), args)
    result = restore_images(
        image_HWC[None],
        restorer=models.restorer,
        detector=models.detector,
        parser=models.parser if tools.mask == "face" else None,
        landmark_detector=models.landmark_detector,
        fidelity=fidelity,
        upscale=args.upscale,
        confidence=args.confidence,
        min_face_size=args.smallest_face,
        faces="center" if args.only_center_face else "all",
        mask=tools.mask,
        parity=args.parity,
        keep_crops=False,
        on_progress=on_stage,
    )
    return result.images_BHWC[0], in_one_line(result, args)
