"""`python -m codeformer_core restore`: the faces in picture files."""

from __future__ import annotations

import argparse
import logging
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from .console import Console
from .errors import FAILED, OK, UsageError, one_line
from .inputs import Job, plan_jobs
from .values import device, number

if TYPE_CHECKING:
    from torch import Tensor

    from ..results import RestoredImages
    from .tools import Tools

# What only matters where faces are looked for and pasted, with its value when it isn't given.
_FACE_OPTIONS = {
    "upscale": 1.0,
    "detector": "auto",
    "confidence": None,
    "smallest_face": 0.0,
    "only_center_face": False,
    "mask": "auto",
    "parity": False,
}
_READING, _WRITING = "reading", "writing"
_PACKAGE = __package__.partition(".")[0] if __package__ else "codeformer_core"

OnStage = Callable[[str, int, int], None]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give `parser` its arguments; `run` takes what it parsed."""
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="pictures, folders of pictures, patterns like *.jpg")
    parser.add_argument(
        "-o", "--output", required=True, metavar="OUT", help="folder for the results (or a picture, for one picture)"
    )
    parser.add_argument(
        "-w",
        "--fidelity",
        type=number(0, 1),
        default=0.5,
        help="0: prettiest, 1: closest to the input (default %(default)s)",
    )
    parser.add_argument("--upscale", type=number(1), default=_FACE_OPTIONS["upscale"], help="enlarge by (default 1)")
    parser.add_argument(
        "--aligned", action="store_true", help="the inputs are face crops, aligned as FFHQ is: restore them whole"
    )
    parser.add_argument(
        "--model",
        default="auto",
        metavar="NAME|FILE",
        help="auto (default: the best that is installed, or codeformer with --download), a name that `weights list` "
        "shows, or a file",
    )
    faces = parser.add_argument_group("faces")
    faces.add_argument(
        "--detector",
        default=_FACE_OPTIONS["detector"],
        metavar="NAME|FILE",
        help="auto (default: the best that is installed), retinaface_resnet50, retinaface_mobile0.25, "
        "starter_detector or yunet",
    )
    faces.add_argument("--confidence", type=number(0, 1), help="least score of a face (default: the detector's own)")
    faces.add_argument(
        "--smallest-face",
        type=number(0),
        default=_FACE_OPTIONS["smallest_face"],
        metavar="PIXELS",
        help="leave faces smaller than this as they are",
    )
    faces.add_argument("--only-center-face", action="store_true", help="restore the face nearest to the middle only")
    faces.add_argument(
        "--mask",
        choices=("auto", "face", "outline", "box"),
        default=_FACE_OPTIONS["mask"],
        help="how a face is pasted: in its own shape (needs ParseNet), in an outline drawn from its landmarks, or as a "
        "soft box; auto: face if ParseNet is installed, else outline",
    )
    parser.add_argument(
        "--parity", action="store_true", help="the official script's numbers, its faults included (and its sizes)"
    )
    parser.add_argument("--compare", action="store_true", help="write NAME_compare.png too: before | after")
    parser.add_argument("--overwrite", action="store_true", help="replace results that exist")
    parser.add_argument("--download", action="store_true", help="fetch models that are missing")
    parser.add_argument("--device", type=device, default="auto", help="auto (default), cpu, cuda, cuda:N or mps")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="default %(default)s")


def run(args: argparse.Namespace) -> int:
    """Carry out what `add_arguments` parsed; returns the exit code. One picture's failure doesn't stop the
    others."""
    console = Console(sys.stdout, sys.stderr)
    _refuse_useless_options(args)
    jobs = plan_jobs(args.inputs, args.output, compare=args.compare, overwrite=args.overwrite)
    with console.showing_logs(logging.getLogger(_PACKAGE)), warnings.catch_warnings():
        # Pillow's remarks about odd metadata; what matters is raised or logged by us, with the file's name.
        warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
        # Here and not above: torch takes a second or more, which --help and typing errors need not wait for.
        from .tools import load_tools

        tools = load_tools(args, console)
        for note in tools.notes:
            console.complain(f"note: {note}")
        _make_folder(jobs[0].output.parent)
        failed = [job for index, job in enumerate(jobs) if not _attempt(job, index, len(jobs), args, tools, console)]
    if failed and len(jobs) > 1:
        console.complain(f"{len(failed)} of {len(jobs)} pictures failed; the lines above say why")
    return FAILED if failed else OK


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(f"{folder}: this folder can't be made ({reason}); name another one with -o") from error


def _refuse_useless_options(args: argparse.Namespace) -> None:
    if args.aligned:
        given = [name for name, default in _FACE_OPTIONS.items() if getattr(args, name) != default]
        if given:
            names = ", ".join("--" + name.replace("_", "-") for name in given)
            raise UsageError(f"{names}: no effect with --aligned, which takes the inputs as face crops; leave it out")


def _attempt(job: Job, index: int, count: int, args: argparse.Namespace, tools: Tools, console: Console) -> bool:
    """Whether the picture was restored and written; if not, stderr says why."""

    from ..progress import FINDING, RESTORING

    begins = {_READING: 0.0, FINDING: 0.05, RESTORING: 0.15, _WRITING: 0.95, "": 1.0}
    stages = list(begins)

    def on_stage(stage: str, done: int, total: int) -> None:
        begin, end = begins[stage], begins[stages[stages.index(stage) + 1]]
        share = (index + begin + (end - begin) * done / max(total, 1)) / count
        text = f"{index + 1}/{count} {job.source.name}: {stage} {done}/{total}"
        console.progress(share, text, at_once=done == 0)

    started = time.monotonic()
    try:
        words = _restore_file(job, args, tools, on_stage)
    except Exception as error:  # noqa: BLE001 - reported here, counted by the caller; the other pictures go on
        console.clear()
        if args.debug:
            traceback.print_exc()
        text = one_line(error)
        console.complain(f"error: {text if str(job.source) in text else f'{job.source}: {text}'}")
        return False
    console.line(f"{job.source} -> {job.output}: {words} ({time.monotonic() - started:.1f} s)")
    return True


def _restore_file(job: Job, args: argparse.Namespace, tools: Tools, on_stage: OnStage) -> str:
    """Read, restore, write. Returns what was found and restored by what, in words."""
    from ..files import read_picture, write_picture

    on_stage(_READING, 0, 1)
    picture = read_picture(job.source)
    restored_HWC, words = _restore(picture.image_HWC, args, tools, on_stage)
    on_stage(_WRITING, 0, 1)
    write_picture(job.output, replace(picture, image_HWC=restored_HWC), overwrite=args.overwrite)
    if job.compare is not None:
        pair_HWC = side_by_side(picture.image_HWC, restored_HWC)
        write_picture(job.compare, replace(picture, image_HWC=pair_HWC), overwrite=args.overwrite)
    return words


def _restore(image_HWC: Tensor, args: argparse.Namespace, tools: Tools, on_stage: OnStage) -> tuple[Tensor, str]:
    from ..aligned import restore_aligned
    from ..restore import restore_images

    if tools.detector is None:
        restored_BHWC = restore_aligned(
            image_HWC[None], restorer=tools.restorer, fidelity=args.fidelity, on_progress=on_stage
        )
        return restored_BHWC[0], f"aligned face, restored by {tools.restorer.name} at fidelity {args.fidelity:g}"
    result = restore_images(
        image_HWC[None],
        restorer=tools.restorer,
        detector=tools.detector,
        parser=tools.parser,
        fidelity=args.fidelity,
        upscale=args.upscale,
        confidence=args.confidence,
        smallest_face=args.smallest_face,
        faces="center" if args.only_center_face else "all",
        mask=tools.mask,
        parity=args.parity,
        keep_crops=False,
        on_progress=on_stage,
    )
    return result.images_BHWC[0], _in_words(result)


def _in_words(result: RestoredImages) -> str:
    words = result.describe(0)[0]
    if result.skipped[0]:
        reasons = dict.fromkeys(entry.reason for entry in result.skipped[0])
        words += f", {len(result.skipped[0])} skipped ({'; '.join(reasons)})"
    return f"{words}; {result.made_with()}"


def side_by_side(before_HWC: Tensor, after_HWC: Tensor) -> Tensor:
    """before | after, the first one brought to the second one's size."""
    import torch

    from .. import images as pictures

    height, width = after_HWC.shape[:2]
    before_HWC = pictures.resize(before_HWC[None], height, width, mode="bicubic")[0]
    return torch.cat([before_HWC.clamp(0, 1), after_HWC.to(before_HWC)], dim=1)
