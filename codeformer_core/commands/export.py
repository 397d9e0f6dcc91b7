"""`codeformer train export RUN_OR_FILE -o OUT`: a trained network as a file for the nodes or for other programs."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..training import WEIGHTS_NAME
from .console import Console
from .errors import OK, UsageError
from .values import number

if TYPE_CHECKING:
    from ..models.codeformer.identify import Identity

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
        help="what the network was trained for (default: as its file says, or else as its sizes tell)",
    )


def run(args: argparse.Namespace) -> int:
    """Write the file. Raises UsageError, WeightsError for a source that is no use, ValueError and OSError as
    `save_network` does."""
    # Here and not above: these bring torch, which --help doesn't need.
    import torch

    from ..models.codeformer.convert import from_published
    from ..models.codeformer.identify import identify
    from ..models.codeformer.save import is_pickle, save_network
    from ..weights.reading import read_metadata, read_state_dict

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
        state, said = read_state_dict(source, keep_safetensors=False), read_metadata(source)
        identity = identify(state, str(source), said)
        ours = from_published(state, identity.config) if identity.layout == "published" else state
        save_network(
            output,
            ours,
            identity.config,
            args.task or identity.task,
            layout=args.layout,
            dtype=getattr(torch, args.dtype) if args.dtype else None,
            trained=said.trained if said else None,
            also=() if args.task else identity.also,
            fidelity=args.fidelity if args.fidelity is not None or said is None else said.fidelity,
        )
    tasks = args.task or ", ".join((identity.task, *identity.also))
    size = output.stat().st_size
    layout = "our" if args.layout == "ours" else "published"
    console.line(f"{output}: {identity.architecture} ({tasks}), {_sizes(identity)}, {layout} layout, {size:,} bytes")
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
            f"{folder} holds no {WEIGHTS_NAME}: it is no folder of a training run, or the run has not saved yet. "
            "Name the run's folder, or a checkpoint file"
        )
    return path


def _sizes(identity: Identity) -> str:
    from ..networks.codeformer import CodeFormerConfig

    if isinstance(identity.config, CodeFormerConfig):
        return f"{identity.config.autoencoder.image_size} pixels, {identity.config.heads} heads"
    return f"{identity.config.image_size} pixels"
