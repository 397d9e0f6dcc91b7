"""`python -m codeformer_core video`: the faces in a video; `video faces`: who is in it."""

from __future__ import annotations

import argparse
import json
import logging
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from ..pipeline.options import MASKS_BY_PARSER, MaskKind, RestoreOptions
from ..pipeline.video.options import VideoFaces, VideoOptions
from .batch import add_dtype, add_faces
from .console import Console
from .errors import OK, UsageError
from .pasting import add_pasting, paste_options
from .person import add_person, check_person
from .reports import add_language, lines_of
from .values import add_option, device, duration, number

if TYPE_CHECKING:
    from ..pipeline.video.window import Choose
    from .tools import CommandModels

_PACKAGE = __package__.partition(".")[0] if __package__ else "codeformer_core"
_FACES = "faces"
_RESUME = "--resume continues it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give `parser` its arguments; `run` takes what it parsed."""
    parser.usage = "%(prog)s [faces] VIDEO -o OUT [options]"
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="VIDEO",
        help="the video; with the word faces before it, nothing is restored: OUT becomes a list of who is in it "
        "(JSON), and a picture of them lies beside it",
    )
    parser.add_argument(
        "-o", "--output", required=True, type=Path, metavar="OUT", help="the new video (.mp4, .mkv, ...)"
    )
    add_option(
        parser,
        RestoreOptions,
        "fidelity",
        "-w",
        "--fidelity",
        default=None,
        help="0: prettiest, 1: closest to the input (default: what the model recommends, or 0.5)",
    )
    parser.add_argument(
        "--model",
        default="auto",
        metavar="NAME|FILE",
        help="auto (default: the best that is installed), a name that `weights list` shows, or a file",
    )
    _add_steadiness(parser)
    _add_choice(parser)
    _add_part(parser)
    add_faces(parser, masks=get_args(MaskKind))
    add_pasting(parser)
    _add_writing(parser)
    parser.add_argument("--download", action="store_true", help="fetch models that are missing")
    parser.add_argument("--device", type=device, default="auto", help="auto (default), cpu, cuda, cuda:N or mps")
    add_dtype(parser)
    add_language(parser)


def _add_steadiness(parser: argparse.ArgumentParser) -> None:
    steady = parser.add_argument_group("steadiness")
    add_option(
        steady,
        VideoOptions,
        "smoothing",
        "--smoothing",
        help="full (default): steady paths, and faces averaged over neighbouring frames; alignment: only the paths; "
        "off",
    )
    add_option(
        steady,
        VideoOptions,
        "look_ahead",
        "--look-ahead",
        metavar="FRAMES",
        help="frames seen before one is decided (default 12); fewer need less memory and are less steady",
    )
    add_option(
        steady,
        RestoreOptions,
        "detail",
        "--detail",
        default=0.0,
        help="how much of a frame's own texture comes back, 0..1 (default 0: it flickers with the noise)",
    )
    add_option(
        steady,
        RestoreOptions,
        "when_worse",
        "--when-worse",
        help="a person whose face would come out softer, or as another person: fade (default), leave, paste",
    )


def _add_choice(parser: argparse.ArgumentParser) -> None:
    whose = add_person(parser)
    whose.add_argument(
        "--faces",
        default="all",
        metavar="WHOSE",
        help="all (default); largest: in each scene the person with the largest face; FILE.json#1,3: these persons of "
        "a list that `video faces` has made",
    )


def _add_part(parser: argparse.ArgumentParser) -> None:
    part = parser.add_argument_group("part", "times as seconds, m:ss or h:mm:ss")
    part.add_argument("--start", type=_seconds, default=0.0, metavar="TIME", help="where the result begins")
    part.add_argument("--end", type=_seconds, default=None, metavar="TIME", help="where it ends")


