"""What is measured and where the results go: the arguments that all measuring programs share."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .console import Console
from .errors import UsageError
from .values import device, whole

if TYPE_CHECKING:
    from ..models.restorer import Restorer
    from ..networks.codeformer import CodeFormer
    from ..networks.vqgan import VQAutoencoder
    from ..training.data.files import FaceSource

# Bytes; more than a full disk has left.
_TRIAL_SIZE = 2**16


def add_network(parser: argparse.ArgumentParser, *, teacher_needed: bool | None) -> None:
    """What is measured, and on which faces.

    teacher_needed: None where a teacher has no use.
    """
    parser.add_argument("file", metavar="FILE", help="the network: a file, a run's folder, or a name as for restore")
    parser.add_argument("--faces", required=True, help="folder of aligned clean faces, or WebDataset shards")
    parser.add_argument("--manifest", metavar="CSV", help="take the rows of this file whose split is val")
    if teacher_needed is not None:
        parser.add_argument(
            "--teacher",
            required=teacher_needed,
            metavar="FILE",
            help="the stage I autoencoder, a file or a run's folder, for the accuracy of codes",
        )
    parser.add_argument("--count", type=whole(1), metavar="N", help="so many faces, evenly spread (default: all)")
    parser.add_argument("--seed", type=whole(0), default=0, help="decides how faces are degraded (default 0)")


def add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", required=True, metavar="OUT", help="folder for tables and images")
    parser.add_argument("--overwrite", action="store_true", help="replace results that exist")
    parser.add_argument("--batch-size", type=whole(1), default=4, metavar="N", help="default %(default)s")
    parser.add_argument("--device", type=device, default="auto", help="auto (default), cpu, cuda, cuda:N or mps")


def check_output(folder: str, files: Sequence[str], overwrite: bool) -> None:
    """Raise UsageError unless `folder` can be written, and holds none of `files` that may not be lost.

    Called before anything is loaded.
    """
    output = Path(folder)
    if not folder or (output.exists() and not output.is_dir()):
        raise UsageError(f"-o {folder or chr(39) * 2}: name a folder for the results")
    for name in files:
        result = output / name
        if result.is_dir():
            raise UsageError(f"{result}: is a folder, where a file will be written; name another folder")
        if result.exists() and not overwrite:
            raise UsageError(f"{result}: exists already; --overwrite replaces it, or name another folder")
    _try_to_write(output)


def _try_to_write(output: Path) -> None:
    """Fail now rather than hours later. What is made for it is removed again: the command may yet be refused."""
    made = [folder for folder in (output, *output.parents) if not folder.exists()]
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output) as stream:
            stream.write(bytes(_TRIAL_SIZE))
    except OSError as error:
        raise UsageError(f"-o {output}: can't be written to ({error.strerror}); name another folder") from error
    finally:
        for folder in made:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()


def load_networks(args: argparse.Namespace) -> tuple[Restorer, CodeFormer, VQAutoencoder | None]:
    """The CodeFormer and, where one is given, its teacher, both in float32 on the chosen device."""
    from ..models.loading import load_restorer
    from ..networks.codeformer import CodeFormer
    from ..networks.vqgan import VQAutoencoder
    from .tools import choose_device

    chosen = choose_device(args.device)
    restorer = load_measured(args)
    if not isinstance(restorer.module, CodeFormer):
        raise UsageError(
            f"{args.file} is of the kind {restorer.architecture}, and only a CodeFormer has the codes that are "
            "measured here: give a trained one"
        )
    if args.teacher is None:
        return restorer, restorer.module, None
    teacher = load_restorer(weights_of(args.teacher), chosen)
    if not isinstance(teacher.module, VQAutoencoder):
        raise UsageError(
            f"--teacher {args.teacher} is of the kind {teacher.architecture}: give the stage I autoencoder it was "
            "trained with"
        )
    return restorer, restorer.module, teacher.module


def load_measured(args: argparse.Namespace) -> Restorer:
    """The restorer that is measured, of any architecture, in float32 on the chosen device."""
    from ..models.loading import load_restorer
    from .tools import choose_device

    restorer = load_restorer(weights_of(args.file), choose_device(args.device))
    if not restorer.kind.restores_faces:
        raise UsageError(
            f"{args.file} is a {restorer.kind.title}: give a model that restores faces, and this as --teacher"
        )
    return restorer


def weights_of(source: str) -> str | Path:
    """The weights in a run's folder; any other file or name as it is."""
    from ..training import WEIGHTS_NAME

    path = Path(source)
    if path.is_dir() and (path / WEIGHTS_NAME).is_file():
        return path / WEIGHTS_NAME
    # A bare word may mean a known network, whatever folder has the same name.
    if path.is_dir() and path.parent != Path():
        raise UsageError(f"{source}: this folder holds no {WEIGHTS_NAME}: name a finished run's folder, or a file")
    return source


def read_faces(place: str, manifest: str | None, image_size: int) -> FaceSource:
    from ..training.data.config import DataConfig
    from ..training.data.sources import open_faces

    config = DataConfig.for_reading(place, manifest)
    # Without a manifest all faces of the folder are meant, whatever the split is called.
    return open_faces(config, "train" if manifest is None else "validation", image_size)


def shown_on(console: Console) -> Callable[[int, int, str], None]:
    """Progress as measuring programs report it, on the console's bar."""

    def on_progress(done: int, total: int, what: str) -> None:
        console.progress(done / max(total, 1), what)

    return on_progress
