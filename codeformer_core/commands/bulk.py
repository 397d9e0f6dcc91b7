"""`python -m codeformer_core bulk`: the faces in an archive of photos, of any size."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import warnings
from collections import Counter
from typing import TYPE_CHECKING, get_args

from ..pipeline.bulk.options import BulkOptions, Engine, TargetKind
from .console import Console
from .errors import FAILED, OK
from .inputs import FORMATS
from .pasting import check_pasting
from .person import check_person, load_chosen_person
from .reports import add_language
from .restore import add_restoring, restore_options
from .sources import describe_left_out
from .values import device, duration, number, whole

if TYPE_CHECKING:
    from ..pipeline.bulk.estimate import Estimate
    from ..pipeline.bulk.job import Progress, RunPass
    from ..pipeline.bulk.models import BulkModels
    from ..pipeline.bulk.restore_bulk import BulkReport
    from ..pipeline.person import Person

_PACKAGE = __package__.partition(".")[0] if __package__ else "codeformer_core"
_GB = 1e9
_SAMPLE = 32


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give `parser` its arguments; `run` takes what it parsed."""
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="folders with all that lies in them, patterns like 'a/**/*.jpg', lists (.txt, a file in each line), "
        "WebDataset shards (.tar, 'a-{000..127}.tar') and Parquet files with images; on this machine or at "
        "s3://, gs://, hdfs:// and what else fsspec knows",
    )
    parser.add_argument(
        "-o", "--output", required=True, metavar="TARGET", help="folder for the results, likewise anywhere"
    )
    _add_target(parser)
    add_restoring(parser)
    _add_running(parser)


def _add_target(parser: argparse.ArgumentParser) -> None:
    target = parser.add_argument_group("target")
    target.add_argument(
        "--to",
        choices=get_args(TargetKind),
        default="folder",
        help="folder (default): as the sources lie; shards: WebDataset, key.jpg and key.json; parquet: a row for "
        "each image",
    )
    target.add_argument("--format", choices=FORMATS, help="write all results so (default: as the sources, GIF as PNG)")
    target.add_argument(
        "--pack", type=whole(1), default=1000, metavar="IMAGES", help="in a shard or Parquet file (default 1000)"
    )
    target.add_argument("--image-column", metavar="NAME", help="of Parquet sources (default: the one that holds bytes)")
    target.add_argument(
        "--key-column", metavar="NAME", help="with the images' names (default: key, path, ..., or the row's number)"
    )


def _add_running(parser: argparse.ArgumentParser) -> None:
    running = parser.add_argument_group("running")
    running.add_argument(
        "--engine",
        choices=get_args(Engine),
        default="auto",
        help="ray: all cores and GPUs of this machine, or of the cluster that RAY_ADDRESS or --ray-address names; "
        "local: one process; auto (default): ray where it is installed",
    )
    running.add_argument("--ray-address", metavar="ADDRESS", help="of a cluster: auto, or ray://HOST:10001")
    running.add_argument(
        "--workers", type=whole(1), metavar="NUMBER", help="of each step on CPUs (default: as many as there are cores)"
    )
    running.add_argument(
        "--attempts", type=whole(1), default=3, metavar="NUMBER", help="to restore an image (default 3)"
    )
    running.add_argument(
        "--dry-run",
        action="store_true",
        help="restore a few images, write nothing, and estimate time, cost and disk for all",
    )
    running.add_argument(
        "--sample", type=whole(1), default=_SAMPLE, metavar="IMAGES", help="of a dry run (default %(default)s)"
    )
    running.add_argument(
        "--price", type=number(0), metavar="NUMBER", help="of an hour of this machine, for the estimate"
    )
    running.add_argument("--strict", action="store_true", help="images that are cut short are failures")
    running.add_argument("--overwrite", action="store_true", help="begin again in a target that holds something else")
    running.add_argument("--download", action="store_true", help="fetch models that are missing")
    running.add_argument("--device", type=device, default="auto", help="auto (default), cpu, cuda, cuda:N or mps")
    running.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="default %(default)s")
    add_language(parser)


def run(args: argparse.Namespace) -> int:
    """Carry out what `add_arguments` parsed; returns the exit code."""
    check_pasting(args)
    check_person(args)
    console = Console(sys.stdout, sys.stderr)
    with console.showing_logs(logging.getLogger(_PACKAGE)), warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
        # Here and not above: --help need not wait for torch.
        from . import tools

        args.aligned = False
        models, mask, notes = tools.name_models(args, console)
        for note in notes:
            console.complain(f"note: {note}")
        options = BulkOptions(
            restore=restore_options(args, mask),
            kind=args.to,
            file_format=args.format,
            strict=args.strict,
            pack_images=args.pack,
            attempts=args.attempts,
            engine=args.engine,
            image_column=args.image_column,
            key_column=args.key_column,
        )
        person = None
        if args.person or args.not_person:
            person = load_chosen_person(args, models.load_detector())
        if args.dry_run:
            return _estimate(args, models, options, person, console)
        return _restore(args, models, options, person, console)