def _add_writing(parser: argparse.ArgumentParser) -> None:
    writing = parser.add_argument_group("writing")
    writing.add_argument(
        "--encoder",
        default="auto",
        metavar="NAME",
        help="auto (default: the source's own kind), or one of FFmpeg's: libx264, libx265, h264_nvenc, ffv1, ...",
    )
    add_option(
        writing,
        VideoOptions,
        "quality",
        "--quality",
        help="constant rate factor of the encoder: lower is better and larger (default: 16 for H.264, alike for "
        "others)",
    )
    writing.add_argument("--compare", action="store_true", help="write before and after side by side")
    writing.add_argument("--resume", action="store_true", help="continue a run that was stopped")
    writing.add_argument("--overwrite", action="store_true", help="replace a result that exists")
    writing.add_argument("--strict", action="store_true", help="frames that can't be decoded are an error")
    writing.add_argument("--report", type=Path, metavar="FILE", help="write what was done as JSON")


def run(args: argparse.Namespace) -> int:
    """Carry out what `add_arguments` parsed; returns the exit code."""
    survey = len(args.inputs) > 1 and args.inputs[0] == _FACES
    inputs = args.inputs[1:] if survey else args.inputs
    if len(inputs) != 1:
        raise UsageError(f"one video at a time, and {len(inputs)} are named: restore each with a command of its own")
    check_person(args)
    if args.regions and args.mask != "auto":
        raise UsageError("--regions takes the place of --mask: leave one of them out")
    if args.start and args.end is not None and args.end <= args.start:
        raise UsageError(f"--end {args.end:g} s lies before --start {args.start:g} s")
    console = Console(sys.stdout, sys.stderr)
    with console.showing_logs(logging.getLogger(_PACKAGE)):
        return _list_faces(args, Path(inputs[0]), console) if survey else _restore(args, Path(inputs[0]), console)


def _restore(args: argparse.Namespace, source: Path, console: Console) -> int:
    # Here and not above: --help need not wait for torch.
    from ..pipeline.video.job import VideoJob, check_job
    from ..pipeline.video.restore_video import run_job

    if args.report is not None and args.report.exists() and not args.overwrite:
        raise UsageError(f"{args.report}: exists already; --overwrite replaces it")
    job = VideoJob(
        source=source,
        target=args.output,
        start=args.start,
        end=args.end,
        encoder=args.encoder,
        overwrite=args.overwrite,
        resume=args.resume,
        compare=args.compare,
        strict=args.strict,
    )
    named = _named_faces(args.faces)
    largest: VideoFaces = "largest" if args.faces == "largest" else "all"
    video = VideoOptions(
        smoothing=args.smoothing, faces=largest, look_ahead=round(args.look_ahead), quality=args.quality
    )
    options = _options(args, "face")
    # Everything that the video alone tells is said before models are loaded.
    info, _ = check_job(job, options, video)
    models = _load(args, console)
    options = _options(args, models.mask)
    choose = _choose(named, models, info)
    progress = Progress(console)
    try:
        report = run_job(job, _as_models(models), options, video, choose, progress.show)
    except KeyboardInterrupt:
        console.complain(f"note: what is done lies in {job.target}.parts; the same command with {_RESUME}")
        raise
    except OSError as error:
        if error.errno == 28:
            console.complain(f"note: what is done lies in {job.target}.parts; with room on the disk, {_RESUME}")
        raise
    console.clear()
    lines = lines_of(report, args)
    console.line(f"{source} -> {job.target}: {lines[0]} ({progress.seconds:.1f} s)")
    for line in lines[1:]:
        console.line(f"  {line}")
    if args.report is not None:
        _write_json(args.report, {**report.as_record(), "seconds": round(progress.seconds, 1)})
    return OK


