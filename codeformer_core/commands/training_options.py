"""The options that all training steps share, and the configuration they make."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from .errors import UsageError
from .values import device

if TYPE_CHECKING:
    from ..training.config import RunConfig


def add_configuration(parser: argparse.ArgumentParser, *, faces: bool = True) -> None:
    """Add the options of a training's configuration.

    faces: add --faces; `train all` takes them as its argument.
    """
    if faces:
        parser.add_argument(
            "--faces", metavar="PLACE", help="aligned faces: a folder, one .tar or a pattern like faces-*.tar"
        )
    parser.add_argument("--validation", metavar="PLACE", help="faces to measure with, of people not in --faces")
    parser.add_argument(
        "--manifest", metavar="CSV", help="a list that says train or val for each face, as `train align` writes"
    )
    parser.add_argument(
        "--config",
        metavar="NAME|FILE",
        help="small (default on a GPU: 8 million parameters), starter (a CPU's), published (the official sizes and "
        "schedules), paper, refine (a finished model's fusion and pixel path), smoke (a minute or two a stage on a "
        "CPU), or a YAML or JSON file that begins from one of them",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="changes",
        help="change one value, such as stages.stage1.batch_size=8; may be given often",
    )
    parser.add_argument(
        "--device", type=device, help="auto, cpu, cuda, cuda:N or mps (default: the configuration's, auto)"
    )


def read_configuration(args: argparse.Namespace, lpips_backbone: str | None = None) -> RunConfig:
    """The configuration with what the command line says on top. Raises UsageError when no faces are named."""
    from ..training.config import read_config

    named = {"faces": args.faces, "validation": args.validation, "manifest": args.manifest}
    sections: dict[str, Any] = {"data": {key: value for key, value in named.items() if value is not None}}
    if args.device is not None:
        sections["engine"] = {"device": args.device}
    if lpips_backbone is not None:
        sections["lpips_backbone"] = lpips_backbone
    config = read_config(args.config or "small", args.changes, sections)
    if not config.data.faces and not config.data.manifest:
        raise UsageError("--faces is missing: name the folder of aligned faces (`train align` makes one)")
    return config
