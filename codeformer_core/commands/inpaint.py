"""`python -m codeformer_core inpaint`: holes in the faces of image files filled."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..imaging.codecs.suffixes import READABLE
from ..runtime.progress import FILLING, FINDING, PASTING
from .batch import OnStage, Verb, add_faces, add_files, add_model, add_running, refuse_useless_options, run_batch
from .errors import UsageError
from .inputs import Job
from .reports import in_one_line

if TYPE_CHECKING:
    from torch import Tensor

    from .tools import CommandModels


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give `parser` its arguments; `run` takes what it parsed."""
    add_files(parser)
    parser.add_argument(
        "--holes",
        type=Path,
        metavar="IMAGE|FOLDER",
        help="what is to be filled: an image that is white there and black elsewhere, for all inputs, or a folder of "
        "such images with the inputs' names; without it pure white pixels are filled, as the official script does",
    )
    about = (
        "auto (default: the best that is installed, codeformer_inpainting with --download, else starter_inpainting, "
        "which comes with the package), another name that `weights list` shows, or a file"
    )
    add_model(parser, "fill", "auto", about)
    add_faces(parser)
    add_running(parser)


def run(args: argparse.Namespace) -> int:
    """Carry out what `add_arguments` parsed; returns the exit code."""
    refuse_useless_options(args)
    if args.holes is not None and not args.holes.exists():
        raise UsageError(f"--holes {args.holes}: there is no such file or folder")

    def work(job: Job, image_HWC: Tensor, models: CommandModels, on_stage: OnStage) -> tuple[Tensor, str]:
        from ..pipeline.inpaint import inpaint_aligned, inpaint_photos

        restorer = models.bundle.restorer
        mask_BHW = None if args.holes is None else _holes(args.holes, job.source)
        if args.aligned:
            result = inpaint_aligned(image_HWC[None], restorer=restorer, mask_BHW=mask_BHW, on_progress=on_stage)
        else:
            result = inpaint_photos(
                image_HWC[None],
                restorer=restorer,
                face_source=models.bundle.detector,
                mask_BHW=mask_BHW,
                confidence=args.confidence,
                min_face_size=args.smallest_face,
                on_progress=on_stage,
            )
        return result.images_BHWC[0], in_one_line(result, args)

    def check(job: Job) -> None:
        if args.holes is not None:
            _holes_file(args.holes, job.source)

    verb = Verb("inpainting", {FINDING: 0.05, FILLING: 0.15, PASTING: 0.85}, work, check=check)
    return run_batch(args, verb)


def _holes(place: Path, source: Path) -> Tensor:
    """mask_BHW of one image, 1 where it is to be filled."""
    from ..imaging import tensors as imaging
    from ..imaging.files import read_image
    from ..imaging.gray import LUMA_RGB

    rgb_BHW3 = imaging.split_alpha(read_image(_holes_file(place, source)).image_HWC[None]).rgb_BHW3
    return rgb_BHW3 @ rgb_BHW3.new_tensor(LUMA_RGB)


def _holes_file(place: Path, source: Path) -> Path:
    """The mask file of one image. Raises ValueError, with the fix, where the folder has none for it."""
    if not place.is_dir():
        return place
    found = [path for path in sorted(place.iterdir()) if path.stem == source.stem and path.suffix.lower() in READABLE]
    if not found:
        raise ValueError(f"--holes {place}: holds no image called {source.stem}; add one, black to fill nothing")
    return found[0]
