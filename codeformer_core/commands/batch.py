"""What restore, colorize and inpaint share: many image files through one piece of work, with a report for each.

One image's failure doesn't stop the others, and nothing is written that isn't whole.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from ..pipeline.options import RestoreOptions
from .console import Console
from .errors import FAILED, OK, UsageError, one_line
from .inputs import FORMATS, Job, plan_jobs
from .preflight import ResultSize, check_disk, check_folders, check_job, make_folder
from .reports import add_language
from .values import HasArguments, add_option, device

if TYPE_CHECKING:
    from torch import Tensor

    from .tools import CommandModels

_READING, _WRITING = "reading", "writing"
_PACKAGE = __package__.partition(".")[0] if __package__ else "codeformer_core"

OnStage = Callable[[str, int, int], None]

# What only matters where faces are looked for and pasted, with its value when it isn't given.
_FACE_OPTIONS = {"detector": "auto", "confidence": None, "smallest_face": 0.0, "mask": "auto"}


@dataclass(frozen=True)
class Verb:
    """What a command does to each image.

    task: what the model must be for.
    stages: their names, with the share of an image's time at which each begins.
    work: (job, image_HWC, models, on_stage) -> the new image_HWC, and what was done in words.
    result_size: of an image of this width and height; the same if not given.
    check: what else can be known about a job before the work; raises as `check_job`."""

    task: str
    stages: dict[str, float]
    work: Callable[[Job, Tensor, CommandModels, OnStage], tuple[Tensor, str]]
    result_size: ResultSize = lambda width, height: (width, height)
    check: Callable[[Job], None] = lambda job: None


def add_files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="images, folders of images, patterns like *.jpg")
    parser.add_argument(
        "-o", "--output", required=True, metavar="OUT", help="folder for the results (or an image file, for one image)"
    )
    parser.add_argument("--recursive", action="store_true", help="the folders inside folders too, kept as they are")
    parser.add_argument("--format", choices=FORMATS, help="write all results so (default: as the inputs, GIF as PNG)")
    parser.add_argument("--strict", action="store_true", help="refuse images that are cut short")


def add_model(parser: argparse.ArgumentParser, doing: str, default: str, about: str) -> None:
    """The model, and whether it gets the inputs whole.

    doing: what is done to them, such as "restore".
    about: the help of --model.
    """
    parser.add_argument(
        "--aligned", action="store_true", help=f"the inputs are face crops, aligned as FFHQ is: {doing} them whole"
    )
    parser.add_argument("--model", default=default, metavar="NAME|FILE", help=about)


def add_detector(parser: HasArguments) -> None:
    """What finds faces, and how sure it must be."""
    parser.add_argument(
        "--detector",
        default="auto",
        metavar="NAME|FILE",
        help="auto (default: the best that is installed), retinaface_resnet50, retinaface_mobile0.25, "
        "starter_detector or yunet",
    )
    add_option(
        parser,
        RestoreOptions,
        "confidence",
        "--confidence",
        help="least score of a face (default: the detector's own)",
    )


def add_faces(parser: argparse.ArgumentParser, masks: tuple[str, ...] = (), auto: str = "face") -> None:
    """Where faces are looked for, and how they are pasted.

    masks: the shapes to choose from; none where there is no choice.
    auto: what the choice "auto" means.
    """
    faces = parser.add_argument_group("faces")
    add_detector(faces)
    add_option(
        faces,
        RestoreOptions,
        "min_face_size",
        "--smallest-face",
        metavar="PIXELS",
        help="leave faces smaller than this as they are",
    )
    if masks:
        parser.set_defaults(auto_mask=auto)
        faces.add_argument(
            "--mask",
            choices=("auto", *masks),
            default="auto",
            help="how a face is pasted: in its own shape (with its hair if ParseNet is installed), as the whole head, "
            f"in an outline drawn from five landmarks, or as a soft box; auto: {auto}",
        )


def add_running(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--compare", action="store_true", help="write NAME_compare.png too: before | after")
    parser.add_argument("--overwrite", action="store_true", help="replace results that exist")
    parser.add_argument("--skip-existing", action="store_true", help="continue: leave out what has its result already")
    parser.add_argument("--download", action="store_true", help="fetch models that are missing")
    parser.add_argument("--device", type=device, default="auto", help="auto (default), cpu, cuda, cuda:N or mps")
    add_dtype(parser)
    add_language(parser)


def add_dtype(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dtype",
        choices=("auto", "float32", "bfloat16"),
        default="auto",
        help="precision; auto (default): where the processor has instructions for bfloat16, CodeFormers find their "
        "codes in float32 and generate in bfloat16; otherwise float32, as always with --parity",
    )


def refuse_useless_options(args: argparse.Namespace, more: Mapping[str, object] = MappingProxyType({})) -> None:
    """Raise UsageError for options that mean nothing beside --aligned.

    more: a verb's own, with their defaults.
    """
    if not args.aligned:
        return
    options = {**_FACE_OPTIONS, **more}
    given = [name for name, default in options.items() if getattr(args, name, default) != default]
    if given:
        names = ", ".join("--" + name.replace("_", "-") for name in given)
        raise UsageError(f"{names}: no effect with --aligned, which takes the inputs as face crops; leave it out")


def run_batch(args: argparse.Namespace, verb: Verb) -> int:
    """Returns the exit code."""
    console = Console(sys.stdout, sys.stderr)
    plan = plan_jobs(
        args.inputs,
        args.output,
        compare=args.compare,
        overwrite=args.overwrite,
        recursive=args.recursive,
        skip_existing=args.skip_existing,
        file_format=args.format,
    )
    for note in plan.notes:
        console.complain(f"note: {note}")
    if plan.done:
        console.line(f"{plan.done} of {plan.done + len(plan.jobs)} images have their results already")
    if not plan.jobs:
        return OK
    with console.showing_logs(logging.getLogger(_PACKAGE)), warnings.catch_warnings():
        # Pillow's remarks about odd metadata; what matters is raised or logged by us, with the file's name.
        warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
        jobs = [job for job in plan.jobs if _passes(job, args, verb, console)]
        failed = len(plan.jobs) - len(jobs)
        if jobs:
            failed += _work_on(jobs, args, verb, console)
    if failed and len(plan.jobs) > 1:
        console.complain(f"{failed} of {len(plan.jobs)} images failed; the lines above say why")
    return FAILED if failed else OK


def _passes(job: Job, args: argparse.Namespace, verb: Verb, console: Console) -> bool:
    """Whether an image passes all checks that are possible before the work; if not, stderr says why."""
    try:
        check_job(job, verb.result_size)
        verb.check(job)
    except Exception as error:  # noqa: BLE001 - reported here, counted by the caller; the other images continue
        _complain(job, error, args, console)
        return False
    return True


def _work_on(jobs: list[Job], args: argparse.Namespace, verb: Verb, console: Console) -> int:
    """Returns how many images failed."""
    check_folders(jobs)
    if note := check_disk(jobs, verb.result_size):
        console.complain(f"note: {note}")
    # Here and not above: torch takes a second or more, which --help and typing errors need not wait for.
    from ..imaging.files import remove_leftovers
    from .tools import load_models

    models = load_models(args, verb.task, console)
    for note in models.notes:
        console.complain(f"note: {note}")
    for folder in dict.fromkeys(job.output.parent for job in jobs):
        make_folder(folder)
        remove_leftovers(folder)
    return sum(not _attempt(job, index, len(jobs), args, verb, models, console) for index, job in enumerate(jobs))


def _complain(job: Job, error: Exception, args: argparse.Namespace, console: Console) -> None:
    console.clear()
    if args.debug:
        traceback.print_exception(error)
    text = one_line(error)
    console.complain(f"error: {text if str(job.source) in text else f'{job.source}: {text}'}")


def _attempt(
    job: Job, index: int, count: int, args: argparse.Namespace, verb: Verb, models: CommandModels, console: Console
) -> bool:
    """Whether the image was worked on and written; if not, stderr says why."""
    if args.skip_existing and job.is_done():  # by another process in the meantime
        return True
    begins = {_READING: 0.0, **verb.stages, _WRITING: 0.95, "": 1.0}
    stages = list(begins)
    reached = 0.0

    def on_stage(stage: str, done: int, total: int) -> None:
        nonlocal reached
        begin, end = begins[stage], begins[stages[stages.index(stage) + 1]]
        # Faces are restored and enlarged in turns; the bar doesn't go back.
        reached = max(reached, begin + (end - begin) * done / max(total, 1))
        share = (index + reached) / count
        text = f"{index + 1}/{count} {job.source.name}: {stage} {done}/{total}"
        console.progress(share, text, at_once=done == 0)

    started = time.monotonic()
    try:
        words = _through_files(job, args, verb, models, on_stage)
    except Exception as error:  # noqa: BLE001 - reported here, counted by the caller; the other images continue
        _complain(job, error, args, console)
        return False
    console.line(f"{job.source} -> {job.output}: {words} ({time.monotonic() - started:.1f} s)")
    return True


def _through_files(job: Job, args: argparse.Namespace, verb: Verb, models: CommandModels, on_stage: OnStage) -> str:
    """Read, work, write. Returns what was done, in words."""
    from ..imaging.files import read_image, write_image
    from ..imaging.metadata.content import Metadata

    overwrite = args.overwrite or args.skip_existing  # which finds half of a pair where the process was killed between
    on_stage(_READING, 0, 1)
    image = read_image(job.source, strict=args.strict)
    made_HWC, words = verb.work(job, image.image_HWC, models, on_stage)
    on_stage(_WRITING, 0, 1)
    if job.compare is not None:
        # First, so that what has its result is done. Of the metadata it has what its colours need.
        colours = replace(image, exif=None, metadata=Metadata(colour=image.metadata.colour))
        pair_HWC = side_by_side(image.image_HWC, made_HWC)
        write_image(job.compare, replace(colours, image_HWC=pair_HWC), overwrite=overwrite)
    write_image(job.output, replace(image, image_HWC=made_HWC), overwrite=overwrite)
    return words


def side_by_side(before_HWC: Tensor, after_HWC: Tensor) -> Tensor:
    """before | after, the first one brought to the second one's size."""
    import torch

    from ..imaging import tensors as imaging

    height, width = after_HWC.shape[:2]
    before_HWC = imaging.resize(before_HWC[None], height, width, mode="bicubic")[0]
    return torch.cat([before_HWC.clamp(0, 1), after_HWC.to(before_HWC)], dim=1)
