"""`train codes`: what stage I makes of every training face, kept in a file."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

from .console import Console
from .errors import OK, UsageError
from .training_options import add_configuration, read_configuration

if TYPE_CHECKING:
    from torch import Tensor


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give `parser` its arguments; `run` takes what it parsed."""
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="X.safetensors")
    add_configuration(parser)
    parser.add_argument("--teacher", type=Path, required=True, metavar="RUN|FILE", help="the trained stage I")
    parser.add_argument("--batch-size", type=int, default=8, metavar="N", help="faces at a time (default %(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="replace a file that exists")


def run(args: argparse.Namespace) -> int:
    if args.output.suffix != ".safetensors":
        raise UsageError(f"-o {args.output}: the codes are kept as safetensors; end the name in .safetensors")
    if args.output.exists() and not args.overwrite:
        raise UsageError(f"{args.output}: exists already; --overwrite replaces it")
    if args.batch_size < 1:
        raise UsageError(f"--batch-size {args.batch_size}: at least 1")
    config = read_configuration(args)
    from ..training.data.sources import open_faces
    from ..training.engine.processes import joined
    from ..training.latent_codes import compute_codes, holds_codes, write_codes
    from ..training.networks import read_teacher

    if args.output.exists() and not holds_codes(args.output):
        raise UsageError(f"{args.output}: this file holds no codes, so it is not replaced; name another one")
    console = Console(sys.stdout, sys.stderr)
    with joined(config.engine.device) as processes, console.showing_logs(logging.getLogger("codeformer_core")):
        if processes.count > 1:
            raise UsageError("train codes runs in one process: start it without torchrun")
        teacher = read_teacher(args.teacher, config.network.autoencoder())
        source = open_faces(config.data, "train", config.network.image_size)
        codes_N2T = compute_codes(
            teacher,
            source,
            processes.device,
            args.batch_size,
            lambda done, count: console.progress(done / count, f"codes {done}/{count} faces"),
        )
        args.output.parent.mkdir(parents=True, exist_ok=True)
        write_codes(args.output, codes_N2T, teacher.cpu(), source)
    used = len(cast("Tensor", codes_N2T.unique()))
    size = teacher.config.codebook_size
    console.line(f"{args.output}: codes of {len(source)} faces, plain and mirrored; {used} of {size} codes are used")
    return OK
