"""`python -m codeformer_core train STEP`: from photos to a file that the nodes load, step by step."""

from __future__ import annotations

import argparse
import importlib
from types import ModuleType

# step -> (module with add_arguments(parser) and run(args), what it does)
_STEPS = {
    "all": (".train_all", "everything: align, all stages, export, evaluation, in the time that is given"),
    "align": (".align", "photos -> aligned faces with a manifest"),
    "stage1": (".train_stage", "stage I: the autoencoder with its codebook, from clean faces"),
    "codes": (".train_codes", "the faces' codes, computed once by stage I (optional)"),
    "stage2": (".train_stage", "stage II: codes from degraded faces"),
    "stage3": (".train_stage", "stage III: the controllable fusion"),
    "colorization": (".train_stage", "stage II's variant for gray and faded faces"),
    "inpainting": (".train_stage", "stage III's variant for faces with holes"),
    "export": (".export", "a run's weights in our layout or the published one"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give `parser` a sub-parser for each step; `run` takes what it parsed."""
    parser.epilog = (
        "One by one, in this order: align, stage1, (codes,) stage2, stage3, export. On several GPUs: "
        "torchrun --standalone --nproc-per-node N -m codeformer_core train ..."
    )
    steps = parser.add_subparsers(dest="step", required=True, metavar="STEP")
    for name, (module, description) in _STEPS.items():
        step = steps.add_parser(name, help=description, description=description)
        _load(module).add_arguments(step)


def run(args: argparse.Namespace) -> int:
    """Carry out what `add_arguments` parsed; returns the exit code."""
    return _load(_STEPS[args.step][0]).run(args)


def _load(module: str) -> ModuleType:
    return importlib.import_module(module, __package__)
