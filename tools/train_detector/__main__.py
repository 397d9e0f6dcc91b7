"""`python -m tools.train_detector`: the starter detector, from aligned faces to the file that is loaded as one."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from codeformer_core.cli import run_program
from codeformer_core.commands.console import Console
from codeformer_core.commands.errors import OK, UsageError
from codeformer_core.commands.values import device

if TYPE_CHECKING:
    import torch

    from .fit import FitProgress, FitResult
    from .labels import Labels

_FACE_ENDINGS = (".webp", ".png", ".jpg", ".jpeg")
_LABELS_NAME = "labels.csv"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code; `argv` without the program's name, default sys.argv."""
    return run_program("python -m tools.train_detector", "Train the starter detector.", add_arguments, run, argv)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="RUN", help="folder of this run")
    parser.add_argument(
        "--faces",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="aligned faces of 512x512 (`train align` makes them)",
    )
    parser.add_argument(
        "--backgrounds",
        type=Path,
        metavar="FOLDER",
        help="photos without a single face; without them backgrounds are textures made by the program",
    )
    parser.add_argument(
        "--teacher",
        action="append",
        default=[],
        metavar="NAME|FILE",
        help="a detector that says where eyes, nose, mouth and box of the aligned faces are; may be given often "
        "(default: yunet)",
    )
    parser.add_argument("--steps", type=int, default=10_000, metavar="N", help="default %(default)s")
    parser.add_argument("--batch-size", type=int, default=16, metavar="N", help="scenes a step (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of scenes and weights (default %(default)s)")
    parser.add_argument(
        "--precision",
        choices=("float32", "bfloat16"),
        default="float32",
        help="bfloat16 is up to twice as fast where the processor has it (default %(default)s)",
    )
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="threads that make scenes (default 1)")
    parser.add_argument("--device", type=device, default="auto", help="auto, cpu, cuda, cuda:N or mps (default auto)")
    parser.add_argument("--resume", action="store_true", help="continue from the newest checkpoint in RUN")


def run(args: argparse.Namespace) -> int:
    """Train; returns the exit code: 128 and the signal's number when it was stopped, with everything saved."""
    for name in ("steps", "batch_size", "workers"):
        if getattr(args, name) < 1:
            raise UsageError(f"--{name.replace('_', '-')} {getattr(args, name)}: at least 1")
    if args.seed < 0:
        raise UsageError(f"--seed {args.seed}: 0 or more")
    if not args.faces.is_dir():
        raise UsageError(f"--faces {args.faces}: there is no such folder")
    # macOS puts files named ._x.jpg beside x.jpg, which are not images.
    faces = sorted(
        path for path in args.faces.rglob("*") if path.suffix.lower() in _FACE_ENDINGS and not path.name.startswith(".")
    )
    if not faces:
        raise UsageError(f"--faces {args.faces}: no face in it; {', '.join(_FACE_ENDINGS)} are read")
    if args.backgrounds is not None and not args.backgrounds.is_dir():
        raise UsageError(f"--backgrounds {args.backgrounds}: there is no such folder")
    console = Console(sys.stdout, sys.stderr)
    with (
        console.showing_logs(logging.getLogger("codeformer_core"), logging.INFO),
        console.showing_logs(logging.getLogger("tools"), logging.INFO),
    ):
        result = _train(args, faces, console)
    console.line(_in_words(result, args.steps))
    return OK if result.stopped_by is None else 128 + result.stopped_by


def _train(args: argparse.Namespace, faces: list[Path], console: Console) -> FitResult:
    from codeformer_core.training.engine.processes import joined

    from .backgrounds import Backgrounds, read_backgrounds
    from .fit import DetectorFit, FitOptions, require_new_or_resumed
    from .portraits import read_portraits, require_memory
    from .scenes import SceneMaker

    options = FitOptions(steps=args.steps, batch_size=args.batch_size, precision=args.precision, workers=args.workers)
    with joined(args.device) as processes:
        if processes.count > 1:
            raise UsageError("the detector is trained in one process: start it without torchrun")
        require_new_or_resumed(args.output, args.resume)
        require_memory(len(faces))
        photos = read_backgrounds(args.backgrounds)
        args.output.mkdir(parents=True, exist_ok=True)
        portraits = read_portraits(faces, _labels(args, faces, console, processes.device))
        maker = SceneMaker(portraits, Backgrounds(photos, portraits), args.seed)
        fit = DetectorFit(maker, options, args.output, processes.device)
        return fit.run(resume=args.resume, on_progress=lambda progress: _show(console, progress))


def _labels(args: argparse.Namespace, faces: list[Path], console: Console, device: torch.device) -> Labels:
    """Refined once for a run, then read from its folder."""
    from codeformer_core.models.loading import load_detector

    from .labels import find_labels

    names = [face.relative_to(args.faces).as_posix() for face in faces]
    teachers = {name: load_detector(name, device) for name in dict.fromkeys(args.teacher or ["yunet"])}
    return find_labels(
        args.output / _LABELS_NAME,
        args.faces,
        names,
        teachers,
        lambda done, count: console.progress(done / count, f"labels {done}/{count} faces"),
    )


def _show(console: Console, progress: FitProgress) -> None:
    numbers = ", ".join(f"{name} {value:.3g}" for name, value in progress.values.items())
    text = f"detector {progress.step}/{progress.steps}, {progress.scenes_per_second:.3g} scenes/s"
    if console.in_terminal:
        console.progress(progress.step / progress.steps, f"{text}, {numbers}" if numbers else text)
    elif numbers:
        console.line(f"{text}, {numbers}")


def _in_words(result: FitResult, steps: int) -> str:
    if result.stopped_by is not None:
        by = signal.Signals(result.stopped_by).name
        return f"detector: stopped by {by} after step {result.steps} of {steps}, saved; --resume continues"
    return f"detector: {result.steps} steps done, weights in {result.weights}"


if __name__ == "__main__":
    sys.exit(main())
