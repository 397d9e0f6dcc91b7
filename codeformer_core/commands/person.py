"""Whose faces a command works on, by photos of a person."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import UsageError
from .values import HasArguments, number

if TYPE_CHECKING:
    from ..faces.detection import FaceDetector
    from ..pipeline.person import Person

# Their values when they aren't given.
DEFAULTS: dict[str, object] = {"person": [], "not_person": [], "person_distance": 0.6}


def add_person(parser: argparse.ArgumentParser) -> HasArguments:
    """Give `parser` the arguments; `load_chosen_person` makes one value of them. Returns their group."""
    whose = parser.add_argument_group("person", "whose faces are restored, by photos of a person")
    whose.add_argument(
        "--person", type=Path, nargs="+", default=[], metavar="PHOTO", help="only theirs; a photo's largest face counts"
    )
    whose.add_argument("--not-person", type=Path, nargs="+", default=[], metavar="PHOTO", help="all but theirs")
    whose.add_argument(
        "--person-distance",
        type=number(0.05, 2.0),
        default=0.6,
        metavar="NUMBER",
        help="up to which a face is the person's; lower is stricter (default 0.6, as usual)",
    )
    return whose


def check_person(args: argparse.Namespace) -> None:
    """Raise UsageError for options that contradict each other."""
    if args.person and args.not_person:
        raise UsageError("--person and --not-person contradict each other: leave one of them out")


def load_chosen_person(args: argparse.Namespace, detector: FaceDetector) -> Person | None:
    """The person of the arguments, None where there is none. Raises OSError and ValueError naming the file."""
    photos = [*getattr(args, "person", ()), *getattr(args, "not_person", ())]
    if not photos:
        return None
    # Here and not above: --help need not wait for torch.
    from ..imaging.files import read_image
    from ..pipeline.person import load_person

    references = [read_image(path).image_HWC[None] for path in photos]
    return load_person(
        references,
        detector=detector,
        excluded=bool(args.not_person),
        max_distance=args.person_distance,
        names=list(map(str, photos)),
    )
