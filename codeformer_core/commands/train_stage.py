"""`train stage1 | stage2 | stage3 | colorization | inpainting`: one stage, from its configuration to its weights."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ..training.engine.stopping import StopRequest
from .console import Console
from .errors import OK, Stopped, UsageError
from .training_options import add_configuration, read_configuration

if TYPE_CHECKING:
    from ..training.engine.trainer import Progress
    from ..training.run import Result

# Shown in the bar and in the lines of a log, where the stage has them.
_SHOWN = ("loss", "pixel", "code_accuracy", "perplexity")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give `parser` its arguments; `run` takes what it parsed."""
    parser.add_argument("-o", "--output", required=True, metavar="RUN", help="folder of this run")
    add_configuration(parser)
    parser.add_argument("--teacher", type=Path, metavar="RUN|FILE", help="the trained stage I (all stages but stage1)")
    parser.add_argument(
        "--from",
        type=Path,
        dest="start",
        metavar="RUN|FILE",
        help="what to go on from: a trained stage II (stage3; else optional), or for stage1 another stage I (optional)",
    )
    parser.add_argument("--codes", type=Path, metavar="FILE", help="codes of the faces, made by `train codes`")
    parser.add_argument("--lpips-backbone", metavar="FILE", help="VGG16's weights, for LPIPS as the perceptual loss")
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in RUN")


def run(args: argparse.Namespace) -> int:
    """Train; returns the exit code: 128 and the signal's number when it was stopped, with everything saved."""
    if not args.output:
        raise UsageError("-o is given an empty name: name a folder for this run")
    console = Console(sys.stdout, sys.stderr)
    logger = logging.getLogger(__package__.partition(".")[0] if __package__ else "codeformer_core")
    with console.showing_logs(logger, logging.INFO):
        # An exception raised in the middle of torch's imports can get lost in them.
        with StopRequest() as early:
            config = read_configuration(args, args.lpips_backbone)
            from ..training.engine.processes import joined
            from ..training.run import train
            from ..training.setup import RunFiles
        if early.number is not None:
            raise Stopped(early.number)
        files = RunFiles(Path(args.output), args.teacher, args.start, args.codes, args.resume)
        with joined(config.engine.device) as processes:
            if not processes.is_first:
                logger.setLevel(logging.ERROR)
            watch = Watch(console, args.step) if processes.is_first else None
            result = train(config, args.step, files, processes, watch.show if watch else lambda progress: None)
    if processes.is_first:
        console.line(_in_words(args.step, result))
    return OK if result.stopped_by is None else 128 + result.stopped_by


class Watch:
    """The progress bar in a terminal; lines where there is none."""

    def __init__(self, console: Console, step_name: str) -> None:
        self.console = console
        self.name = step_name
        self.values: dict[str, float] = {}
        self.begun = time.monotonic()
        self.first: int | None = None

    def show(self, progress: Progress) -> None:
        if self.first is None:
            self.first, self.begun = progress.step, time.monotonic()
        self.values = progress.values or self.values
        done = progress.step - self.first
        left = (time.monotonic() - self.begun) / done * (progress.iterations - progress.step) if done else None
        numbers = ", ".join(f"{name} {self.values[name]:.3g}" for name in _SHOWN if name in self.values)
        text = f"{self.name} {progress.step}/{progress.iterations}, {progress.faces_per_second:.3g} faces/s"
        if left is not None:
            text += f", {_duration(left)} left"
        if numbers:
            text += f", {numbers}"
        if self.console.in_terminal:
            self.console.progress(progress.step / progress.iterations, text)
        elif progress.values:
            self.console.line(text)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _in_words(name: str, result: Result) -> str:
    if result.stopped_by is not None:
        by = signal.Signals(result.stopped_by).name
        return f"{name}: stopped by {by} after step {result.steps} of {result.iterations}, saved; --resume continues"
    return f"{name}: {result.steps} steps done, weights in {result.weights}"
