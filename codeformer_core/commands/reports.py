"""Reports on the command line: in which language, and which options help with what they say."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable
from typing import get_args

from ..faces.events import Event
from ..pipeline.report import HasEvents, Language, report_lines
from ..pipeline.report_texts import LANGUAGES

# Kind of event -> what to do about it here.
CURES: dict[Language, dict[str, str]] = {
    "en": {"no_white_pixel": "--holes takes a mask"},
    "zh": {"no_white_pixel": "--holes 可指定遮罩"},
}


def add_language(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--language",
        choices=get_args(Language),
        help="of the reports (default: the system's, English where that is another)",
    )


def language_of(args: argparse.Namespace) -> Language:
    """What was asked for, else the language of the system's messages."""
    if args.language:
        return args.language
    names = (os.environ.get(name) for name in ("LC_ALL", "LC_MESSAGES", "LANG"))
    return "zh" if next(filter(None, names), "").lower().startswith("zh") else "en"


def lines_of(result: HasEvents | Iterable[Event], args: argparse.Namespace) -> list[str]:
    language = language_of(args)
    return report_lines(result, language, CURES[language])


def in_one_line(result: HasEvents | Iterable[Event], args: argparse.Namespace) -> str:
    """For one image of many, without what is said once for all of them."""
    events = result if isinstance(result, Iterable) else result.events
    of_this = [event for event in events if event.kind not in ("no_fidelity", "task_assumed")]
    return LANGUAGES[language_of(args)].and_then.join(line.strip() for line in lines_of(of_this, args))