def _list_faces(args: argparse.Namespace, source: Path, console: Console) -> int:
    from ..imaging.files import Picture, write_image
    from ..pipeline.video.contact_sheet import contact_sheet
    from ..pipeline.video.people import survey

    target: Path = args.output
    if target.suffix.lower() != ".json":
        raise UsageError(f"-o {target}: the list of faces is a JSON file; name one that ends in .json")
    sheet = target.with_suffix(".png")
    for path in (target, sheet):
        if path.exists() and not args.overwrite:
            raise UsageError(f"{path}: exists already; --overwrite replaces it, or name another file")
    models = _load(args, console)
    progress = Progress(console)
    found = survey(source, models.bundle.detector, _options(args, "face"), args.start, args.end, progress.show)
    console.clear()
    _write_json(target, found.as_record())
    if found.people:
        write_image(sheet, Picture(contact_sheet(found)), overwrite=args.overwrite)
    for person in found.people:
        first, last = person.tracks[0].first, person.tracks[-1].last
        times = " to ".join(f"{float(frame / found.info.rate):.1f} s" for frame in (first, last))
        console.line(f"{person.number}: {person.frames} of {found.frames} frames, {times}")
    where = f"; who is who: {sheet}; --faces '{target}#1' restores the first" if found.people else ""
    console.line(f"{source} -> {target}: {len(found.people)} persons ({progress.seconds:.1f} s){where}")
    return OK


def _load(args: argparse.Namespace, console: Console) -> CommandModels:
    from .tools import load_models

    args.aligned = False
    models = load_models(args, "restoration", console)
    for note in models.notes:
        console.complain(f"note: {note}")
    return models


def _as_models(models: CommandModels) -> Any:
    from ..pipeline.restore import Models

    bundle = models.bundle
    parser = bundle.parser if models.mask in MASKS_BY_PARSER else None
    return Models(bundle.restorer, bundle.detector, parser, bundle.landmark_detector)


def _options(args: argparse.Namespace, mask: Any) -> RestoreOptions:
    return RestoreOptions(
        fidelity=args.fidelity,
        confidence=args.confidence,
        min_face_size=args.smallest_face,
        detail=args.detail,
        when_worse=args.when_worse,
        paste=paste_options(args, mask),
    )


def _named_faces(text: str) -> tuple[Path, tuple[int, ...]] | None:
    """The file and the numbers of --faces. Raises UsageError."""
    if text in get_args(VideoFaces):
        return None
    file, mark, numbers = text.rpartition("#")
    if not mark or re.fullmatch(r"\d+(,\d+)*", numbers, re.ASCII) is None:
        raise UsageError(
            f"--faces {text}: expected all, largest, or a list of `video faces` with numbers, as people.json#1,3; "
            "--person PHOTO restores a person by a photo"
        )
    return Path(file), tuple(map(int, numbers.split(",")))


def _choose(named: tuple[Path, tuple[int, ...]] | None, models: CommandModels, info: Any) -> Choose | None:
    from ..pipeline.video.people import choose_numbers, choose_person

    rules: list[Choose] = []
    if named is not None:
        rules.append(choose_numbers(*named, info))
    if models.person is not None:
        rules.append(choose_person(models.person))
    if not rules:
        return None
    return lambda track: all(rule(track) for rule in rules)


class Progress:
    """The bar of a video: frames, frames per second, and the time that is left, an estimate."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.started = self.started_at = time.monotonic()
        self.first: int | None = None

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def show(self, stage: str, done: int, total: int) -> None:
        if self.first is None:
            # The first frame comes late, when its look-ahead is there.
            self.first, self.started_at = done, time.monotonic()
        elapsed = time.monotonic() - self.started_at
        rate = (done - self.first) / elapsed if elapsed > 0 else 0.0
        left = f", about {duration((total - done) / rate)} left" if rate > 0 else ""
        self.console.progress(done / max(total, 1), f"{stage}: frame {done} of {total}, {rate:.1f} fps{left}")


def _seconds(text: str) -> float:
    """A converter for argparse: 90, 1:30 or 0:01:30.5."""
    parts = text.split(":")
    try:
        if not 1 <= len(parts) <= 3:
            raise ValueError
        values = [float(part) for part in parts]
        if any(value < 0 for value in values):
            raise ValueError
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected seconds, m:ss or h:mm:ss, got {text!r}") from None
    return number(0)(str(sum(value * 60**power for power, value in enumerate(reversed(values)))))


def _write_json(path: Path, record: Any) -> None:
    from ..runtime.atomic import write_whole

    write_whole(path, (json.dumps(record, indent=1) + "\n").encode())
