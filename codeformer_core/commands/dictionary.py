"""`python -m codeformer_core dictionary build | use | join`: DFDNet's dictionaries, your own and the published."""

from __future__ import annotations

import argparse
import logging
import shutil
import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .console import Console
from .errors import OK, UsageError
from .reports import add_language, lines_of
from .values import device

if TYPE_CHECKING:
    from torch import Tensor

_SUFFIX = ".safetensors"
_PACKAGE = __package__.partition(".")[0] if __package__ else "codeformer_core"
# Beside the output: what an interrupted build continues with.
_WORK_ENDING = ".part"
# And what keeps a second build from working there.
_LOCK_ENDING = ".lock"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give `parser` the three verbs; `run` takes what it parsed."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="build|use|join")

    build = verbs.add_parser("build", help="aligned faces -> a dictionary, and an image of what is in it")
    build.add_argument("faces", type=Path, metavar="FACES", help="a folder of aligned faces, as `train align` makes")
    _add_output(build, "my.safetensors: the dictionary; my.png beside it shows the faces its atoms are nearest to")
    build.add_argument(
        "--model",
        required=True,
        metavar="FILE",
        help="DFDNet, whose VGG19 measures the faces; the published network without a dictionary will do",
    )
    build.add_argument(
        "-k",
        "--atoms",
        type=int,
        default=512,
        metavar="K",
        help="atoms of each part at each scale; the published dictionaries have %(default)s (default)",
    )
    build.add_argument("--seed", type=int, default=0, help="which faces clustering begins with (default %(default)s)")
    build.add_argument(
        "--passes", type=int, default=10, metavar="N", help="how often every face is clustered (default %(default)s)"
    )
    build.add_argument("--device", type=device, default="auto", help="auto (default), cpu, cuda, cuda:N or mps")

    add_language(build)

    use = verbs.add_parser("use", help="a DFDNet with another dictionary -> a file for `restore` and the nodes")
    use.add_argument("dictionary", type=Path, metavar="DICTIONARY", help="what `build` wrote, or the published folder")
    use.add_argument("--model", required=True, metavar="FILE", help="a whole DFDNet")
    _add_output(use, "the DFDNet with this dictionary, in our own names")

    join = verbs.add_parser("join", help="the published network, VGG19 and dictionaries -> one file")
    join.add_argument("network", type=Path, metavar="NETWORK", help="latest_net_G.pth")
    join.add_argument("--vgg", type=Path, metavar="FILE", help="vgg19.pth; not needed where the network has its own")
    join.add_argument(
        "--dictionary",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="DictionaryCenter512 with its 16 .npy files, or what `build` wrote",
    )
    _add_output(join, "the whole DFDNet, in our own names")


def _add_output(parser: argparse.ArgumentParser, explanation: str) -> None:
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help=explanation)
    parser.add_argument("--overwrite", action="store_true", help="replace a file that exists")


def run(args: argparse.Namespace) -> int:
    """Carry out what `add_arguments` parsed; returns the exit code."""
    output: Path = args.output
    if output.suffix.lower() != _SUFFIX:
        raise UsageError(f"-o {output}: only safetensors are written; end the name in {_SUFFIX}")
    written = [output, output.with_suffix(".png")] if args.verb == "build" else [output]
    for path in written:
        if path.is_dir() or (path.exists() and not args.overwrite):
            fix = "name another file with -o" if path.is_dir() else "--overwrite replaces it, or name another with -o"
            raise UsageError(f"{path} is there already; {fix}")
    _refuse_inputs(args, written)
    console = Console(sys.stdout, sys.stderr)
    with console.showing_logs(logging.getLogger(_PACKAGE)):
        {"build": _build, "use": _use, "join": _join}[args.verb](args, console)
    return OK


def _refuse_inputs(args: argparse.Namespace, written: list[Path]) -> None:
    """--overwrite is for results, not for what they are made of."""
    given = [Path(value) for name in ("model", "dictionary", "network", "vgg") if (value := getattr(args, name, None))]
    for path in written:
        if path.exists() and any(source.is_file() and source.samefile(path) for source in given):
            raise UsageError(f"{path} is read by this command and would be lost; name another file with -o")
    if args.verb == "build" and args.output.resolve().is_relative_to(args.faces.resolve()):
        raise UsageError(
            f"-o {args.output} lies among the faces in {args.faces}, where its image would be one more of them; name "
            "a file outside of it"
        )


@contextmanager
def _alone(output: Path) -> Generator[None]:
    """Of two builds into one file each would add its faces to the other's."""
    from ..runtime.lock import locked

    def refuse() -> None:
        raise ValueError(f"{output} is being built by another command. Wait for it, or name another file with -o")

    with ExitStack() as held:
        try:
            output.parent.mkdir(parents=True, exist_ok=True)
            held.enter_context(locked(output.with_name(output.name + _LOCK_ENDING), refuse))
        except OSError as error:
            reason = f"can't be written to ({error.strerror}). Name a file in another folder with -o"
            raise OSError(error.errno, reason, str(output.parent)) from error
        yield


