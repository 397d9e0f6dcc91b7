"""`python -m codeformer_core restore`: the faces in image files."""

from __future__ import annotations

import argparse
from functools import partial
from typing import TYPE_CHECKING, get_args

from ..pipeline.options import MASKS_BY_PARSER, MaskKind, RestoreOptions
from ..runtime.progress import FINDING, RESTORING, UPSCALING
from .batch import OnStage, Verb, add_faces, add_files, add_running, refuse_useless_options, run_batch
from .errors import UsageError
from .inputs import Job
from .pasting import DEFAULTS, add_pasting, check_pasting, paste_options
from .person import DEFAULTS as PERSON_DEFAULTS
from .person import add_person, check_person
from .reports import in_one_line
from .values import add_option, whole

if TYPE_CHECKING:
    from torch import Tensor

    from .tools import CommandModels

# What only matters where faces are looked for and pasted, beside what all verbs have, with its value when it isn't
# given.
_FACE_OPTIONS = {
    "upscale": 1.0,
    "only_center_face": False,
    "parity": False,
    "background_upscaler": None,
    "face_upscaler": None,
    "tile": 0,
    "when_worse": "fade",
    "largest_face": 0.0,
    **DEFAULTS,
    **PERSON_DEFAULTS,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give `parser` its arguments; `run` takes what it parsed."""
    add_files(parser)
    parser.add_argument(
        "--aligned", action="store_true", help="the inputs are face crops, aligned as FFHQ is: restore them whole"
    )
    add_restoring(parser)
    _add_upscalers(parser)
    add_running(parser)


def add_restoring(parser: argparse.ArgumentParser) -> None:
    """How faces are restored: what `restore_options` takes, the model, the detector and the person."""
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
    add_option(
        parser,
        RestoreOptions,
        "detail",
        "--detail",
        help="how much of the photo's own lines and texture comes back where they were lost, 0..1 (default: as much as "
        "the fidelity, and all that is too fine for the network)",
    )
    add_option(
        parser,
        RestoreOptions,
        "when_worse",
        "--when-worse",
        help="a face that would come out softer than it was, or as another person: fade (default), the worse it "
        "is, the less of it shows; leave, it stays as it was; paste, it is pasted nevertheless",
    )
    add_option(
        parser,
        RestoreOptions,
        "max_face_size",
        "--largest-face",
        metavar="PIXELS",
        help="leave faces alone whose box is wider or higher than this (default 0: none)",
    )
    add_person(parser)
    add_option(parser, RestoreOptions, "upscale", "--upscale", help="enlarge by (default 1)")
    parser.add_argument(
        "--model",
        default="auto",
        metavar="NAME|FILE",
        help="auto (default: the best that is installed, codeformer with --download, else codeformer_starter, which "
        "comes with the package), a name that `weights list` shows (codeformer, vqfr_v2, gfpgan_1.4, ...), or a file "
        "of one of these networks",
    )
    add_faces(parser, masks=get_args(MaskKind))
    parser.add_argument("--only-center-face", action="store_true", help="restore the face nearest to the middle only")
    parser.add_argument(
        "--parity", action="store_true", help="the official script's numbers, its faults included (and its sizes)"
    )
    add_pasting(parser)


def restore_options(args: argparse.Namespace, mask: MaskKind) -> RestoreOptions:
    """The options that `add_restoring` parsed.

    mask: what --mask stands for.
    """
    return RestoreOptions(
        fidelity=args.fidelity,
        upscale=args.upscale,
        confidence=args.confidence,
        min_face_size=args.smallest_face,
        max_face_size=args.largest_face,
        faces="center" if args.only_center_face else "all",
        detail=args.detail,
        when_worse=args.when_worse,
        parity=args.parity,
        paste=paste_options(args, mask),
    )


def _add_upscalers(parser: argparse.ArgumentParser) -> None:
    upscalers = parser.add_argument_group(
        "upscalers",
        "super-resolution networks (Real-ESRGAN, SwinIR, ...) that redraw what would otherwise only be resized; FILE "
        "is a file, or the name of one in models/upscale_models, or realesrgan_x2plus or realesrgan_x4plus, which "
        "--download fetches; they need the package spandrel",
    )
    upscalers.add_argument(
        "--background-upscaler",
        metavar="FILE",
        help="redraw the image around the faces (--bg_upsampler of the official program, which enlarges by 2 "
        "unless told otherwise; here --upscale alone sets the size, and 1 keeps it)",
    )
    upscalers.add_argument(
        "--face-upscaler",
        metavar="FILE",
        help="redraw restored faces that are pasted larger than 512 pixels (--face_upsample of the official program)",
    )
    upscalers.add_argument(
        "--tile",
        type=_tile,
        default=0,
        metavar="PIXELS",
        help="side of the tiles that upscalers work in; smaller ones need less memory (--bg_tile of the official "
        "program); 0 (default): from the free memory",
    )


def _tile(text: str) -> int:
    # Here and not above: it needs torch, which --help need not wait for.
    from ..imaging.tiles import MIN_TILE

    return 0 if text == "0" else whole(MIN_TILE)(text)


def run(args: argparse.Namespace) -> int:
    """Carry out what `add_arguments` parsed; returns the exit code."""
    refuse_useless_options(args, _FACE_OPTIONS)
    check_pasting(args)
    check_person(args)
    if args.tile and not (args.background_upscaler or args.face_upscaler):
        raise UsageError("--tile: no effect without --background-upscaler or --face-upscaler; leave it out")

    def work(_job: Job, image_HWC: Tensor, models: CommandModels, on_stage: OnStage) -> tuple[Tensor, str]:
        return _restored(image_HWC, args, models, on_stage)

    # A background takes far longer than its faces.
    stages = {FINDING: 0.05, UPSCALING: 0.15, RESTORING: 0.85 if args.background_upscaler else 0.15}
    return run_batch(args, Verb("restoration", stages, work, partial(_result_size, args)))


def _result_size(args: argparse.Namespace, width: int, height: int) -> tuple[int, int]:
    if args.aligned:
        return width, height
    from ..pipeline.recipe import Recipe
    from ..pipeline.reference import OFFICIAL

    recipe = OFFICIAL if args.parity else Recipe()
    made_height, made_width = recipe.plan_sizes(height, width, args.upscale).canvas
    return made_width, made_height


def _restored(
    image_HWC: Tensor, args: argparse.Namespace, models: CommandModels, on_stage: OnStage
) -> tuple[Tensor, str]:
    from ..pipeline.aligned_faces import restore_aligned
    from ..pipeline.restore import Models, restore

    bundle = models.bundle
    if args.aligned:
        restored = restore_aligned(
            image_HWC[None],
            restorer=bundle.restorer,
            landmark_detector=bundle.landmark_detector,
            fidelity=args.fidelity,
            detail=args.detail,
            on_progress=on_stage,
        )
        return restored.images_BHWC[0], in_one_line(restored, args)
    result = restore(
        image_HWC[None],
        Models(
            bundle.restorer,
            bundle.detector,
            bundle.parser if models.mask in MASKS_BY_PARSER else None,
            bundle.landmark_detector,
        ),
        restore_options(args, models.mask),
        person=models.person,
        background=models.background_upscaler,
        face_upscaler=models.face_upscaler,
        keep_crops=False,
        on_progress=on_stage,
    )
    enlarged = f", background by {models.background_upscaler.name}" if models.background_upscaler else ""
    return result.images_BHWC[0], in_one_line(result, args) + enlarged
