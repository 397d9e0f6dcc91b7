"""`codeformer weights export NAME_OR_FILE --onnx OUT.onnx`: a CodeFormer for programs without torch."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give `parser` the arguments; `run` takes what it parsed."""
    parser.add_argument("source", metavar="NAME_OR_FILE", help="a CodeFormer: a name that `list` shows, or a file")
    parser.add_argument("--onnx", type=Path, required=True, metavar="OUT.onnx", help="the file to write")
    parser.add_argument(
        "--task",
        choices=("restoration", "colorization", "inpainting"),
        help="what the network was trained for, where its file doesn't say",
    )


def run(args: argparse.Namespace) -> str:
    """Write the file; returns a line about it.

    Raises WeightsError, ValueError, ImportError and OSError as `load_restorer` and `export_onnx`, ValueError for an
    output that exists or has another ending.
    """
    output: Path = args.onnx
    if output.suffix.lower() != ".onnx":
        raise ValueError(f"{output}: choose a name that ends in .onnx")
    if output.exists():
        raise ValueError(f"{output} is there already; name another file with --onnx, or move it away")
    from ..models.loading import load_restorer
    from ..models.onnx_export import OPSET, export_onnx

    restorer = load_restorer(args.source, task=args.task)
    export_onnx(restorer, output)
    size, side = output.stat().st_size, restorer.face_size
    inputs = f"faces (batch, 3, {side}, {side}), RGB in [-1, 1]; fidelity (1,), 0 to 1"
    return f"{output}: {restorer.name} ({', '.join(restorer.tasks)}), inputs {inputs}; opset {OPSET}, {size:,} bytes"
