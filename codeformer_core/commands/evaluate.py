"""`python -m codeformer_core evaluate`: how good restored faces, or a trained network, are."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from .console import Console
from .errors import OK, UsageError
from .measured import (
    add_network,
    add_output,
    check_output,
    load_measured,
    load_networks,
    read_faces,
    shown_on,
    weights_of,
)
from .values import number, whole

if TYPE_CHECKING:
    from ..degradation import Degradation
    from ..models.restorer import Restorer
    from ..networks.codeformer import CodeFormer
    from ..networks.vqgan import VQAutoencoder
    from ..training.data.files import FaceSource
    from ..training.evaluation.choose import Metrics
    from ..training.evaluation.results import Evaluation

_PACKAGE = __package__.partition(".")[0] if __package__ else "codeformer_core"
# What the results are called; here too, since the modules that write them load torch.
_REPORT_FILES = ("report.html", "summary.csv", "faces.csv", "codes.csv", "groups.csv")
_NO_DETECTOR = "none"
# What a network was trained for -> what it is measured with unless told otherwise: degradations, fidelities.
_USUAL = {
    "restoration": (("clean", "photo", "small", "large"), (0.0, 0.5, 1.0)),
    "colorization": (("colorization",), (0.0,)),
    "inpainting": (("inpainting",), (1.0,)),
}
# Verb -> its help, the task.
_PAINTED = {
    "colorize": ("a model on gray faces, beside gray and one skin tone", "colorization"),
    "inpaint": ("a model on faces with holes, beside OpenCV's two ways to fill them", "inpainting"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give `parser` its arguments; `run` takes what it parsed."""
    verbs = parser.add_subparsers(dest="what", required=True, metavar="WHAT")

    folders = verbs.add_parser("folders", help="restored faces in a folder against the clean ones in another")
    folders.add_argument("restored", metavar="RESTORED", help="folder of restored faces")
    folders.add_argument("clean", metavar="CLEAN", help="folder of the clean faces, of the same names and sizes")
    _add_metrics(folders)
    add_output(folders)

    model = verbs.add_parser("model", help="a network on faces that are degraded here")
    add_network(model, teacher_needed=False)
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
    _add_groups(model)
    _add_metrics(model)
    add_output(model)

    for verb, (about, _) in _PAINTED.items():
        painted = verbs.add_parser(verb, help=about)
        add_network(painted, teacher_needed=None)
        _add_groups(painted)
        _add_metrics(painted)
        add_output(painted)


def _add_groups(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--groups",
        metavar="CSV",
        help="groups of people (columns face and group): means are also reported for each group of at least 20 faces "
        "(default: by skin tone)",
    )


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
    parser.add_argument("--pictures", type=whole(0), default=8, metavar="N", help="faces shown (default %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Carry out what `add_arguments` parsed; returns the exit code."""
    console = Console(sys.stdout, sys.stderr)
    check_output(args.output, _REPORT_FILES, args.overwrite)
    with console.showing_logs(logging.getLogger(_PACKAGE)):
        verbs = {"folders": _folders, "model": _model, **dict.fromkeys(_PAINTED, _painted)}
        return verbs[args.what](args, console)


def _folders(args: argparse.Namespace, console: Console) -> int:
    from ..training.evaluation.folders import evaluate_folders, paired
    from .tools import choose_device

    # Before metrics are loaded, which takes seconds.
    paired(Path(args.restored), Path(args.clean))
    metrics = _metrics(args)
    evaluation = evaluate_folders(
        args.restored,
        args.clean,
        metrics,
        device=choose_device(args.device),
        batch_size=args.batch_size,
        samples=args.pictures,
        on_progress=shown_on(console),
    )
    facts = {"restored": args.restored, "clean": args.clean, "faces": str(len(evaluation.rows))}
    _finish(args, console, evaluation, "Restored faces", facts)
    return OK


def _model(args: argparse.Namespace, console: Console) -> int:
    from ..degradation import LEVELS, PRESETS
    from ..training.evaluation.classical import BASELINES
    from ..training.evaluation.evaluate import evaluate_model

    known = {**PRESETS, **LEVELS, **_own_degradations(args.file)}
    unknown = [name for name in args.degradation or () if name not in known]
    if unknown:
        raise UsageError(f"--degradation {unknown[0]}: there is no such degradation; known: {', '.join(known)}")
    listed = _listed_groups(args)
    restorer, network, teacher = _measured(args)
    task = args.task or restorer.task
    if task not in restorer.tasks:
        raise UsageError(
            f"--task {task}: {args.file} is a model for {' and '.join(restorer.tasks)}; choose one of these"
        )
    usual_degradations, usual_fidelities = _USUAL[task]
    if not _has_fidelities(restorer):
        usual_fidelities = (0.0,)
    names = args.degradation or usual_degradations
    faces = read_faces(args.faces, args.manifest, restorer.face_size)
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
        on_progress=shown_on(console),
    )
    facts = {
        "network": f"{args.file} ({task}, {restorer.face_size} pixels)",
        "teacher": args.teacher or "none",
        "faces": f"{evaluation.means[0].faces} of {args.faces}",
        "seed": str(args.seed),
        "device": f"{restorer.device}, {time.monotonic() - started:.0f} s",
    }
    evaluation = _with_people(evaluation, faces, listed, args.count)
    _finish(args, console, evaluation, f"Evaluation of {Path(args.file).name}", facts)
    return OK


