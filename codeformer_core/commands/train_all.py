"""`codeformer train all FACES -o RUN --minutes N`: the best model that fits the time, from photos to a model card."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..training.engine.stopping import StopRequest
from . import align
from .console import Console
from .errors import OK, Stopped, UsageError
from .train_stage import Watch
from .training_options import add_configuration, read_configuration
from .values import number

if TYPE_CHECKING:
    from ..training.config import RunConfig
    from ..training.engine.trainer import Progress

_PACKAGE = __package__.partition(".")[0] if __package__ else "codeformer_core"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give `parser` its arguments; `run` takes what it parsed."""
    parser.description = (
        "Aligns photos where needed, measures the speed, divides the time over all stages, trains, exports, evaluates "
        "and writes a model card. The same command again continues where it was stopped or killed."
    )
    parser.add_argument(
        "place",
        metavar="FACES",
        help="a folder of photos, or of aligned faces, split by folders train/ and val/, by a manifest.csv with a "
        "column split, or else here",
    )
    parser.add_argument("-o", "--output", required=True, metavar="RUN", help="folder of this run")
    parser.add_argument(
        "--minutes", required=True, type=number(0), metavar="N", help="for everything, on this machine (600: ten hours)"
    )
    add_configuration(parser, faces=False)
    parser.add_argument("--lpips-backbone", metavar="FILE", help="VGG16's weights, for LPIPS as the perceptual loss")


def run(args: argparse.Namespace) -> int:
    """Returns the exit code: 128 and the signal's number when it was stopped, with everything saved."""
    if not args.output:
        raise UsageError("-o is given an empty name: name a folder for this run")
    if args.minutes == 0:
        raise UsageError("--minutes 0: give the time for everything, such as 600")
    console = Console(sys.stdout, sys.stderr)
    logger = logging.getLogger(_PACKAGE)
    with console.showing_logs(logger, logging.INFO):
        # An exception raised in the middle of torch's imports can get lost in them.
        with StopRequest() as early:
            from ..training.all_stages import train_all
            from ..training.engine.processes import joined
        if early.number is not None:
            raise Stopped(early.number)
        watches: dict[str, Watch] = {}

        def show(part: str, progress: Progress) -> None:
            watches.setdefault(part, Watch(console, part)).show(progress)

        try:
            config = _configuration(args)
            with joined(config.engine.device) as processes:
                if not processes.is_first:
                    logger.setLevel(logging.ERROR)
                whole = train_all(
                    config,
                    Path(args.output),
                    args.minutes,
                    processes,
                    show if processes.is_first else lambda part, progress: None,
                    lambda done, total, text: console.progress(done / max(total, 1), f"evaluation: {text}"),
                )
        except KeyboardInterrupt:  # while aligning, measuring or evaluating; stages save and say so
            console.complain("note: the same command continues")
            raise
    if whole.stopped_by is not None:
        if processes.is_first:
            by = signal.Signals(whole.stopped_by).name
            console.line(f"stopped by {by}, saved; the same command continues")
        return 128 + whole.stopped_by
    if processes.is_first:
        console.line(f"{whole.weights}; {whole.card} says how good it is")
    return OK


def _configuration(args: argparse.Namespace) -> RunConfig:
    """With the faces found in the folder, aligned first where it holds photos. What doesn't fit is said before."""
    from ..training.all_stages import MADE
    from ..training.data.shards import names_shards
    from ..training.data.splitting import FacePlace, look_at
    from ..training.folder import check_whole_folder
    from ..training.plan import PLAN_NAME, check_parts

    named = args.config or _usual_preset(args.device)
    args.config = named
    args.faces = args.place  # as long as nobody has looked
    config = read_configuration(args, args.lpips_backbone)
    check_parts(config)
    run = Path(args.output)
    check_whole_folder(run, Path(args.place), MADE, PLAN_NAME)
    if args.validation is not None or args.manifest is not None or names_shards(args.place):
        return config
    size = config.network.image_size
    place = look_at(Path(args.place), size, run)
    if not place.has_faces:
        place = FacePlace(manifest=str(_aligned(args.place, run / "faces", size)))
    # Places that the configuration names are another run's.
    data = dataclasses.replace(
        config.data, faces=place.faces or "", validation=place.validation, manifest=place.manifest, split_column="split"
    )
    return dataclasses.replace(config, data=data)


def _usual_preset(device: str | None) -> str:
    import torch

    has_gpu = torch.cuda.is_available() if device in (None, "auto") else device.startswith("cuda")
    return "small" if has_gpu else "starter"


def _aligned(photos: str, folder: Path, size: int) -> Path:
    """Photos -> faces, continuing what was begun; the manifest."""
    from ..training.data.splitting import MANIFEST_NAME

    if os.environ.get("WORLD_SIZE", "1") not in ("", "1"):
        raise UsageError(
            f"{photos}: these are photos, and several processes can't align them. Run `codeformer train align {photos} "
            "-o FACES` first, then torchrun with FACES"
        )
    parser = argparse.ArgumentParser()
    align.add_arguments(parser)
    code = align.run(parser.parse_args([photos, "-o", str(folder), "--size", str(max(size, 64))]))
    if code != OK:
        raise ValueError(f"{photos}: no face was kept; {folder / 'rejected.csv'} says why")
    return folder / MANIFEST_NAME
