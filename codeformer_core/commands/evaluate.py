"""`python -m codeformer_core evaluate`: how good restored faces, or a trained network, are."""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from .console import Console
from .errors import OK, UsageError
from .values import device, number

if TYPE_CHECKING:
    import torch

    from ..degradation import Degradation
    from ..models.restorer import Restorer
    from ..networks.codeformer import CodeFormer
    from ..networks.vqgan import VQAutoencoder
    from ..training.data.files import FaceSource
    from ..training.evaluation.choose import Metrics
    from ..training.evaluation.results import Evaluation

_PACKAGE = __package__.partition(".")[0] if __package__ else "codeformer_core"
# What the results are called; here too, since the modules that write them load torch.
_REPORT_FILES = ("report.html", "summary.csv", "faces.csv", "codes.csv")
_ABLATION_FILES = ("ablation.csv", "ablation.png", "ablation.svg")
# Bytes; more than a full disk has left.
_TRIAL_SIZE = 2**16
_NO_DETECTOR = "none"
# What a network was trained for -> what it is measured with unless told otherwise: degradations, fidelities.
_USUAL = {
    "restoration": (("clean", "photo", "small", "large"), (0.0, 0.5, 1.0)),
    "colorization": (("colorization",), (0.0,)),
    "inpainting": (("inpainting",), (1.0,)),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give `parser` its arguments; `run` takes what it parsed."""
    verbs = parser.add_subparsers(dest="what", required=True, metavar="WHAT")

    folders = verbs.add_parser("folders", help="restored faces in a folder against the clean ones in another")
    folders.add_argument("restored", metavar="RESTORED", help="folder of restored faces")
    folders.add_argument("clean", metavar="CLEAN", help="folder of the clean faces, of the same names and sizes")
    _add_metrics(folders)
    _add_output(folders)

    model = verbs.add_parser("model", help="a network on faces that are degraded here")
    _add_network(model, teacher_needed=False)
    model.add_argument(
        "--degradation",
        nargs="+",
        metavar="NAME",
        help="default: by what the network was trained for (restoration: clean photo small large); of a run's folder "
        "also its own",
    )
    model.add_argument(
        "--task",
        choices=tuple(_USUAL),
        help="which of its tasks is measured, of a network that has several (default: what it was trained for first)",
    )
    model.add_argument(
        "--fidelity", nargs="+", type=number(0), metavar="W", help="default 0 0.5 1 (colorization 0, inpainting 1)"
    )
    model.add_argument(
        "--no-baseline",
        action="store_true",
        help="leave out the classical filters: bicubic enlarging with non-local means, which is slow, and unsharp mask",
    )
    _add_metrics(model)
    _add_output(model)

    ablation = verbs.add_parser(
        "ablation", help="the paper's ablation: transformer, convolutional head and nearest neighbour"
    )
    _add_network(ablation, teacher_needed=True)
    ablation.add_argument(
        "--train-faces", required=True, metavar="FACES", help="faces on which the convolutional head is trained"
    )
    ablation.add_argument("--head-steps", type=_whole(1), default=2000, metavar="N", help="default %(default)s")
    ablation.add_argument("--head-batch-size", type=_whole(1), default=8, metavar="N", help="default %(default)s")
    ablation.add_argument("--head-learning-rate", type=number(1e-8), default=1e-3, help="default %(default)s")
    _add_output(ablation)


def _add_network(parser: argparse.ArgumentParser, *, teacher_needed: bool) -> None:
    parser.add_argument("file", metavar="FILE", help="the network: a file, a run's folder, or a name as for restore")
    parser.add_argument("--faces", required=True, help="folder of aligned clean faces, or WebDataset shards")
    parser.add_argument("--manifest", metavar="CSV", help="take the rows of this file whose split is val")
    parser.add_argument(
        "--teacher",
        required=teacher_needed,
        metavar="FILE",
        help="the stage I autoencoder, a file or a run's folder, for the accuracy of codes",
    )
    parser.add_argument("--count", type=_whole(1), metavar="N", help="so many faces, evenly spread (default: all)")
    parser.add_argument("--seed", type=_whole(0), default=0, help="decides how faces are degraded (default 0)")


def _add_metrics(parser: argparse.ArgumentParser) -> None:
    files = parser.add_argument_group("files of metrics", "A metric whose file isn't given is skipped, and says so.")
    files.add_argument("--lpips-backbone", metavar="FILE", help="VGG16 in torchvision's layout, for LPIPS")
    files.add_argument("--inception", metavar="FILE", help="torch-fidelity's Inception v3, for FID")
    files.add_argument("--fid-reference", metavar="FILE", help="mu and sigma (.npz) instead of the clean faces' own")
    files.add_argument(
        "--niqe-parameters",
        metavar="FILE",
        help="another niqe_pris_params.npz than the package's own",
    )
    files.add_argument("--identity", metavar="FILE", help="an ArcFace-like network (.onnx)")
    files.add_argument(
        "--detector",
        default=_NO_DETECTOR,
        metavar="NAME|FILE",
        help="for the distance of landmarks, such as yunet (default %(default)s: not measured)",
    )
    parser.add_argument("--pictures", type=_whole(0), default=8, metavar="N", help="faces shown (default %(default)s)")


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", required=True, metavar="OUT", help="folder for tables and pictures")
    parser.add_argument("--overwrite", action="store_true", help="replace results that exist")
    parser.add_argument("--batch-size", type=_whole(1), default=4, metavar="N", help="default %(default)s")
    parser.add_argument("--device", type=device, default="auto", help="auto (default), cpu, cuda, cuda:N or mps")


def run(args: argparse.Namespace) -> int:
    """Carry out what `add_arguments` parsed; returns the exit code."""
    console = Console(sys.stdout, sys.stderr)
    _check_output(args)
    with console.showing_logs(logging.getLogger(_PACKAGE)):
        return {"folders": _folders, "model": _model, "ablation": _ablation}[args.what](args, console)


def _folders(args: argparse.Namespace, console: Console) -> int:
    from ..training.evaluation.folders import evaluate_folders, paired

    # Before metrics are loaded, which takes seconds.
    paired(Path(args.restored), Path(args.clean))
    chosen, metrics = _device(args), _metrics(args)
    evaluation = evaluate_folders(
        args.restored,
        args.clean,
        metrics,
        device=chosen,
        batch_size=args.batch_size,
        samples=args.pictures,
        on_progress=_shown_on(console),
    )
    facts = {"restored": args.restored, "clean": args.clean, "faces": str(len(evaluation.rows))}
    _finish(args, console, evaluation, "Restored faces", facts)
    return OK


def _model(args: argparse.Namespace, console: Console) -> int:
    from ..degradation import LEVELS, PRESETS
    from ..training.evaluation.classical import BASELINES
    from ..training.evaluation.evaluate import check_teacher, evaluate_model

    known = {**PRESETS, **LEVELS, **_own_degradations(args.file)}
    unknown = [name for name in args.degradation or () if name not in known]
    if unknown:
        raise UsageError(f"--degradation {unknown[0]}: there is no such degradation; known: {', '.join(known)}")
    restorer, network, teacher = _networks(args)
    if teacher is not None:
        check_teacher(network, teacher)
    task = args.task or restorer.task
    if task not in restorer.tasks:
        raise UsageError(
            f"--task {task}: {args.file} is a model for {' and '.join(restorer.tasks)}; choose one of these"
        )
    usual_degradations, usual_fidelities = _USUAL[task]
    if not network.config.fuse_sizes:
        usual_fidelities = (0.0,)
    names = args.degradation or usual_degradations
    faces = _faces(args.faces, args.manifest, network.config.image_size)
    started = time.monotonic()
    evaluation = evaluate_model(
        network,
        teacher,
        faces,
        {name: known[name] for name in names},
        args.fidelity or usual_fidelities,
        _metrics(args),
        task=task,
        seed=args.seed,
        device=restorer.device,
        batch_size=args.batch_size,
        count=args.count,
        samples=args.pictures,
        baselines=() if args.no_baseline else BASELINES,
        on_progress=_shown_on(console),
    )
    facts = {
        "network": f"{args.file} ({task}, {network.config.image_size} pixels)",
        "teacher": args.teacher or "none",
        "faces": f"{evaluation.means[0].faces} of {args.faces}",
        "seed": str(args.seed),
        "device": f"{restorer.device}, {time.monotonic() - started:.0f} s",
    }
    _finish(args, console, evaluation, f"Evaluation of {Path(args.file).name}", facts)
    return OK


def _ablation(args: argparse.Namespace, console: Console) -> int:
    from ..training.evaluation.ablation import HeadTraining, ablation_lines, run_ablation, write_ablation
    from ..training.evaluation.evaluate import check_teacher

    restorer, network, teacher = _networks(args)
    assert teacher is not None  # its option is required
    check_teacher(network, teacher)
    size = network.config.image_size
    ablation = run_ablation(
        network,
        teacher,
        _faces(args.train_faces, None, size),
        _faces(args.faces, args.manifest, size),
        HeadTraining(args.head_steps, args.head_batch_size, args.head_learning_rate),
        seed=args.seed,
        device=restorer.device,
        batch_size=args.batch_size,
        count=args.count,
        on_progress=_shown_on(console),
    )
    paths = write_ablation(ablation, args.output)
    for line in ablation_lines(ablation):
        console.line(line)
    console.line(f"{', '.join(path.name for path in paths)} in {args.output}")
    return OK


def _check_output(args: argparse.Namespace) -> None:
    """Before anything is loaded: a folder that can be written, whose results may not be lost unasked."""
    output = Path(args.output)
    if not args.output or (output.exists() and not output.is_dir()):
        raise UsageError(f"-o {args.output or chr(39) * 2}: name a folder for the results")
    for name in _ABLATION_FILES if args.what == "ablation" else _REPORT_FILES:
        result = output / name
        if result.is_dir():
            raise UsageError(f"{result}: is a folder, where a file will be written; name another folder")
        if result.exists() and not args.overwrite:
            raise UsageError(f"{result}: exists already; --overwrite replaces it, or name another folder")
    _try_to_write(output)


def _try_to_write(output: Path) -> None:
    """Hours before the results are there. What is made for it goes away again: the command may yet be refused."""
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


def _device(args: argparse.Namespace) -> torch.device:
    from .tools import choose_device

    return choose_device(args.device)


def _networks(args: argparse.Namespace) -> tuple[Restorer, CodeFormer, VQAutoencoder | None]:
    """The network and, where one is given, its teacher, both in float32 on the chosen device."""
    from ..models.loading import load_restorer
    from ..networks.codeformer import CodeFormer
    from ..networks.vqgan import VQAutoencoder

    chosen = _device(args)
    restorer = load_restorer(_weights_of(args.file), chosen)
    if isinstance(restorer.module, VQAutoencoder):
        raise UsageError(f"{args.file} is an autoencoder (stage I): give a trained CodeFormer, and this as --teacher")
    if not isinstance(restorer.module, CodeFormer):
        raise UsageError(
            f"{args.file} is of the kind {restorer.architecture}, and what is measured here are CodeFormers: give a "
            "trained one"
        )
    if args.teacher is None:
        return restorer, restorer.module, None
    teacher = load_restorer(_weights_of(args.teacher), chosen)
    if not isinstance(teacher.module, VQAutoencoder):
        raise UsageError(
            f"--teacher {args.teacher} is of the kind {teacher.architecture}: give the stage I autoencoder it was "
            "trained with"
        )
    return restorer, restorer.module, teacher.module


def _own_degradations(source: str) -> Mapping[str, Degradation]:
    """Those that the configuration of a run's folder brings along."""
    from ..training.config import read_config

    path = Path(source) / "config.json"
    return read_config(str(path)).degradations if path.is_file() else {}


def _weights_of(source: str) -> str | Path:
    """The weights in a run's folder; any other file or name as it is."""
    from ..training import WEIGHTS_NAME

    path = Path(source)
    if path.is_dir() and (path / WEIGHTS_NAME).is_file():
        return path / WEIGHTS_NAME
    # A bare word may mean a known network, whatever folder has the same name.
    if path.is_dir() and path.parent != Path():
        raise UsageError(f"{source}: this folder holds no {WEIGHTS_NAME}: name a finished run's folder, or a file")
    return source


def _faces(place: str, manifest: str | None, image_size: int) -> FaceSource:
    from ..training.data.config import DataConfig
    from ..training.data.sources import open_faces

    config = DataConfig.for_reading(place, manifest)
    # Without a manifest all faces of the folder are meant, whatever the split is called.
    return open_faces(config, "train" if manifest is None else "validation", image_size)


def _metrics(args: argparse.Namespace) -> Metrics:
    from ..models.loading import load_detector
    from ..training.evaluation.choose import MetricFiles, choose_metrics

    chosen = _device(args)
    files = MetricFiles(
        lpips_backbone=args.lpips_backbone,
        inception=args.inception,
        fid_reference=args.fid_reference,
        niqe_parameters=args.niqe_parameters,
        identity=args.identity,
    )
    detector = None if args.detector == _NO_DETECTOR else load_detector(args.detector, chosen)
    return choose_metrics(files, chosen, detector)


def _shown_on(console: Console):
    def on_progress(done: int, total: int, what: str) -> None:
        console.progress(done / max(total, 1), what)

    return on_progress


def _finish(
    args: argparse.Namespace, console: Console, evaluation: Evaluation, title: str, facts: dict[str, str]
) -> None:
    from ..training.evaluation.report import write_report
    from ..training.evaluation.tables import summary_lines

    paths = write_report(evaluation, args.output, title, facts)
    for line in summary_lines(evaluation):
        console.line(line)
    for metric in evaluation.skipped:
        console.line(f"{metric.name} {metric.reason}")
    console.line(f"{', '.join(path.name for path in paths)} in {args.output}")


def _whole(least: int):
    """A converter for argparse: a whole number of at least `least`."""

    def convert(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(f"expected a whole number of at least {least}, got {text!r}")
        return value

    return convert
