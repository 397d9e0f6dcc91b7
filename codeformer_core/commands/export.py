"""`codeformer train export RUN_OR_FILE -o OUT`: a trained network as a file for the nodes or for other programs."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import sys
from pathlib import Path

from ..training import WEIGHTS_NAME
from .console import Console
from .errors import OK, UsageError
from .values import number

_PACKAGE = __package__.partition(".")[0] if __package__ else "codeformer_core"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give `parser` the arguments; `run` takes what it parsed."""
    parser.add_argument(
        "source",
        metavar="RUN_OR_FILE",
        help=f"the folder of a training run (its {WEIGHTS_NAME} is taken), a file, or a name `weights list` shows",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="OUT",
        help="X.safetensors; with --layout published also X.pth, the pickle that the official code reads",
    )
    parser.add_argument(
        "--layout",
        choices=("ours", "published"),
        default="ours",
        help="ours: the keys of codeformer_core's modules (default); published: those that other programs read",
    )
    parser.add_argument(
        "--dtype",
        choices=("float16", "bfloat16", "float32"),
        help="precision of the weights in the file, 2 bytes a number or 4 (default: as they are)",
    )
    parser.add_argument(
        "--fidelity", type=number(0, 1), metavar="W", help="the fidelity to recommend (default: as the file says)"
    )
    parser.add_argument(
        "--task",
        choices=("restoration", "colorization", "inpainting", "autoencoder"),
        help="what the network was trained for (default: what its file says, if anything)",
    )


def run(args: argparse.Namespace) -> int:
    """Write the file.

    Raises UsageError, WeightsError for a source that can't be used, ValueError and OSError as `save_checkpoint` does.
    """
    # Here and not above: these bring torch, which --help doesn't need.
    import torch

    from ..models.checkpoints import open_checkpoint
    from ..models.saving import is_pickle, save_checkpoint

    output: Path = args.output
    try:
        is_pickle(output, args.layout)
    except ValueError as error:
        raise UsageError(str(error)) from error
    if output.exists():
        raise UsageError(f"{output} is there already; name another file with -o, or move it away")
    console = Console(sys.stdout, sys.stderr)
    with console.showing_logs(logging.getLogger(_PACKAGE)):
        source = _file_of(args.source)
        opened = open_checkpoint(source)
        found, metadata = opened.checkpoint, opened.metadata
        if args.task:
            found = dataclasses.replace(found, task=args.task, also=(), task_source="user")
        save_checkpoint(
            output,
            opened.state,
            found,
            layout=args.layout,
            dtype=getattr(torch, args.dtype) if args.dtype else None,
            trained=metadata.trained if metadata else None,
            fidelity=args.fidelity if args.fidelity is not None or metadata is None else metadata.fidelity,
        )
    size, sizes = output.stat().st_size, found.architecture.describe(found.config)
    layout = "our" if args.layout == "ours" else "published"
    console.line(f"{output}: {found.architecture} ({found.tasks_in_words}), {sizes}, {layout} layout, {size:,} bytes")
    return OK


def _file_of(source: str) -> Path:
    from ..models.loading import locate
    from ..weights.reading import WeightsError

    folder = Path(source)
    if not folder.is_dir():
        return locate(source)
    path = folder / WEIGHTS_NAME
    if not path.is_file():
        raise WeightsError(
            f"{folder} holds no {WEIGHTS_NAME}: it is not the folder of a training run, or the run has not saved yet. "
            "Name the run's folder, or a checkpoint file"
        )
    return path