def _measured(args: argparse.Namespace) -> tuple[Restorer, CodeFormer | Restorer, VQAutoencoder | None]:
    """The restorer, what of it is measured, and its teacher: the network itself where it is a CodeFormer."""
    from ..networks.codeformer import CodeFormer
    from ..training.evaluation.evaluate import check_teacher

    if args.teacher is None:
        restorer = load_measured(args)
        if not isinstance(restorer.module, CodeFormer) and restorer.task != "restoration":
            verb = {task: verb for verb, (_, task) in _PAINTED.items()}[restorer.task]
            raise UsageError(f"{args.file} is a model for {restorer.task}: measure it with `evaluate {verb}`")
        return restorer, restorer.module if isinstance(restorer.module, CodeFormer) else restorer, None
    restorer, network, teacher = load_networks(args)
    if teacher is not None:
        check_teacher(network, teacher)
    return restorer, network, teacher


def _has_fidelities(restorer: Restorer) -> bool:
    """A CodeFormer of stage II has nothing that fidelity would weigh."""
    return restorer.uses_fidelity and bool(getattr(restorer.module.config, "fuse_sizes", True))


def _painted(args: argparse.Namespace, console: Console) -> int:
    from ..models.loading import load_restorer
    from ..models.restorer import check_task
    from ..training.evaluation.painted import evaluate_colorization, evaluate_inpainting
    from .tools import choose_device

    task, listed = _PAINTED[args.what][1], _listed_groups(args)
    restorer = load_restorer(weights_of(args.file), choose_device(args.device), task=task)
    check_task(restorer, task)
    started = time.monotonic()
    evaluate = evaluate_colorization if args.what == "colorize" else partial(evaluate_inpainting, seed=args.seed)
    faces = read_faces(args.faces, args.manifest, restorer.face_size)
    evaluation = evaluate(
        restorer,
        faces,
        _metrics(args),
        count=args.count,
        samples=args.pictures,
        batch_size=args.batch_size,
        on_progress=shown_on(console),
    )
    facts = {
        "network": f"{args.file} ({task}, {restorer.face_size} pixels)",
        "faces": f"{evaluation.means[0].faces} of {args.faces}",
        "seed": str(args.seed),
        "device": f"{restorer.device}, {time.monotonic() - started:.0f} s",
    }
    evaluation = _with_people(evaluation, faces, listed, args.count)
    _finish(args, console, evaluation, f"Evaluation of {Path(args.file).name}", facts)
    return OK


def _listed_groups(args: argparse.Namespace) -> Mapping[str, tuple[str, ...]] | None:
    from ..training.evaluation.people import read_groups

    return None if args.groups is None else read_groups(args.groups)


def _with_people(
    evaluation: Evaluation, faces: FaceSource, listed: Mapping[str, tuple[str, ...]] | None, count: int | None
) -> Evaluation:
    from ..training.evaluation.people import by_skin_tone, means_of_people

    groups = by_skin_tone(faces, count) if listed is None else listed
    return replace(evaluation, people=means_of_people(evaluation, groups))


def _own_degradations(source: str) -> Mapping[str, Degradation]:
    """Those that the configuration of a run's folder brings along."""
    from ..training.config import read_config

    path = Path(source) / "config.json"
    return read_config(str(path)).degradations if path.is_file() else {}


def _metrics(args: argparse.Namespace) -> Metrics:
    from ..models.loading import load_detector
    from ..training.evaluation.choose import MetricFiles, choose_metrics
    from .tools import choose_device

    chosen = choose_device(args.device)
    files = MetricFiles(
        lpips_backbone=args.lpips_backbone,
        inception=args.inception,
        fid_reference=args.fid_reference,
        niqe_parameters=args.niqe_parameters,
        identity=args.identity,
    )
    detector = None if args.detector == _NO_DETECTOR else load_detector(args.detector, chosen)
    return choose_metrics(files, chosen, detector)


def _finish(
    args: argparse.Namespace, console: Console, evaluation: Evaluation, title: str, facts: dict[str, str]
) -> None:
    from ..training.evaluation.people import much_worse
    from ..training.evaluation.report import write_report
    from ..training.evaluation.tables import summary_lines

    paths = write_report(evaluation, args.output, title, facts)
    for line in summary_lines(evaluation):
        console.line(line)
    for line in much_worse(evaluation):
        console.line(line)
    for metric in evaluation.skipped:
        console.line(f"{metric.name} {metric.reason}")
    console.line(f"{', '.join(path.name for path in paths)} in {args.output}")