def _restore(
    args: argparse.Namespace, models: BulkModels, options: BulkOptions, person: Person | None, console: Console
) -> int:
    from ..pipeline.bulk.restore_bulk import restore_bulk

    try:
        report = restore_bulk(
            args.sources,
            args.output,
            models,
            options,
            person=person,
            engine=_engine(args, options),
            overwrite=args.overwrite,
            on_progress=lambda what, progress: _show(console, what, progress),
        )
    except KeyboardInterrupt:
        console.complain(f"note: what is done lies in {args.output}; the same command continues")
        raise
    console.clear()
    _tell(console, args.output, report)
    return FAILED if report.failed else OK


def _engine(args: argparse.Namespace, options: BulkOptions) -> RunPass | None:
    """The engine where more is said of it than its name."""
    on_cpus = args.device == "cpu"
    if options.engine == "local" or not (args.workers or args.ray_address or on_cpus or options.engine == "ray"):
        return None
    from ..pipeline.bulk.engine_local import LocalEngine
    from ..pipeline.bulk.engine_ray import RayEngine

    try:
        return RayEngine(args.ray_address, args.workers, use_gpus=not on_cpus)
    except ImportError:
        if options.engine == "ray":
            raise
        return LocalEngine()


def _show(console: Console, what: str, progress: Progress) -> None:
    if not progress.workers:
        console.progress(0.0, f"{what}: {progress.came:,} images")
        return
    finished = progress.done + progress.unchanged
    seconds = max(progress.seconds, 1e-6)
    left = "" if progress.left is None else f", about {duration(progress.left)} left"
    busy = " ".join(f"{stage} {share:.0%}" for stage, share in progress.utilisation().items())
    console.progress(
        finished / max(progress.came, 1),
        f"{finished:,} of {progress.came:,}: {progress.done / seconds:.1f} images/s, "
        f"{progress.faces / seconds:.1f} faces/s{left} ({busy})",
    )


def _tell(console: Console, target: str, report: BulkReport) -> None:
    rate = report.done / report.seconds if report.seconds else 0.0
    console.line(
        f"{report.came:,} images = {report.done:,} done + {report.failed:,} failed + {report.unchanged:,} unchanged "
        f"(finished before) -> {target}"
    )
    console.line(
        f"  {report.faces:,} faces restored; {report.copied:,} images without one are as they were; "
        f"{duration(report.seconds)}, {rate:.1f} images/s"
    )
    if report.left_out:
        console.line(f"  {describe_left_out(Counter(report.left_out))}")
    if report.failures:
        console.complain(f"{report.failed:,} images failed; {report.failures} says why. The same command tries again")


def _estimate(
    args: argparse.Namespace, models: BulkModels, options: BulkOptions, person: Person | None, console: Console
) -> int:
    from ..pipeline.bulk.estimate import estimate_bulk

    found = estimate_bulk(
        args.sources,
        args.output,
        models,
        options,
        person=person,
        sample=args.sample,
        on_listed=lambda came: console.progress(0.0, f"listing: {came:,} images"),
    )
    console.clear()
    cores = args.workers or (1 if options.engine == "local" else os.cpu_count() or 1)
    for line in estimate_lines(found, cores, models.device, args.price):
        console.line(line)
    return OK


def estimate_lines(found: Estimate, cores: int, device: str, price: float | None) -> list[str]:
    """What a dry run says.

    cores: that will work.
    device: on which the sample was restored.
    price: of an hour of the machine.
    """
    gpus = 0 if device == "cpu" else 1
    seconds = found.time(cores, gpus)
    lines = [
        f"{found.came:,} images, {found.unchanged:,} of them finished; {found.sampled} tried, {found.failed} of these "
        f"failed",
        f"  an image: {found.faces:.2f} faces, "
        + ", ".join(f"{stage} {value:.3f} s" for stage, value in found.seconds.items() if value),
        f"  time: about {duration(seconds)} on {cores} cores" + (f" and a GPU ({device})" if gpus else ""),
        f"  disk: about {found.disk / _GB:,.2f} GB for the results",
    ]
    if price is not None:
        lines.append(f"  cost: about {seconds / 3600 * price:,.2f} at {price:g} an hour")
    return lines