def _build(args: argparse.Namespace, console: Console) -> None:
    # Here and not above: these bring torch, which --help and typing errors need not wait for.
    from ..dictionary.build import build_dictionary, write_dictionary
    from ..dictionary.clusters import require_scikit_learn
    from ..dictionary.extractor import from_state
    from ..dictionary.faces import FolderFaces
    from ..dictionary.options import DictionaryOptions
    from ..dictionary.sheet import draw_sheet
    from ..imaging.files import Picture, write_image
    from ..models.loading import locate
    from ..weights.reading import read_state_dict
    from .tools import choose_device

    require_scikit_learn()
    try:
        options, faces = DictionaryOptions(args.atoms, args.seed, args.passes), FolderFaces.listed(args.faces)
        options.check_faces(len(faces.names))
    except ValueError as error:
        raise UsageError(str(error)) from error
    model = locate(args.model)
    extractor = from_state(read_state_dict(model), str(model), choose_device(args.device))
    output: Path = args.output
    work = output.with_name(output.name + _WORK_ENDING)
    with _alone(output):
        try:
            built = build_dictionary(
                faces,
                extractor,
                options,
                work,
                lambda stage, done, total: console.progress(done / total, f"{stage} {done}/{total}"),
            )
            write_dictionary(built, output)
            sheet_HW3 = draw_sheet(faces, extractor, built.nearest)
            write_image(output.with_suffix(".png"), Picture(sheet_HW3), overwrite=True)
        except KeyboardInterrupt:
            console.complain(f"note: what was done is kept in {work}; the same command continues from there")
            raise
        events = built.events(extractor.config.image_size)
        # Its files are mapped into memory as long as this is there, which some systems don't delete.
        del built
        shutil.rmtree(work, ignore_errors=True)
    console.line(f"{output}: {options.atoms} atoms of each part and scale, {output.stat().st_size:,} bytes")
    console.line(f"{output.with_suffix('.png')}: the faces that they are nearest to")
    for line in lines_of(events, args):
        console.line(line)


def _use(args: argparse.Namespace, console: Console) -> None:
    from ..models.dfdnet.dictionary import read_dictionary
    from ..models.dfdnet.weights import with_dictionary
    from ..models.loading import locate
    from ..weights.reading import WeightsError, read_state_dict

    dictionary = read_dictionary(args.dictionary)
    model = locate(args.model)
    try:
        state = with_dictionary(read_state_dict(model), dictionary)
    except WeightsError as error:
        raise WeightsError(f"{model} with {args.dictionary}: {error}") from error
    _write(state, _origin_of(args.dictionary), args.output, console)


def _join(args: argparse.Namespace, console: Console) -> None:
    from ..models.dfdnet.dictionary import read_dictionary
    from ..models.dfdnet.weights import from_published, join, read_config
    from ..weights.reading import WeightsError, read_state_dict

    dictionary = read_dictionary(args.dictionary)
    network = read_state_dict(args.network)
    vgg = read_state_dict(args.vgg) if args.vgg else None
    try:
        joined = join(network, vgg, dictionary)
        state = from_published(joined, read_config(joined))
    except WeightsError as error:
        pieces = ", ".join(str(path) for path in (args.network, args.vgg, args.dictionary) if path)
        raise WeightsError(f"{pieces}: {error}") from error
    _write(state, _origin_of(args.dictionary), args.output, console)


def _origin_of(dictionary: Path) -> dict[str, str]:
    """What a dictionary that was built here says of itself goes along."""
    from ..dictionary.build import ENTRY
    from ..runtime.foreign import is_object
    from ..weights.safetensors_cache import read_header

    metadata = (read_header(dictionary) or {}).get("__metadata__") if dictionary.is_file() else None
    entry = metadata.get(ENTRY) if is_object(metadata) else None
    return {ENTRY: entry} if isinstance(entry, str) else {}


def _write(state: dict[str, Tensor], metadata: dict[str, str], output: Path, console: Console) -> None:
    """In our own names: without what the published ones keep for training, smaller and loaded faster."""
    from ..models.dfdnet.weights import read_config
    from ..weights.safetensors_cache import write_safetensors

    output.parent.mkdir(parents=True, exist_ok=True)
    write_safetensors(state, output, {"layout": "ours", **metadata})
    atoms = read_config(state).atoms
    console.line(
        f"{output}: DFDNet with {atoms} atoms of each part and scale, our names, {output.stat().st_size:,} bytes"
    )
