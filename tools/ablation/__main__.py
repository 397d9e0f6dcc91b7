"""`python -m tools.ablation FILE`: the paper's ablation, of a trained network and its teacher."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from codeformer_core.cli import run_program
from codeformer_core.commands.console import Console
from codeformer_core.commands.errors import OK
from codeformer_core.commands.measured import (
    add_network,
    add_output,
    check_output,
    load_networks,
    read_faces,
    shown_on,
)
from codeformer_core.commands.values import number, whole
from codeformer_core.training.evaluation.evaluate import check_teacher

from .comparison import HeadTraining, run_ablation
from .results import PLOT_PNG, PLOT_SVG, TABLE, ablation_lines, write_ablation

_DESCRIPTION = "Compare the transformer with a convolutional head and the nearest neighbour, as the paper does."


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code; `argv` without the program's name, default sys.argv."""
    return run_program("python -m tools.ablation", _DESCRIPTION, add_arguments, run, argv)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_network(parser, teacher_needed=True)
    parser.add_argument(
        "--train-faces", required=True, metavar="FACES", help="faces on which the convolutional head is trained"
    )
    parser.add_argument("--head-steps", type=whole(1), default=2000, metavar="N", help="default %(default)s")
    parser.add_argument("--head-batch-size", type=whole(1), default=8, metavar="N", help="default %(default)s")
    parser.add_argument("--head-learning-rate", type=number(1e-8), default=1e-3, help="default %(default)s")
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Measure, write the files, print the table; returns the exit code."""
    console = Console(sys.stdout, sys.stderr)
    check_output(args.output, (TABLE, PLOT_PNG, PLOT_SVG), args.overwrite)
    with console.showing_logs(logging.getLogger("codeformer_core")), console.showing_logs(logging.getLogger("tools")):
        restorer, network, teacher = load_networks(args)
        assert teacher is not None  # its option is required
        check_teacher(network, teacher)
        size = network.config.image_size
        ablation = run_ablation(
            network,
            teacher,
            read_faces(args.train_faces, None, size),
            read_faces(args.faces, args.manifest, size),
            HeadTraining(args.head_steps, args.head_batch_size, args.head_learning_rate),
            seed=args.seed,
            device=restorer.device,
            batch_size=args.batch_size,
            count=args.count,
            on_progress=shown_on(console),
        )
        paths = write_ablation(ablation, args.output)
    for line in ablation_lines(ablation):
        console.line(line)
    console.line(f"{', '.join(path.name for path in paths)} in {args.output}")
    return OK


if __name__ == "__main__":
    sys.exit(main())
